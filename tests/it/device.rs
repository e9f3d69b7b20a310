//! Devices: how they are named and told of, the wgpu device against the CPU, and what happens when
//! one has no memory.
//!
//! A software adapter stands for a card where one is installed (Mesa's llvmpipe through OpenGL). It
//! proves that the operations are right there, and nothing about speed.

use std::io::Write;
use std::process::Command;

use crate::common::{
    Expected, Run, adamw, assert_near, case, cpu, row, says, step_settings, weights_digest,
    without_progress,
};
use burn::tensor::Device;
use firebrand::adapters;
use firebrand::adapters::LoraSettings;
use firebrand::device::ComputeConfig;
use firebrand::engine::{Trainer, upload};
use firebrand::model::{Init, Model, load_for};
use firebrand::ops::{self, host};
use firebrand::random::Stream;
use serde_json::Value;
use snapbox::str;

fn model(device: &Device, computing: ComputeConfig) -> Model {
    let directory = case("gqa-tied");
    let mut model = load_for(&directory, Init::Pretrained, device, computing, true).unwrap().model;
    // Rows of the embedding, which is the head as well, learn beside the layers.
    let settings = LoraSettings::new(4, 8.0).with_tokens(vec![90, 7, 53]);
    let adapter = adapters::Lora { settings };
    adapters::attach(&mut model, &adapter, Stream::new(1)).unwrap();
    model
}

fn trainer(device: &Device, computing: ComputeConfig) -> Trainer {
    Trainer::new(model(device, computing), step_settings(1e-2), adamw())
}

/// Logits of the reference batch at positions that are no padding.
fn logits(device: &Device, computing: ComputeConfig) -> Vec<f32> {
    let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
    let model = model(device, computing);
    let (tokens, context) = upload(&model, &batch);
    let logits = host(model.logits(model.hidden(tokens, &context)));
    let rows = logits.chunks_exact(96).zip(&batch.documents);
    rows.filter(|(_, document)| **document > 0).flat_map(|(row, _)| row.to_vec()).collect()
}

fn say(what: &str) {
    // Past the harness, which keeps what passing tests say to itself.
    let _ = writeln!(std::io::stderr(), "{what}");
}

#[cfg(feature = "gpu")]
mod software {
    use burn::tensor::Tensor;
    use firebrand::config::DeviceChoice;
    use firebrand::data::{Batch, Target};
    use firebrand::device::{self, DeviceLimits, Failure, OpenedDevice, attempt, count_launches};
    use firebrand::engine::StateStore;
    use firebrand::engine::optimizers::Kept;
    use firebrand::engine::parity::parity;
    use firebrand::model::FrozenWeights;
    use firebrand::weights::formats;

    use super::*;

    /// Sums are made in another order there.
    const LIMIT: f64 = 1e-4;

    fn adapter() -> Option<OpenedDevice> {
        match device::open(DeviceChoice::Software, 0) {
            Ok(opened) => Some(opened),
            Err(error) => {
                say(&format!("SKIPPED: wgpu is not tested, {}", error.what));
                None
            }
        }
    }

    #[test]
    fn every_operation_and_a_lora_step_are_those_of_the_cpu() {
        let Some(opened) = adapter() else { return };
        let mut stages = Vec::new();
        let mut at = |what: &str| {
            stages.push(what.to_owned());
            Ok(())
        };
        let found = parity(&opened, &mut at).unwrap();
        let mut compared: Vec<&String> = found.lines.iter().map(|line| &line.operation).collect();
        compared.dedup();
        assert_eq!(stages.iter().collect::<Vec<_>>(), compared, "each is said before it begins");
        assert!(found.lines.len() > 40, "{} lines", found.lines.len());
        assert!(found.wrong().is_empty(), "{:#?}", found.wrong());
        if !opened.f16 {
            say("SKIPPED: the software adapter has no 16-bit floats, they are tested on the CPU");
        }
    }

