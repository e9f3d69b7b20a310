//! Whole configs in, resolved configs or exact messages out.

use super::*;
use crate::document::{KeyTable, TableSection};
use crate::settings::{KEYS, load, parse};

mod errors;
mod hostile;
mod overrides;
mod table;

/// The least that a config must give.
const LEAST: &str = "[model]\nbase = \"m\"\n[[data.train]]\npath = \"d.jsonl\"\n";

fn read(text: &str) -> Result<Loaded> {
    parse(Path::new("run.toml"), text.as_bytes(), &[])
}

fn read_with(text: &str, overrides: &[&str]) -> Result<Loaded> {
    let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
    parse(Path::new("run.toml"), text.as_bytes(), &overrides)
}

#[track_caller]
fn message(text: &str) -> String {
    read(text).expect_err("must be refused").to_string()
}

#[track_caller]
fn config(text: &str) -> RunConfig {
    read(text).unwrap_or_else(|error| panic!("{error}")).config
}

#[test]
fn the_least_config_has_the_defaults_of_the_contract() {
    let config = config(LEAST);
    assert_eq!((config.name.as_str(), config.seed), ("run", 42));
    assert_eq!(config.model.revision, "main");
    assert_eq!(config.model.init, Init::Pretrained);
    let set = DataSetConfig::new("d.jsonl");
    assert_eq!(
        config.data,
        DataConfig {
            train: vec![set],
            validation: vec![],
            val_size: ValSize::None,
            retracted: vec![],
            max_seq_len: 1024,
            packing: true,
            shuffle: true,
            order: None,
            mixing_temperature: 1.0,
            sample_weight: None,
            overlong: Overlong::Truncate,
            train_on: TrainOn::Assistant,
            chat_template: None,
            template_args: std::collections::BTreeMap::new(),
            on_unused: None,
            max_bad_rows: 0,
            deduplicate: false,
            window_rows: 16_000,
            window_bytes: 64 << 20,
            prefetch_windows: 1,
            survey_below: 64 << 20,
            cache_limit: None,
            no_pairs: Some(crate::objectives::hint_of_pairs()),
            whole_pairs: false,
            labels: false,
            score_head: None,
            prompts: false,
            margin: None,
        }
    );
    assert!(!config.owned.has_section("lora"));
    assert_eq!(
        config.train,
        TrainConfig {
            length: Length::Epochs(1),
            micro_batch_size: 1,
            gradient_accumulation_steps: 1,
            learning_rate: 2e-5,
            lr_scheduler: Scheduler::Cosine,
            warmup: Warmup::Steps(0),
            min_lr_ratio: 0.0,
            decay_ratio: 0.2,
            cycles: 2,
            power: 1.0,
            max_grad_norm: 1.0,
            neftune_noise_alpha: None,
            recompute: Some(Recompute::None),
            tiled_mlp: None,
            memory: None,
            optimizer_offload: None,
            activation_offload: None,
            loss_chunk_tokens: 128,
            precision: PrecisionChoice::Auto,
        }
    );
    assert_eq!(
        config.eval,
        EvalConfig {
            every_steps: 0,
            load_best_model_at_end: false,
            early_stopping_patience: None,
            early_stopping_threshold: None,
            prompts: vec![],
            max_tokens: 64,
            temperature: 0.0,
            max_records: 0,
            suite: None,
        }
    );
    let checkpoint = CheckpointConfig {
        every_steps: 100,
        keep_last: 2,
        keep_every: 0,
        keep_best: 0,
        disk_budget: None,
        on_disk_full: OnDiskFull::Stop,
        reuse: Reuse::Auto,
        reuse_limit: 10_000_000_000,
        reuse_store: None,
    };
    assert_eq!(config.checkpoint, checkpoint);
    assert_eq!(config.output.dir, "checkpoints/run");
    assert!(config.output.sign && config.output.signing_key.is_none());
    assert!(config.output.mirror.is_none());
    assert!(!config.output.sbom);
    assert!(config.output.signer.is_empty() && config.output.signer_key.is_none());
    let trust =
        TrustConfig { allowlist: None, allowlist_keys: vec![], data_keys: vec![], tofu: false };
    assert_eq!(config.trust, trust);
    assert!(config.model.trusted_keys.is_empty());
    assert!(config.output.signer_certificates.is_none());
    let device = DeviceConfig {
        name: DeviceChoice::Auto,
        threads: 0,
        parallel_micro_batches: 1,
        memory_limit: None,
        kernels: Kernels::Fast,
        pin_kernels: false,
    };
    assert_eq!(config.device, device);
}

