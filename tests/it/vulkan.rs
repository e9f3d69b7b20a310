//! The path that GPUs take: SPIR-V over Vulkan, in 32 bits and with products of 16, on Mesa's software
//! driver (lavapipe). `tests/vulkan_layer/layer.rs` says why a layer stands before that driver. And how
//! many kernels a step launches, here and through OpenGL: cards are bound by it long before their
//! arithmetic is. Every objective learns there what it learns on the CPU.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::common::{Run, repository, weights_digest};
use firebrand::objectives::OBJECTIVES;
use serde_json::Value;

/// What the loader is told so that it finds the driver, and the layer before it.
pub struct Environment {
    driver: PathBuf,
    folder: PathBuf,
}

/// Drivers of lavapipe that this system knows.
fn driver() -> Option<PathBuf> {
    let found = std::fs::read_dir("/usr/share/vulkan/icd.d").into_iter().flatten().flatten();
    let mut found = found.map(|entry| entry.path());
    found.find(|path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("lvp_icd"))
    })
}

/// Compiles the layer with the compiler that made this test.
fn layer(folder: &Path) -> Result<(), String> {
    let library = folder.join("liblayer.so");
    let output = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings"])
        .arg(repository("tests/vulkan_layer/layer.rs"))
        .arg("-o")
        .arg(&library)
        .output()
        .map_err(|error| format!("rustc cannot be started: {error}"))?;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let manifest = serde_json::json!({"file_format_version": "1.2.0", "layer": {
        "name": "VK_LAYER_FIREBRAND_shared_memory", "type": "GLOBAL", "library_path": library,
        "api_version": "1.3.239", "implementation_version": "1", "description": "for tests",
    }});
    std::fs::write(folder.join("layer.json"), manifest.to_string())
        .map_err(|error| error.to_string())
}

pub fn environment() -> Option<&'static Environment> {
    static MADE: OnceLock<Option<Environment>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let skipped = |why: &str| say(&format!("SKIPPED: Vulkan is not tested, {why}"));
        if !cfg!(all(target_os = "linux", feature = "gpu")) {
            skipped("this is not Linux, or a build without GPUs");
            return None;
        }
        let Some(driver) = driver() else {
            skipped(
                "there is no lavapipe; `apt-get install mesa-vulkan-drivers libvulkan1` brings it",
            );
            return None;
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("vulkan-layer");
        std::fs::create_dir_all(&folder).unwrap();
        if let Err(why) = layer(&folder) {
            skipped(&why);
            return None;
        }
        Some(Environment { driver, folder })
    });
    made.as_ref()
}

pub fn say(what: &str) {
    use std::io::Write;
    // Past the harness, which keeps what passing tests say to itself.
    let _ = writeln!(std::io::stderr(), "{what}");
}

impl Environment {
    /// Runs a command over the layer; returns what it says to stdout.
    pub fn succeeds(&self, run: &Run, arguments: &[&str]) -> String {
        self.says(run, arguments, "VK_LAYER_FIREBRAND_shared_memory")
    }

    /// The same over the driver as it is.
    pub fn succeeds_without_layer(&self, run: &Run, arguments: &[&str]) -> String {
        self.says(run, arguments, "")
    }

    fn says(&self, run: &Run, arguments: &[&str], layers: &str) -> String {
        let output = run
            .command(arguments)
            .env("VK_ICD_FILENAMES", &self.driver)
            .env("VK_DRIVER_FILES", &self.driver)
            .env("VK_LAYER_PATH", &self.folder)
            .env("VK_INSTANCE_LAYERS", layers)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{arguments:?} failed:\n{stderr}\n{stdout}");
        stdout
    }
}