    #[test]
    fn logits_and_ten_steps_are_those_of_the_cpu() {
        let Some(opened) = adapter() else { return };
        let plain = ComputeConfig::default();
        let device = &opened.device;
        assert_near("logits", &logits(device, plain), &logits(&cpu(), plain), LIMIT);
        let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
        let (mut there, mut here) = (trainer(device, plain), trainer(&cpu(), plain));
        for step in 1..=10 {
            let (ours, timing) = there.step(std::slice::from_ref(&batch), 0.0).unwrap();
            let (reference, _) = here.step(std::slice::from_ref(&batch), 0.0).unwrap();
            for (what, a, b) in [
                ("loss", ours.loss, reference.loss),
                ("gradient norm", ours.grad_norm, reference.grad_norm),
            ] {
                assert!((a / b - 1.0).abs() < 2e-3, "{what} of step {step}: {a} there, {b} here");
            }
            assert!(timing.device_bytes_in_use.is_some_and(|bytes| bytes > 0));
            assert!(timing.device_bytes_reserved >= timing.device_bytes_in_use);
        }
    }

    /// What is brought to the device for an update is what was kept there.
    #[test]
    fn state_of_the_optimizer_elsewhere_changes_no_bit() {
        let Some(opened) = adapter() else { return };
        let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
        let folder = tempfile::tempdir().unwrap();
        let disk = StateStore::on_disk(folder.path(), 0).unwrap();
        let [here, host, disk] = [None, Some(StateStore::Host), Some(disk)].map(|store| {
            let elsewhere = store.is_some();
            let mut there = trainer(&opened.device, ComputeConfig::default());
            if let Some(store) = store {
                there.optimizer.offload_to(store);
            }
            let mut step = || there.step(std::slice::from_ref(&batch), 0.0).unwrap().0;
            let steps = [(); 4].map(|()| step());
            let kept = there.optimizer.by_path().values().flatten();
            assert!(kept.clone().count() > 0);
            for kept in kept {
                assert_eq!(matches!(kept, Kept::Stored(_)), elsewhere);
            }
            steps.map(|report| (report.loss.to_bits(), report.grad_norm.to_bits()))
        });
        assert_eq!(host, here);
        assert_eq!(disk, here);
    }

    /// A model whose linear layers are in a format, with an adapter beside all of them.
    fn in_format(format: Option<&str>, device: &Device) -> Trainer {
        let frozen =
            FrozenWeights { linears: format.and_then(formats::named), ..FrozenWeights::from(true) };
        let (case, computing) = (case("gqa-tied"), ComputeConfig::default());
        let loaded = load_for(&case, Init::Pretrained, device, computing, frozen).unwrap();
        let (mut model, settings) = (loaded.model, LoraSettings::new(4, 8.0));
        adapters::attach(&mut model, &adapters::Lora { settings }, Stream::new(1)).unwrap();
        Trainer::new(model, step_settings(1e-2), adamw())
    }

    /// Forward and for the gradient of its input, each product of frozen matrices launches one
    /// kernel more if they are codes, and nothing else changes: of each layer there are four.
    #[test]
    fn codes_are_dequantised_once_for_each_product() {
        const LAYERS: i64 = 2;
        let Some(opened) = adapter() else { return };
        let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
        let counted = |format: Option<&str>| {
            let mut there = in_format(format, &opened.device);
            let mut here = in_format(format, &cpu());
            let mut step = || there.step(std::slice::from_ref(&batch), 0.0).unwrap().0;
            let first = step();
            // State of the optimizer is made in the first step.
            let (second, launches) = count_launches(step);
            for ours in [first, second] {
                let (reference, _) = here.step(std::slice::from_ref(&batch), 0.0).unwrap();
                for (what, a, b) in [
                    ("loss", ours.loss, reference.loss),
                    ("gradient norm", ours.grad_norm, reference.grad_norm),
                ] {
                    assert!((a / b - 1.0).abs() < 2e-3, "{format:?}, {what}: {a} there, {b} here");
                }
            }
            launches
        };
        let plain = counted(None);
        assert_eq!(plain.of("Dequantise"), 0);
        for format in ["int8", "nf4"] {
            let more = counted(Some(format)).without(&plain);
            assert_eq!(more.sorted(), [("Dequantise", LAYERS * 4 * 2)], "{format}");
        }
    }

    /// A row with so many tokens, of which the last ones but one are trained on.
    fn row_of(length: u32) -> Batch {
        let target = |index| Target { index, token: index % 89 + 1 };
        Batch {
            rows: 1,
            length: length as usize,
            tokens: (0..length).map(|at| at * 7 % 89 + 1).collect(),
            positions: (0..length).collect(),
            documents: vec![1; length as usize],
            targets: (length - 33..length - 1).map(target).collect(),
            ..Batch::default()
        }
    }

