//! Before its first step a run compares loss and gradients of its own model on its own data with
//! those of tensor operations, whatever its weights are kept in, and says so where it does not. A
//! software adapter of wgpu stands for a GPU, which is compared with the CPU.

use serde_json::{Value, json};

use crate::common::Run;

/// What stands in the folder of a run that was trained with these settings.
fn found(run: &Run, name: &str, settings: &[&str]) -> Value {
    let name_set = format!("name={name}");
    let mut arguments = vec!["train", "lora.toml", "--quiet", "--set", &name_set];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting]));
    let command = run.command(&arguments).env(firebrand::document::key::INTERNAL_KEYS, "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json = run.read(&format!("checkpoints/{name}/gradient-check.json"));
    serde_json::from_str(&json).unwrap()
}

#[test]
fn bases_in_codes_and_on_disk_are_compared_as_others_are() {
    let run = Run::new().with_base();
    run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
    let plain = found(&run, "plain", &[]);
    for (name, settings) in [
        ("int8", &["model.weight_format=int8"][..]),
        ("nf4", &["model.weight_format=nf4"]),
        ("nf4-mixed", &["model.weight_format=nf4", "train.precision=mixed-bf16"]),
        ("nf4-streamed", &["model.weight_format=nf4", "train.memory=streamed"]),
        ("streamed", &["train.memory=streamed"]),
        ("streamed-tables", &["train.memory=streamed-tables"]),
        ("blocks", &["model.base=out/out-Q8_0.gguf"]),
        ("blocks-streamed", &["model.base=out/out-Q8_0.gguf", "train.memory=streamed"]),
    ] {
        let found = found(&run, name, settings);
        for key in ["tokens", "tensors"] {
            assert_eq!(found[key], plain[key], "{name}: {found}");
        }
        let [difference, tolerance] = ["difference", "tolerance"].map(|key| found[key].as_f64());
        assert!(difference.unwrap() <= tolerance.unwrap(), "{name}: {found}");
        assert!(found["left_out"].is_null(), "{name}: {found}");
        assert!(found["seconds"].as_f64().unwrap() < 5.0, "{name}: {found}");
        for key in ["device", "reference"] {
            assert!(found[key].as_str().unwrap().starts_with("CPU, "), "{name}: {found}");
        }
    }
    // More than sixty-four tokens, since the model is small.
    assert!(plain["tokens"].as_u64().unwrap() > 64, "{plain}");
}

#[test]
fn why_nothing_was_compared_stands_in_the_record() {
    let run = Run::new().with_base();
    let told = found(&run, "portable", &["device.kernels=portable"]);
    assert_eq!(told, json!({"left_out": "the run is computed by tensor operations itself"}));
}

#[cfg(feature = "gpu")]
mod on_a_gpu {
    use std::path::PathBuf;

    use firebrand::config::DeviceChoice;
    use firebrand::data::Extent;
    use firebrand::device;
    use firebrand::engine::Trainer;
    use firebrand::error::Result;
    use firebrand::event::{Event, Observer};
    use firebrand::files::RunDirectory;
    use firebrand::model::{Matrix, Parameter};
    use firebrand::train::{Access, compare_gradients, prepare, supply_for};
    use serde_json::Value;
    use snapbox::str;

    use crate::common::{Run, say_not_tested, says};

    struct Deaf;

    impl Observer for Deaf {
        fn on(&mut self, _: Event) {}
    }

    /// The name of a software adapter; nothing where there is none.
    fn adapter() -> Option<String> {
        match device::open(DeviceChoice::Software, 0) {
            Ok(opened) => Some(opened.name),
            Err(error) => {
                let what = &error.what;
                say_not_tested(&format!("gradients of a run on a software adapter: {what}"));
                None
            }
        }
    }

    /// What the comparison of a run there finds. `change` makes something of what is on the device,
    /// which the CPU does not know.
    fn compared(
        run: &Run,
        config: &str,
        (name, settings): (&str, &[&str]),
        change: impl FnOnce(&mut Trainer),
    ) -> Result<Value> {
        let base = match name {
            "full" => "base",
            "blocks" => "out/out-Q8_0.gguf",
            _ => "checkpoints/tiny",
        };
        let at = |key: &str, path: PathBuf| format!("{key}={}", path.display());
        let mut sets = vec![
            "device.name=software".to_owned(),
            "device.threads=0".to_owned(),
            at("model.base", run.path(base)),
            at("output.dir", run.path(name)),
            at("data.train.0.path", run.path("data.jsonl")),
            at("data.validation.0.path", run.path("validation.jsonl")),
        ];
        sets.extend(settings.iter().map(|set| (*set).to_owned()));
        let config = run.path(config);
        let loaded = firebrand::settings::load(&config, &sets).unwrap();
        let supply = supply_for(&config, None, &Access::default()).unwrap();
        let mut prepared = prepare(&loaded, &supply, Extent::AsNeeded, &mut Deaf).unwrap();
        let directory = RunDirectory::lock(&run.path(name)).unwrap();
        let mut trainer = prepared.trainer().unwrap();
        change(&mut trainer);
        compare_gradients(&directory, &prepared, &mut trainer, &mut Deaf)?;
        Ok(serde_json::from_str(&run.read(&format!("{name}/gradient-check.json"))).unwrap())
    }