/// Launches of a layer of a step, and of what is beside the layers, may be so many.
fn budgets() -> Value {
    let text = std::fs::read_to_string(repository("tests/fixtures/launches.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// What is launched is known and as the formula has it, launch for launch and byte for byte; it moves
/// no more than a few times the bytes of a perfectly fused step (a part that does so today is held
/// below 1.5 times); and a step uploads what follows from its tokens, and reads back two numbers.
fn moves_within_budget(moves: &Value, budget: &Value) {
    assert_eq!(moves["unknown"], serde_json::json!([]));
    assert_eq!(moves["differs"], serde_json::json!([]), "{moves:#}");
    let parts = moves["over_ideal"].as_array().unwrap();
    assert_eq!(parts.len(), 5);
    for part in parts {
        let (name, times) = (part["part"].as_str().unwrap(), part["times"].as_f64().unwrap());
        let most = budget["over_ideal"][name].as_f64().unwrap();
        assert!(times <= most, "{name}: {times} of the bytes, and not {most}");
    }
    let rest = &moves["rest"];
    for what in ["times", "bytes"] {
        let (found, most) = (&rest["uploads"][what], &budget["uploads"][what]);
        assert!(found.as_i64() <= most.as_i64(), "{found} {what} of uploads, and not {most}");
        assert_eq!(moves["layer"]["uploads"][what], 0, "layers upload nothing");
        assert_eq!(moves["layer"]["read_backs"][what], 0, "layers read nothing back");
    }
    assert_eq!(rest["read_backs"], serde_json::json!({"times": 1, "bytes": 8}));
}

/// Linear layers of a decoder layer of the model that is counted, all of them with adapters: those of
/// one input are one product, so that the seven are the four of queries, keys and values; of the
/// output; of gate and up; and of down.
const INPUTS: i64 = 4;
/// Of these, those that are one product in place of several.
const JOINED: i64 = 2;

/// Everything is right on a device, and a step launches no more kernels than it may.
fn is_right_within_budget(report: &str, kinds: &[&str]) {
    let report: Value = serde_json::from_str(report).unwrap();
    assert_eq!(report["right"], true, "{}", report["verdict"]);
    let launches = report["launches"].as_array().unwrap();
    let counted: Vec<&str> =
        launches.iter().map(|step| step["arithmetic"].as_str().unwrap()).collect();
    assert_eq!(counted, kinds);
    let budgets = budgets();
    for step in launches {
        let name = step["arithmetic"].as_str().unwrap();
        for part in ["layer", "rest"] {
            let kernels = step[part].as_object().unwrap();
            let found: i64 = kernels.values().map(|count| count.as_i64().unwrap()).sum();
            let budget = budgets[name][part].as_i64().unwrap();
            assert!(found <= budget, "{name}: {found} of {part}, and not {budget}: {step:#}");
            // A budget that is far from what is launched holds nothing.
            assert!(found + 16 >= budget, "{name}: {found} of {part} is less than {budget}");
        }
        moves_within_budget(&step["moves"], &budgets[name]);
        let of_layer = |kernel: &str| step["layer"][kernel].as_i64().unwrap_or(0);
        // Of a linear layer W, A and the sum over B forward; of gradients those of x (W, B, and the
        // sum over A), A and B.
        assert_eq!(of_layer("MatmulEntry"), INPUTS * (2 + 4), "{name}");
        assert_eq!(of_layer("AddLowRank"), INPUTS * 2, "{name}");
        assert_eq!(of_layer("JoinFactors") + of_layer("SplitBlocks"), JOINED * 2, "{name}");
        let attention = ["FusedAttention", "FusedAttentionQueries", "FusedAttentionKeys"];
        assert_eq!(attention.map(of_layer), [1; 3], "{name}");
        assert_eq!(of_layer("RotateBeside"), 2, "{name}");
        assert_eq!(of_layer("NormForward") + of_layer("NormBackward"), 4, "{name}");
        assert_eq!(of_layer("GateForward") + of_layer("GateBackward"), 2, "{name}");
    }
}

#[test]
fn every_operation_and_every_step_are_those_of_the_cpu_in_few_launches() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new();
    let report = vulkan.succeeds(&run, &["doctor", "--device", "vulkan", "--profile", "--json"]);
    let lines = serde_json::from_str::<Value>(&report).unwrap();
    let lines = lines["parity"]["lines"].as_array().unwrap().clone();
    let mixed = lines.iter().filter(|line| line["operation"] == "LoRA step, mixed-f16").count();
    assert_eq!(mixed, 4, "f16 is tested there");
    is_right_within_budget(&report, &["f32", "mixed-f16"]);
}

#[cfg(feature = "gpu")]
#[test]
fn a_step_through_opengl_takes_as_few_launches() {
    use firebrand::config::DeviceChoice;
    if let Err(error) = firebrand::device::open(DeviceChoice::Software, 0) {
        return say(&format!("SKIPPED: OpenGL is not tested, {}", error.what));
    }
    let run = Run::new();
    let report = run.succeeds(&["doctor", "--device", "software", "--profile", "--json"]);
    is_right_within_budget(&report, &["f32"]);
}

fn losses(run: &Run, name: &str) -> Vec<f64> {
    let text = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps = lines.filter(|line| line["grad_norm"].is_number());
    steps.map(|line| line["loss"].as_f64().unwrap()).collect()
}

/// What a run found when it compared its gradients with those of the CPU, or why it did not.
fn comparison(run: &Run, name: &str) -> Value {
    serde_json::from_str(&run.read(&format!("checkpoints/{name}/gradient-check.json"))).unwrap()
}

/// A run there compared its gradients with those of the CPU, and they are near enough.
fn is_compared(run: &Run, name: &str) {
    let found = comparison(run, name);
    assert!(found["left_out"].is_null(), "{name}: {found}");
    let [difference, tolerance] = ["difference", "tolerance"].map(|key| found[key].as_f64());
    assert!(difference.unwrap() <= tolerance.unwrap(), "{name}: {found}");
    let [device, reference] = ["device", "reference"].map(|key| found[key].as_str().unwrap());
    assert!(!device.starts_with("CPU, ") && reference.starts_with("CPU, "), "{name}: {found}");
}

/// Full training and what it begins from, in 32 bits and with products of 16, of which the loss is
/// scaled; and the provenance says where both were computed.
#[test]
fn gradients_of_full_training_are_compared_with_those_of_the_cpu() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new();
    for precision in ["f32", "mixed-f16"] {
        let sets = [
            format!("name={precision}"),
            format!("train.precision={precision}"),
            "device.name=vulkan".to_owned(),
            "train.max_steps=2".to_owned(),
        ];
        let mut all = vec!["train", "tiny.toml", "--quiet"];
        all.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
        vulkan.succeeds(&run, &all);
        is_compared(&run, precision);
        let provenance = run.provenance(precision);
        let products = provenance["predicate"]["runDetails"]["byproducts"].as_array().unwrap();
        let of_check = |entry: &&Value| entry["annotations"]["role"] == "gradient-check";
        let notes = &products.iter().find(of_check).unwrap()["annotations"];
        let found = comparison(&run, precision);
        for key in ["device", "reference"] {
            assert_eq!(notes[key], found[key], "{precision}: {notes}");
        }
    }
}

/// Twenty steps, and ten in 16 bits, have the losses of the CPU, and a second run that is stopped
/// and goes on has the bytes of the first.
#[test]
fn twenty_steps_are_those_of_the_cpu_and_repeat_themselves() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new().with_base();
    let train = |name: &str, device: &str, (precision, steps): (&str, usize), more: &[&str]| {
        let set = [
            format!("name={name}"),
            format!("device.name={device}"),
            format!("train.precision={precision}"),
            format!("train.max_steps={steps}"),
            "lora.lora_dropout=0.0".to_owned(),
        ];
        let mut all = vec!["train", "lora.toml", "--quiet"];
        all.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
        all.extend(more);
        vulkan.succeeds(&run, &all);
    };
    let digest = |name: &str| weights_digest(&run.path(&format!("checkpoints/{name}/artifact")));
    for (precision, steps, limit) in [("f32", 20, 2e-3), ("mixed-f16", 10, 1e-2)] {
        let names = ["cpu", "straight", "stopped"].map(|name| format!("{precision}-{name}"));
        let [cpu, straight, stopped] = &names;
        train(cpu, "cpu", ("f32", steps), &[]);
        let reference = losses(&run, cpu);
        assert_eq!(reference.len(), steps);
        train(straight, "vulkan", (precision, steps), &[]);
        for (step, (ours, wanted)) in losses(&run, straight).iter().zip(&reference).enumerate() {
            let near = (ours / wanted - 1.0).abs() < limit;
            assert!(near, "{precision}, step {step}: {ours} there, {wanted} on the CPU");
        }
        // Sums are made in one order, and a stop is as if there had been none.
        train(stopped, "vulkan", (precision, steps), &["--stop-after-steps", "4"]);
        train(stopped, "vulkan", (precision, steps), &[]);
        assert_eq!(digest(straight), digest(stopped), "{precision}");
        assert_eq!(losses(&run, straight), losses(&run, stopped));
        is_compared(&run, straight);
    }
}