    /// Attention keeps no scores of a row that is longer than 2048 tokens, learns there what it
    /// learns on the CPU, and launches what it launches for a short row with as many targets.
    #[test]
    fn long_rows_take_the_launches_of_short_ones() {
        let Some(opened) = adapter() else { return };
        let (mut there, mut here) = (in_format(None, &opened.device), in_format(None, &cpu()));
        let mut counted = Vec::new();
        // State of the optimizer is made in the first step.
        for length in [64, 2112, 64, 2112] {
            let batch = [row_of(length)];
            let ((ours, _), launches) = count_launches(|| there.step(&batch, 0.0).unwrap());
            let (reference, _) = here.step(&batch, 0.0).unwrap();
            for (what, a, b) in [
                ("loss", ours.loss, reference.loss),
                ("gradient norm", ours.grad_norm, reference.grad_norm),
            ] {
                assert!((a / b - 1.0).abs() < 2e-3, "{length}, {what}: {a} there, {b} here");
            }
            counted.push(launches);
        }
        assert_eq!(counted[3].of("FusedAttention"), 2, "one of each layer");
        assert_eq!(counted[3].without(&counted[2]).sorted(), []);
    }

    #[test]
    fn small_limits_change_nothing_but_rounding() {
        let Some(opened) = adapter() else { return };
        // The embedding in two pieces, attention and projections in many.
        let limits = DeviceLimits { tensor_bytes: 8192, dispatch_flops: 80_000 };
        let small = ComputeConfig { limits, ..ComputeConfig::default() };
        let ours = logits(&opened.device, small);
        assert_near("logits", &ours, &logits(&cpu(), ComputeConfig::default()), LIMIT);
        let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
        let mut there = trainer(&opened.device, small);
        let mut here = trainer(&cpu(), ComputeConfig::default());
        for _ in 0..2 {
            let (ours, _) = there.step(std::slice::from_ref(&batch), 0.0).unwrap();
            let (reference, _) = here.step(std::slice::from_ref(&batch), 0.0).unwrap();
            assert!((ours.loss / reference.loss - 1.0).abs() < 1e-4);
            assert!((ours.grad_norm / reference.grad_norm - 1.0).abs() < 1e-3);
        }
    }

    /// As a run makes them: sizes filled up, numbers read when the next step was begun.
    #[test]
    fn steps_that_are_not_waited_for_are_those_of_the_cpu() {
        let Some(opened) = adapter() else { return };
        let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
        let mut there = trainer(&opened.device, opened.computing());
        let mut here = trainer(&cpu(), ComputeConfig::default());
        let sizes = there.new_sizes([&batch, &row(&batch, 1)]);
        assert_eq!(sizes.len(), 2, "rows are not filled up where their number is not said");
        assert!(sizes.iter().all(|size| size.length == 64));
        there.warm_up(sizes).unwrap();
        let mut under_way: Option<firebrand::engine::InFlight> = None;
        let (mut reports, mut wanted) = (Vec::new(), Vec::new());
        for step in 0..6 {
            let batch = if step % 2 == 0 { batch.clone() } else { row(&batch, 1) };
            let batch = std::slice::from_ref(&batch);
            let begun = there.begin(batch, 0.0, true).unwrap();
            assert!(begun.waits());
            reports.extend(under_way.replace(begun).map(|step| step.finish().unwrap().0));
            let (reference, _) = here.step(batch, 0.0).unwrap();
            wanted.push(reference);
        }
        reports.extend(under_way.map(|step| step.finish().unwrap().0));
        assert_eq!(reports.len(), 6);
        for (ours, wanted) in reports.iter().zip(&wanted) {
            assert_eq!(ours.step, wanted.step);
            assert_eq!((ours.tokens, ours.target_tokens), (wanted.tokens, wanted.target_tokens));
            let step = ours.step;
            for (what, a, b) in [
                ("loss", ours.loss, wanted.loss),
                ("gradient norm", ours.grad_norm, wanted.grad_norm),
            ] {
                assert!((a / b - 1.0).abs() < 2e-3, "{what} of step {step}: {a} there, {b} here");
            }
        }
    }