    /// The matrix of one layer, as if a kernel read it wrongly.
    fn misread(trainer: &mut Trainer) {
        let mut found = false;
        trainer.model.linears(&mut |path, linear| {
            if path.ends_with("layers.1.mlp.down_proj") {
                let wrong = linear.values().mul_scalar(1.5);
                linear.weight = Matrix::Tensor(Parameter::frozen(wrong));
                found = true;
            }
        });
        assert!(found, "there is such a layer");
    }

    #[test]
    fn a_gpu_has_the_gradients_of_the_cpu_or_no_run_is_begun() {
        let Some(adapter) = adapter() else { return };
        let run = Run::new().with_base();
        run.succeeds(&["export", "checkpoints/tiny", "--type", "q8_0", "--out", "out"]);
        let cases: [(&str, &str, &[&str]); 8] = [
            ("lora", "lora.toml", &[]),
            ("dora", "lora.toml", &["lora.use_dora=true"]),
            ("nf4", "lora.toml", &["model.weight_format=nf4"]),
            ("int8", "lora.toml", &["model.weight_format=int8"]),
            ("blocks", "lora.toml", &[]),
            ("whole-head", "lora.toml", &["lora.modules_to_save=[\"embed_tokens\"]"]),
            ("rows", "lora.toml", &["lora.trainable_token_indices=[7, 90]"]),
            ("full", "tiny.toml", &[]),
        ];
        for (name, config, settings) in cases {
            let found = compared(&run, config, (name, settings), |_| ()).unwrap();
            assert!(found["left_out"].is_null(), "{name}: {found}");
            assert_eq!(found["device"], adapter.as_str(), "{name}");
            assert!(found["reference"].as_str().unwrap().starts_with("CPU, "), "{name}: {found}");
            assert!(found["difference"].as_f64().unwrap() <= 1e-3, "{name}: {found}");
            assert_eq!(found["tolerance"], 1e-3, "{name}: rounding was not asked");
            assert!(found["tokens"].as_u64().unwrap() > 64, "{name}: {found}");
            assert!(found["tensors"].as_u64().unwrap() > 4, "{name}: {found}");
        }
        // What is trained is copied as it is there, and not made again.
        let doubled = |trainer: &mut Trainer| {
            struct Double;
            impl firebrand::model::Visitor for Double {
                fn vector(&mut self, _: &str, _: &mut Parameter<1>) {}
                fn matrix(&mut self, _: &str, parameter: &mut Parameter<2>) {
                    if parameter.trainable {
                        parameter.value = parameter.value.clone().mul_scalar(2.0).add_scalar(0.01);
                    }
                }
            }
            trainer.model.visit(&mut Double);
        };
        let found = compared(&run, "lora.toml", ("moved", &[]), doubled).unwrap();
        assert!(found["difference"].as_f64().unwrap() <= 1e-3, "{found}");

        for (name, settings) in [("wrong", &[][..]), ("wrong-nf4", &["model.weight_format=nf4"])] {
            let error = compared(&run, "lora.toml", (name, settings), misread).unwrap_err();
            says(
                error,
                str![[r#"
error[device]: the gradients of this run are not what they should be, so it was not begun
  because the [..]
  because [..] was compared with tensor operations of the CPU on its first tokens, with the same weights

hint: `device.name = "cpu"` works without the device; please report it, with the model's `config.json` and what `firebrand doctor` says
"#]],
            );
            assert!(!run.path(&format!("{name}/gradient-check.json")).exists(), "{name}");
        }
        // Nothing of the copy of the model is left.
        for (name, ..) in cases {
            let files = std::fs::read_dir(run.path(name)).unwrap().flatten();
            let mut names = files.map(|file| file.file_name().into_string().unwrap());
            assert!(!names.any(|file| file.starts_with(".frozen-weights")), "{name}");
        }
    }

    /// A start that is taken out of frozen weights is made on the device alone.
    #[test]
    fn where_a_gpu_is_not_compared_the_record_says_why() {
        if adapter().is_none() {
            return;
        }
        let run = Run::new().with_base();
        let settings = ["lora.init_lora_weights=pissa"];
        let found = compared(&run, "lora.toml", ("pissa", &settings), |_| ()).unwrap();
        let why = "the start of the adapter changes frozen weights on the device";
        assert_eq!(found, serde_json::json!({ "left_out": why }));
    }
}