/// What an objective is tried with, beside its name: all objectives are here.
fn settings_of(objective: &str) -> Vec<&'static str> {
    let data: &[&str] = match objective {
        "sft" => &[],
        "distillation" => &[
            "distillation.teacher=checkpoints/other",
            "distillation.lmbda=0.5",
            "distillation.max_new_tokens=6",
        ],
        "grpo" => &[
            "grpo.num_generations=4",
            "grpo.max_completion_length=6",
            "grpo.beta=0.1",
            "grpo.reward=[{ name = \"early\", kind = \"regex\", pattern = \"^[ a-m]\" }]",
        ],
        "classification" => {
            &["data.train.0.path=scored.jsonl", "data.validation=[]", "eval.prompts=[]"]
        }
        "kto" => &["data.train.0.path=labels.jsonl", "data.validation=[]"],
        "reward" => &["data.train.0.path=pairs.jsonl", "data.validation=[]", "eval.prompts=[]"],
        "dpo" | "simpo" | "cpo" | "orpo" => {
            &["data.train.0.path=pairs.jsonl", "data.validation=[]", "data.max_seq_len=256"]
        }
        other => panic!("say what `{other}` is tried with"),
    };
    [data, &["lora.lora_dropout=0.0", "train.max_steps=3"]].concat()
}