    /// What a device cannot begin is known without waiting for it.
    #[test]
    fn want_of_memory_is_known_before_anything_is_read() {
        let Some(opened) = adapter() else { return };
        let size = opened.limits.tensor_bytes as usize; // four times too large
        let told = attempt(true, || {
            let large = Tensor::<1>::zeros([size], &opened.device).add_scalar(1.0);
            ops::begun(&large.sum())
        });
        let failure = match told {
            Ok(told) => Failure::of(&told.unwrap_err()),
            Err(failure) => failure,
        };
        assert!(matches!(failure, Failure::Memory(_)), "{failure:?}");
        let works = Tensor::<1>::ones([3], &opened.device).mul_scalar(2.0);
        ops::begun(&works).unwrap();
        assert_eq!(host(works), [2.0; 3]);
    }

    /// Files that the driver keeps kernels in.
    fn kept(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let count = |entry: std::fs::DirEntry| match entry.path() {
            path if path.is_dir() => kept(&path),
            _ => 1,
        };
        entries.map(count).sum()
    }

    #[test]
    fn kernels_are_kept_beside_a_run_and_serve_other_lengths() {
        if adapter().is_none() {
            return;
        }
        let run = Run::new().with_base();
        let train = |pinned: bool, length: &str, more: &[&str]| {
            let mut all = vec!["train", "lora.toml"];
            let (length, pin) =
                (format!("data.max_seq_len={length}"), format!("device.pin_kernels={pinned}"));
            for setting in ["device.name=software", "eval.prompts=[]", "train.max_steps=2"] {
                all.extend(["--set", setting]);
            }
            all.extend(["--set", &length, "--set", &pin]);
            all.extend(more);
            let mut command = run.command(&all);
            command = command.env_remove("MESA_SHADER_CACHE_DIR");
            let output = command.output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success(), "{stderr}");
            stderr
        };
        let (pinned, usual) = (run.path("checkpoints/lora/kernels"), run.path("cache/kernels"));
        let said = train(true, "100", &["--stop-after-steps", "1"]);
        let begins = ["compiling kernels", "stopped after", "kernels "];
        let lines = said.lines().map(str::trim_start);
        let lines = lines.filter(|line| begins.iter().any(|begin| line.starts_with(begin)));
        says(
            lines.collect::<Vec<_>>().join("\n"),
            str![[r#"
kernels  kept in [FOLDER]/checkpoints/lora/kernels (drivers of Mesa and NVIDIA)
compiling kernels for 1 shape: 2 rows of 128 tokens
compiling kernels for 1 shape: 2 rows of 128 tokens took [TIME]
stopped after step 1 of 2; the same command continues
"#]],
        );
        let first = kept(&pinned);
        assert!(first > 20 && kept(&usual) == 0, "{first} kept");
        // The run goes on with them, and another length of the same size needs no others.
        train(true, "100", &[]);
        let first = {
            let all = kept(&pinned); // with those that measure the effect of what was trained
            assert!(all >= first && all < first + 30, "{all} after {first}");
            all
        };
        train(true, "120", &["--resume", "never"]);
        assert_eq!(kept(&pinned), first, "the same size, the same kernels");
        train(false, "120", &["--resume", "never"]);
        assert!(kept(&usual) > 20 && kept(&pinned) == first, "in the cache folder by default");
    }

    /// What the driver itself says when it cannot allocate is understood, and leaves the device
    /// usable.
    #[test]
    fn want_of_memory_on_a_device_is_understood() {
        let Some(opened) = adapter() else { return };
        let device = opened.device.clone();
        let size = opened.limits.tensor_bytes as usize; // four times too large
        let failed = attempt(true, || {
            host(Tensor::<1>::zeros([size], &device).add_scalar(1.0).narrow(0, 0, 4))
        });
        assert!(matches!(failed, Err(Failure::Memory(_))), "{failed:?}");
        let works = attempt(true, || host(Tensor::<1>::ones([3], &device).mul_scalar(2.0)));
        assert_eq!(works.unwrap(), [2.0; 3]);
    }

    #[test]
    fn a_run_that_stopped_goes_on_there() {
        if adapter().is_none() {
            return;
        }
        let run = Run::new().with_base();
        let train = |name: &str, more: &[&str]| {
            let name = format!("name={name}");
            let set = ["train", "lora.toml", "--quiet", "--set", &name];
            let device = ["--set", "device.name=software"];
            run.succeeds(&[&set[..], &device, more].concat())
        };
        train("straight", &[]);
        let stopped = train("stopped", &["--stop-after-steps", "2"]);
        assert!(stopped.contains("\"resumable\":true,\"step\":2,"), "{stopped}");
        let steps = metrics(&run, "stopped").len();
        assert_eq!(steps, 2, "what is saved has all of its lines, and no step was begun after it");
        // Another device does not go on from there unasked, and says why.
        let refused = run.fails(2, &["train", "lora.toml", "--set", "name=stopped"]);
        says(
            without_progress(&refused),
            str![[r#"
error[run-changed]: cannot resume: the run is not what it was at the checkpoint
  at checkpoints/stopped/step-00000002
  because `device.name` was `software` and is `cpu`
  because the device was wgpu gl [..] and is flex [..]

hint: undo the change, or start a new run with another `name` or `output.dir`

hint: `--allow-device-change` continues anyway, and the lineage records it

"#]],
        );
        train("stopped", &[]);
        let lines = |name: &str| run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        assert_eq!(lines("straight"), lines("stopped"));
        let numbers = metrics(&run, "straight").into_iter().map(|line| line["step"].as_u64());
        assert_eq!(numbers.collect::<Vec<_>>(), [1, 2, 3, 4, 5].map(Some));
        let digest =
            |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
        assert_eq!(digest("straight"), digest("stopped"), "the bytes of one that never stopped");
        let inputs: Value =
            serde_json::from_str(&run.read("checkpoints/straight/artifact/lineage.inputs.json"))
                .unwrap();
        let device = &inputs["internalParameters"]["device"];
        assert_eq!((&device["api"], &device["precision"]), (&"gl".into(), &"f32".into()));
    }

    /// As the runtime counts tensors and pages, after each step. CubeCL keeps the parameters of up to
    /// 512 launches, each of some dozens of bytes, of which those of an update are new in every step.
    #[test]
    fn a_hundred_and_twenty_steps_take_no_more_memory_than_forty() {
        if adapter().is_none() {
            return;
        }
        let run = Run::new().with_base();
        let mut all = vec!["train", "lora.toml", "--quiet"];
        for setting in [
            "device.name=software",
            "eval.prompts=[]",
            "lora.lora_dropout=0.0",
            "train.max_steps=120",
            "checkpoint.every_steps=1000",
        ] {
            all.extend(["--set", setting]);
        }
        run.succeeds(&all);
        let timings = run.read("checkpoints/lora/timings.jsonl");
        let steps: Vec<Value> =
            timings.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(steps.len(), 120);
        for counter in ["device_bytes_in_use", "device_bytes_reserved"] {
            let held: Vec<u64> = steps.iter().map(|step| step[counter].as_u64().unwrap()).collect();
            let most = |from: usize| held[from..from + 40].iter().max().copied().unwrap();
            // Steps are of several sizes, of which each comes in forty.
            let (early, late) = (most(0), most(80));
            let most = early + early / 100 + 512 * 128;
            assert!(late <= most, "{counter}: {early} early, {late} late");
        }
    }
}

#[test]
fn what_a_machine_lacks_is_one_sentence_and_exit_code_2() {
    let run = Run::new();
    for name in ["gpu:99", "vulkan:99", "metal:99", "dx12:99", "gl:99"] {
        let set = format!("device.name={name}");
        let stderr = run.fails(2, &["train", "tiny.toml", "--set", &set]);
        let errors = stderr.lines().filter(|line| line.starts_with("error["));
        let errors: Vec<_> = errors.map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(errors, ["error[device]"], "{name}: {stderr}");
        assert!(!run.path("checkpoints/tiny/config.toml").exists(), "nothing was begun");
    }
    run.fails_with(
        2,
        &["generate", "base", "-p", "x", "--device", "tpu"],
        str![[r#"
error[device]: there is no device `tpu`

hint: there are `auto`, `cpu`, `gpu`, `vulkan`, `metal`, `dx12`, `gl`, `software`

"#]],
    );
}

#[test]
fn devices_are_listed_with_what_auto_takes() {
    let run = Run::new();
    run.command(&["devices"]).assert().success().stderr_eq("").stdout_eq(str![[r#"
cpu: [..] threads[..]
...
auto takes [..]: [..]

"#]]);
    let list: Value = serde_json::from_str(&run.succeeds(&["devices", "--json"])).unwrap();
    let auto = list["auto"].as_str().unwrap();
    for adapter in list["adapters"].as_array().unwrap() {
        for key in ["device_name", "name", "kind", "driver", "driver_info", "limits", "f16"] {
            assert!(!adapter[key].is_null(), "{key} of {adapter}");
        }
        assert!(adapter["limits"]["binding_bytes"].as_u64().unwrap() > 1 << 20);
        if adapter["kind"] == "software" {
            assert_ne!(adapter["device_name"], auto, "never a software rasteriser");
        }
    }
    let shown = run.succeeds(&["devices"]);
    let blocks = shown.lines().filter(|line| line.contains("  driver  ")).count();
    assert_eq!(blocks, list["adapters"].as_array().unwrap().len(), "{shown}");
}

#[test]
fn doctor_tells_what_a_report_needs_and_leaves_nothing() {
    let run = Run::new();
    run.command(&["doctor", "--device", "cpu"]).assert().success().stderr_eq("").stdout_eq(str![[
        r#"
firebrand [..] (burn [..], cubecl [..], wgpu [..]) on [..]
processor   [..], [..] threads, [..], [..], [..]
products    f32 [..] GFLOP/s by tiles [..], on [..] threads; [..] at most in f32, reached to [..] %; steps of [..]
cpu: [..] threads[..]
...
auto takes [..]
device      CPU, [..] threads: asked for
precision   f32: every CPU has it[..]
disk        [..]: writes [..]/s, reads [..]/s, a small file is durable in [..] ms[..]
disk        [..]: writes [..]/s, reads [..]/s, a small file is durable in [..] ms[..]

compared with the CPU in [..] s; largest difference, and what it may be:
ok    upload and read, round trip                 0.0e0      0e0
...
ok    LoRA step, loss                             0.0e0     1e-3
...

verdict: the CPU repeats itself bit for bit

"#
    ]]);
    let report: Value =
        serde_json::from_str(&run.succeeds(&["doctor", "--device", "cpu", "--json"])).unwrap();
    assert_eq!(report["right"], true);
    assert!(report["parity"]["lines"].as_array().unwrap().len() > 40);
    let left: Vec<_> = std::fs::read_dir(run.path("")).unwrap().flatten().collect();
    assert!(!left.iter().any(|entry| entry.file_name().to_string_lossy().contains("speed")));
}

const ROWS: &str = "FIREBRAND_TEST_ROWS";

/// The child of the tests below: the program on a device that has room for so many rows.
#[test]
#[ignore = "a part of the other tests, which start it"]
fn child() {
    let Ok(plan) = std::env::var(ROWS) else { return };
    let mut words = plan.split(' ');
    let rows: usize = words.next().unwrap().parse().unwrap();
    let _watch = firebrand::device::watch_memory(move |wanted| wanted <= rows);
    let arguments: Vec<std::ffi::OsString> =
        std::iter::once("firebrand").chain(words).map(Into::into).collect();
    println!("ended {:?}", firebrand::cli::run(arguments));
}

/// Trains with room for so many rows; returns all that was said.
fn train_with_room(run: &Run, rows: usize, arguments: &str) -> String {
    with_room(run, rows, &format!("train {arguments}"))
}

fn with_room(run: &Run, rows: usize, arguments: &str) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["device::child", "--exact", "--ignored", "--nocapture"])
        .current_dir(run.path(""))
        .env(ROWS, format!("{rows} {arguments}"))
        .env("XDG_CONFIG_HOME", run.path("settings"))
        .env("FIREBRAND_CACHE", run.path("cache"))
        .env("HF_HOME", run.path("hub"))
        .env_remove("FIREBRAND_SIGNING_KEY")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).into_owned()
}

fn metrics(run: &Run, name: &str) -> Vec<Value> {
    let text = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.filter(|line: &Value| line["grad_norm"].is_number()).collect() // the steps
}

#[test]
fn a_step_without_memory_is_made_again_in_parts_with_the_same_tokens() {
    let run = Run::new().with_base();
    let lora = |name: &str| format!("lora.toml --set name={name} --set train.micro_batch_size=3");
    let whole = train_with_room(&run, 99, &lora("whole"));
    assert!(whole.contains("ended ExitCode(unix_exit_status(0))"), "{whole}");
    let parts = train_with_room(&run, 1, &lora("parts"));
    assert!(parts.contains("ended ExitCode(unix_exit_status(0))"), "{parts}");
    assert!(parts.contains("had no memory for more than one row at once"), "{parts}");

    let (whole, parts) = (metrics(&run, "whole"), metrics(&run, "parts"));
    assert_eq!(whole.len(), parts.len());
    for (a, b) in whole.iter().zip(&parts) {
        for key in ["tokens", "target_tokens", "learning_rate"] {
            assert_eq!(a[key], b[key]);
        }
        // Dropout is on: the parts drop what the whole drops.
        for key in ["loss", "grad_norm"] {
            let (a, b) = (a[key].as_f64().unwrap(), b[key].as_f64().unwrap());
            assert!((a / b - 1.0).abs() < 1e-4, "{key}: {a} in whole, {b} in parts");
        }
        assert_eq!((&a["rows_at_once"], &b["rows_at_once"]), (&Value::Null, &1.into()));
    }
    let history = run.read("checkpoints/parts/history.jsonl");
    assert!(history.contains("\"what\":\"divided\""), "{history}");
    let lineage = run.read("checkpoints/parts/artifact/lineage.statement.json");
    assert!(lineage.contains("no memory for more than one row at once"), "{lineage}");
}

#[test]
fn a_run_that_was_divided_goes_on_divided_to_the_same_bytes() {
    let run = Run::new().with_base();
    let lora = |name: &str| format!("lora.toml --quiet --set name={name}");
    train_with_room(&run, 1, &lora("straight"));
    train_with_room(&run, 1, &format!("{} --stop-after-steps 3", lora("stopped")));
    // With all the memory there is, it stays as it was: its bytes are those of one run.
    let text = train_with_room(&run, 99, &lora("stopped"));
    assert!(!text.contains("no memory"), "it tries nothing larger again: {text}");
    assert_eq!(metrics(&run, "straight"), metrics(&run, "stopped"));
    let digest = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(digest("straight"), digest("stopped"));
}

#[test]
fn no_memory_for_a_single_row_is_an_error_with_numbers_and_loses_nothing() {
    let run = Run::new().with_base();
    let stopped = train_with_room(&run, 9, "lora.toml --stop-after-steps 3");
    assert!(stopped.contains("\"resumable\":true"), "{stopped}");
    let text = train_with_room(&run, 0, "lora.toml");
    assert!(text.contains("ended ExitCode(unix_exit_status(2))"), "{text}");
    assert!(text.contains("step 4 does not fit into the device's memory"), "{text}");
    assert!(text.contains("one row of") && text.contains("hint:"), "{text}");
    // The last checkpoint is good.
    train_with_room(&run, 9, "lora.toml");
    train_with_room(&run, 9, "lora.toml --set name=straight");
    assert_eq!(metrics(&run, "straight"), metrics(&run, "lora"));
}

#[test]
fn mixed_arithmetic_scales_the_loss_and_stays_near_f32() {
    let run = Run::new().with_base();
    let train = |name: &str, precision: &str, more: &[&str]| {
        let (name, set) = (format!("name={name}"), format!("train.precision={precision}"));
        let all = ["train", "lora.toml", "--set", &name, "--set", &set];
        let output = run.command(&[&all[..], more].concat()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = train("mixed", "mixed-f16", &[]);
    let wanted = "precision  mixed-f16: asked for; the CPU rounds and then computes in 32 bits";
    assert!(said.contains(wanted), "{said}");
    train("plain", "f32", &[]);
    let (mixed, plain) = (metrics(&run, "mixed"), metrics(&run, "plain"));
    for (a, b) in mixed.iter().zip(&plain) {
        assert_eq!((&a["loss_scale"], &b["loss_scale"]), (&65536.0.into(), &Value::Null));
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!(a != b && (a / b - 1.0).abs() < 2e-3, "{a} mixed, {b} in f32");
    }
    // The scale is a part of what is saved, and a run goes on to the same bytes.
    train("stopped", "mixed-f16", &["--stop-after-steps", "3"]);
    let state = run.read("checkpoints/stopped/step-00000003/state.json");
    assert!(state.contains("\"good_steps\": 3") || state.contains("\"good_steps\":3"), "{state}");
    train("stopped", "mixed-f16", &[]);
    let digest = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    assert_eq!(digest("mixed"), digest("stopped"));
    assert_ne!(digest("mixed"), digest("plain"));

    // bfloat16 needs no scale, and goes on as exactly.
    let said = train("brain", "mixed-bf16", &[]);
    let wanted = match firebrand::device::multiplies_bfloat16() {
        true => "precision  mixed-bf16: asked for; this CPU multiplies bfloat16",
        false => "precision  mixed-bf16: asked for; this CPU rounds and then computes in 32 bits",
    };
    assert!(said.contains(wanted), "{said}");
    for (a, b) in metrics(&run, "brain").iter().zip(&plain) {
        let (a, b) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!(a != b && (a / b - 1.0).abs() < 1e-2, "{a} in bfloat16, {b} in f32");
    }
    train("brain-stopped", "mixed-bf16", &["--stop-after-steps", "3"]);
    train("brain-stopped", "mixed-bf16", &[]);
    assert_eq!(digest("brain"), digest("brain-stopped"));
    assert_ne!(digest("brain"), digest("plain"));
}

#[test]
fn a_step_too_large_for_16_bits_is_left_out_and_halves_the_scale() {
    use firebrand::device::Arithmetic;
    use firebrand::engine::LossScale;
    let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
    let batch = [row(&batch, 0)];
    let mixed = ComputeConfig { arithmetic: Arithmetic::MixedF16, ..ComputeConfig::default() };
    let mut trainer = trainer(&cpu(), mixed);
    assert_eq!(trainer.loss_scale, Some(LossScale::default()));
    let large = LossScale { scale: 2.0_f64.powi(24), good_steps: 7 };
    trainer.loss_scale = Some(large);
    let mut skipped = 0;
    loop {
        let before = trainer.loss_scale.unwrap();
        let updates = trainer.optimizer.updates();
        let (report, _) = trainer.step(&batch, 0.0).unwrap();
        assert_eq!(report.loss_scale, Some(before.scale));
        assert!(report.loss.is_finite());
        if !report.skipped {
            assert!(report.grad_norm > 0.0 && trainer.optimizer.updates() == updates + 1);
            break;
        }
        skipped += 1;
        assert_eq!(trainer.optimizer.updates(), updates, "nothing moved");
        assert_eq!(trainer.loss_scale, Some(before.after(true)));
        assert_eq!(report.grad_norm, 0.0);
    }
    assert!(skipped > 0, "2^24 is too large for the gradients of this model");
    assert_eq!(trainer.step, skipped + 1);
}

#[test]
fn want_of_memory_is_a_sentence_for_generate_and_eval() {
    let run = Run::new().with_base();
    run.write("suite.toml", "[data]\npath = \"data.jsonl\"\n");
    let generate = "generate checkpoints/tiny -p What --device cpu --max-tokens 4";
    assert!(with_room(&run, 1, generate).contains("ended ExitCode(unix_exit_status(0))"));
    let text = with_room(&run, 0, generate);
    assert!(text.contains("ended ExitCode(unix_exit_status(2))"), "{text}");
    assert!(text.contains("the device has no memory left for generating text"), "{text}");

    let eval = "eval checkpoints/tiny --config suite.toml --device cpu --quiet --fresh";
    let whole = with_room(&run, 99, eval);
    let table = |text: &str| -> Vec<String> {
        text.lines().filter(|line| line.starts_with('|')).map(str::to_owned).collect()
    };
    assert!(!table(&whole).is_empty(), "{whole}");
    assert_eq!(table(&whole), table(&with_room(&run, 1, eval)), "row by row, the same numbers");
    let text = with_room(&run, 0, eval);
    assert!(text.contains("the device has no memory left for measuring the loss"), "{text}");
}