#[test]
fn the_learning_rate_follows_the_method() {
    let rate = |more: &str| config(&format!("{LEAST}{more}")).train.learning_rate;
    assert_eq!(rate(""), 2e-5);
    assert_eq!(rate("[lora]\n"), 2e-4);
    assert_eq!(rate("[train]\nlearning_rate = 1\n"), 1.0);
    let random = "[model]\nbase = \"m\"\ninit = \"random\"\n[data]\ntrain = [{ path = \"d\" }]\n";
    assert_eq!(config(random).train.learning_rate, 1e-3);
}

#[test]
fn an_empty_lora_section_means_lora_with_its_defaults() {
    let owned = config(&format!("{LEAST}[lora]\n")).owned;
    assert_eq!((owned.size("lora.r"), owned.number("lora.lora_alpha")), (16, 32.0));
    assert_eq!(owned.text("lora.target_modules"), "all-linear");
    assert!(!owned.boolean("lora.use_rslora"));
}

#[test]
fn numbers_are_read_as_people_write_them() {
    let config = config(&format!(
        "{LEAST}[train]\nlearning_rate = 1e-4\nmax_steps = 1_000\nweight_decay = 0\n\
         adam_beta1 = -0.0\n[lora]\nlora_alpha = 0x10\n"
    ));
    assert_eq!(config.train.learning_rate, 1e-4);
    assert_eq!(config.train.length, Length::Steps(1000));
    assert_eq!(config.owned.number("train.weight_decay"), 0.0);
    assert!(config.owned.number("train.adam_beta1").is_sign_positive());
    assert_eq!(config.owned.number("lora.lora_alpha"), 16.0);
}

#[test]
fn val_size_is_nothing_a_share_or_a_count() {
    let size = |text: &str| {
        let text = format!("[model]\nbase = \"m\"\n[data]\ntrain = [{{ path = \"d\" }}]\n{text}");
        config(&text).data.val_size
    };
    assert_eq!(size("val_size = 0"), ValSize::None);
    assert_eq!(size("val_size = 0.0"), ValSize::None);
    assert_eq!(size("val_size = 1"), ValSize::Records(1));
    assert_eq!(size("val_size = 0.05"), ValSize::Fraction(0.05));
}

#[test]
fn load_reads_a_file_and_its_name_names_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("smollm2-lora.toml");
    std::fs::write(&path, LEAST).unwrap();
    let loaded = load(&path, &["seed=7".to_owned()]).unwrap();
    assert_eq!(loaded.config.name, "smollm2-lora");
    assert_eq!(loaded.config.output.dir, "checkpoints/smollm2-lora");
    assert_eq!(loaded.text_sha256, Digest::of(LEAST.as_bytes()));
    assert_eq!(loaded.overrides, [("seed".to_owned(), "7".to_owned())]);
    let missing = load(&folder.path().join("none.toml"), &[]).unwrap_err().to_string();
    assert!(missing.starts_with("error[file]: cannot read the config\n  at "), "{missing}");
}

#[test]
fn every_choice_shows_its_name_in_the_config() {
    assert_eq!(Scheduler::Wsd.to_string(), "wsd");
    let names = "constant linear cosine cosine-with-restarts polynomial inverse-sqrt wsd";
    assert_eq!(Scheduler::NAMES.join(" "), names);
    for name in Scheduler::NAMES {
        assert_eq!(Scheduler::from_name(name).unwrap().name(), *name);
    }
    assert_eq!(Scheduler::from_name("Wsd"), None);
}

#[test]
fn the_configs_of_the_repository_are_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            load(&path, &[]).unwrap_or_else(|error| panic!("{error}"));
            count += 1;
        }
    }
    assert!(count > 0);
}