/// Losses of a few steps of every objective, what the model writes itself among them.
#[test]
fn every_objective_has_the_losses_of_the_cpu() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new().with_base();
    for (name, from) in [("pairs", "preference"), ("labels", "labels")] {
        let from = repository(&format!("datasets/{from}.jsonl"));
        run.write(&format!("{name}.jsonl"), &std::fs::read_to_string(from).unwrap());
    }
    run.succeeds(&["train", "tiny.toml", "--quiet", "--set", "name=other", "--set", "seed=5"]);
    let scored = |at: u32| format!("{{\"text\": \"{at} is it\", \"label\": {}}}\n", at % 2 + 1);
    run.write("scored.jsonl", &(0..16).map(scored).collect::<String>());
    for entry in OBJECTIVES {
        let [there, here] = ["vulkan", "cpu"].map(|device| {
            let name = format!("{}-{device}", entry.name);
            let mut sets = vec![
                format!("name={name}"),
                format!("device.name={device}"),
                format!("train.objective={}", entry.name),
            ];
            sets.extend(settings_of(entry.name).into_iter().map(str::to_owned));
            let mut all = vec!["train", "lora.toml", "--quiet"];
            all.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
            vulkan.succeeds(&run, &all);
            name
        });
        let (ours, wanted) = (losses(&run, &there), losses(&run, &here));
        assert_eq!((ours.len(), wanted.len()), (3, 3), "{}", entry.name);
        for (ours, wanted) in ours.iter().zip(&wanted) {
            let near = (ours - wanted).abs() <= 2e-3 * wanted.abs().max(0.05);
            assert!(near, "{}: {ours} there, {wanted} on the CPU", entry.name);
        }
        // Their gradients are compared where the CPU compares its own.
        let compared = [&there, &here].map(|name| comparison(&run, name));
        for key in ["left_out", "tokens", "tensors"] {
            assert_eq!(compared[0][key], compared[1][key], "{}: {compared:?}", entry.name);
        }
        // What the model wrote is what it writes on the CPU.
        let written = [&there, &here].map(|name| {
            std::fs::read_to_string(run.path(&format!("checkpoints/{name}/rollouts.jsonl"))).ok()
        });
        let texts = written.map(|lines| {
            let lines = lines.unwrap_or_default();
            let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
            lines
                .map(|line| match &line["completions"] {
                    Value::Array(all) => all.iter().map(|it| it["tokens"].clone()).collect(),
                    _ => line["tokens"].clone(),
                })
                .collect::<Vec<Value>>()
        });
        let writes = matches!(entry.name, "grpo" | "distillation");
        assert_eq!(!texts[0].is_empty(), writes, "{}", entry.name);
        assert!(texts[0].iter().all(|tokens| !tokens[0].is_null()) && texts[0] == texts[1]);
    }
}

/// A base that stays in codes there has the losses of one that the CPU dequantises, from text to
/// gradients, and takes less of the device.
#[test]
fn a_base_in_codes_has_the_losses_of_the_cpu() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    let (file, nf4) = ("model.base=out/out-Q8_0.gguf", "model.weight_format=nf4");
    // With dropout, matrices are products by themselves, and so they are with DoRA.
    let cases = [
        ("nf4", nf4, ("f32", 2e-3), "lora.lora_dropout=0.0"),
        ("nf4-dropout", nf4, ("f32", 2e-3), "lora.lora_dropout=0.1"),
        ("nf4-dora", nf4, ("f32", 2e-3), "lora.use_dora=true"),
        ("nf4-f16", nf4, ("mixed-f16", 1e-2), "lora.lora_dropout=0.0"),
        ("nf4-again", nf4, ("f32", 2e-3), "train.recompute=layers"),
        ("int8", "model.weight_format=int8", ("f32", 2e-3), "lora.lora_dropout=0.0"),
        ("q8-0", file, ("f32", 2e-3), "lora.lora_dropout=0.0"),
    ];
    for (name, codes, (precision, limit), more) in cases {
        let [there, here] = ["vulkan", "cpu"].map(|device| {
            let own = format!("{name}-{device}");
            let sets = [
                format!("name={own}"),
                format!("device.name={device}"),
                format!("train.precision={}", if device == "cpu" { "f32" } else { precision }),
                codes.to_owned(),
                more.to_owned(),
                "train.max_steps=3".to_owned(),
            ];
            let mut all = vec!["train", "lora.toml", "--quiet"];
            all.extend(sets.iter().flat_map(|set| ["--set", set.as_str()]));
            vulkan.succeeds(&run, &all);
            own
        });
        let (ours, wanted) = (losses(&run, &there), losses(&run, &here));
        assert_eq!((ours.len(), wanted.len()), (3, 3), "{name}");
        for (ours, wanted) in ours.iter().zip(&wanted) {
            let near = (ours / wanted - 1.0).abs() < limit;
            assert!(near, "{name}: {ours} there, {wanted} on the CPU");
        }
        is_compared(&run, &there);
        // The lineage is that of the CPU.
        let [of_gpu, of_cpu] = [&there, &here].map(|name| {
            let path = format!("checkpoints/{name}/artifact/lineage.inputs.json");
            let inputs: Value = serde_json::from_str(&run.read(&path)).unwrap();
            let device = inputs["internalParameters"]["device"].clone();
            ["frozen weights", "frozen weights sha256"].map(|key| device[key].clone())
        });
        assert_eq!(of_gpu, of_cpu, "{name}");
        assert!(of_gpu.iter().all(Value::is_string), "{name}: {of_gpu:?}");
    }

    let weights = |set: &str| {
        let plan = ["plan", "lora.toml", "--json", "--set", "device.name=vulkan", "--set", set];
        let plan: Value = serde_json::from_str(&vulkan.succeeds(&run, &plan)).unwrap();
        plan["memory"]["weights"].as_u64().unwrap()
    };
    let all =
        [weights("model.weight_format=auto"), weights("model.weight_format=int8"), weights(nf4)];
    assert!(all[0] > all[1] && all[1] > all[2], "{all:?}");
}
