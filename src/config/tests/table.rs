//! The table of keys against everything that is made from it.

use super::*;
use crate::document::key::{DefaultValue, Key, ValueKind};
use crate::snapshots::{each_says, says};

fn schema() -> serde_json::Value {
    crate::document::schema(&KEYS)
}

fn template() -> String {
    crate::document::template(&KEYS)
}

fn section_of(key: &Key) -> &'static TableSection {
    let mut sections = KEYS.sections().iter();
    let found = sections.find(|section| section.keys.iter().any(|own| own.path == key.path));
    found.expect("every key stands in a section")
}

/// What a key needs beside it: the one that it replaces removed, the one that it depends on set.
fn overrides_for(key: &Key) -> Vec<String> {
    let mut overrides = Vec::new();
    for (decider, wanted) in section_of(key).only_with.into_iter().chain(key.only_with) {
        overrides.push(format!("{decider}={}", wanted[0]));
    }
    if matches!(section_of(key).name, "dpo" | "kto") {
        overrides.push("lora={}".to_owned()); // they compare with the base model
    }
    if section_of(key).name == "grpo" {
        let reward = "grpo.reward=[{ name = \"another\", kind = \"exact\" }]";
        overrides.extend(["lora={}", reward].map(str::to_owned));
    }
    if section_of(key).name == "distillation" {
        overrides.push("distillation.teacher=another".to_owned());
    }
    if key.path == "classification.class_weights" {
        overrides.push("classification.labels=[\"refund\", \"other\"]".to_owned());
    }
    if key.path == "classification.calibrate" {
        overrides.push("data.val_size=1".to_owned());
    }
    if key.path.starts_with("eval.early_stopping") || key.path == "eval.load_best_model_at_end" {
        overrides.extend(["eval.every_steps=1", "data.val_size=1"].map(str::to_owned));
    }
    if key.path == "eval.early_stopping_threshold" {
        overrides.push("eval.early_stopping_patience=1".to_owned());
    }
    overrides
}

fn read_overrides(overrides: &[String]) -> Loaded {
    parse(Path::new("run.toml"), LEAST.as_bytes(), overrides)
        .unwrap_or_else(|error| panic!("{overrides:?}\n{error}"))
}

/// Setting a key to its example changes the resolved config, so no key is accepted and ignored.
#[test]
fn every_key_changes_the_config() {
    for key in KEYS.keys().filter(|key| !key.internal) {
        if matches!(key.kind, ValueKind::Choice([_])) {
            continue; // One choice: there is nothing to change yet.
        }
        let section = key.path.split_once('.').map_or("", |(section, _)| section);
        let mut before = overrides_for(key);
        if section == "lora" {
            before.push("lora={}".to_owned());
        }
        let mut after = before.clone();
        after.push(format!("{}={}", key.path, key.example));
        let (before, after) = (read_overrides(&before), read_overrides(&after));
        assert_ne!(before.config, after.config, "{}", key.path);
        assert_ne!(before.canonical, after.canonical, "{}", key.path);
        assert_ne!(before.resolved, after.resolved, "{}", key.path);
        let free = key.path == "name"
            || key.path.starts_with("output.")
            || key.path.starts_with("checkpoint.")
            || key.path.starts_with("trust.")
            || (key.path.starts_with("eval.") && !KEYS.effect(key.path).decides())
            || matches!(key.path, "model.trusted_keys" | "model.base_id")
            || KEYS.effect(key.path) == Effect::Speed;
        assert_eq!(before.digest == after.digest, free, "{}", key.path);
        if let Some((wanted, found)) = expected(key, &after) {
            assert_eq!(wanted, found, "{}", key.path);
        }
    }
}

/// What a scalar example looks like in the flat pairs of lineage.
fn expected(key: &Key, loaded: &Loaded) -> Option<(String, String)> {
    match key.kind {
        ValueKind::Line
        | ValueKind::Name
        | ValueKind::Choice(_)
        | ValueKind::Rule(_)
        | ValueKind::Boolean
        | ValueKind::Integer { .. } => {
            let found = loaded.resolved.get(key.path).cloned().unwrap_or_default();
            Some((key.example.trim_matches('"').to_owned(), found))
        }
        _ => None,
    }
}

#[test]
fn every_key_of_a_data_set_changes_the_config() {
    for set in ["train", "validation"] {
        let columns = "{ prompt = \"question\" }";
        for (name, value) in [
            ("path", "other.jsonl"),
            ("format", "text"),
            ("revision", "v2"),
            ("subset", "en"),
            ("split", "dev"),
            ("files", "[\"*.jsonl\"]"),
            ("columns", columns),
            ("weight", "2"),
        ] {
            if (set, name) == ("validation", "weight") {
                continue; // each validation record counts once
            }
            let with = |more: &[String]| {
                let mut overrides = vec![format!("data.{set}.0.path=x")];
                overrides.extend(more.iter().cloned());
                read_overrides(&overrides).config
            };
            let changed = with(&[format!("data.{set}.0.{name}={value}")]);
            assert_ne!(with(&[]), changed, "{set} {name}");
        }
    }
}

#[test]
fn no_foreign_name_is_told_twice_or_is_one_of_ours() {
    let mut seen = std::collections::BTreeSet::new();
    for key in KEYS.keys() {
        for (tool, name) in key.names {
            assert!(seen.insert(*name), "{tool}'s `{name}` is told twice");
            assert!(KEYS.keys().all(|key| key.name() != *name), "`{name}` is a key of ours");
            assert!(crate::document::note(&KEYS, name).is_none(), "`{name}` has a key");
        }
    }
}

#[test]
fn the_schema_lists_every_key_and_nothing_else() {
    let schema = schema();
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["required"], serde_json::json!(["model", "data"]));
    for section in KEYS.sections() {
        let object = match section.name {
            "" => &schema,
            name => &schema["properties"][name],
        };
        assert_eq!(object["additionalProperties"], false, "{}", section.name);
        let properties = object["properties"].as_object().unwrap();
        for key in section.shown() {
            let property = &properties[key.name()];
            let description = property["description"].as_str().unwrap();
            assert!(description.starts_with(key.doc), "{}", key.path);
            let has_default = matches!(key.default, DefaultValue::Value(_));
            assert_eq!(property.get("default").is_some(), has_default, "{}", key.path);
        }
        let sections = if section.name.is_empty() { KEYS.sections().len() - 1 } else { 0 };
        assert_eq!(properties.len(), section.shown().count() + sections, "{}", section.name);
    }
    let scheduler = &schema["properties"]["train"]["properties"]["lr_scheduler"];
    assert_eq!(scheduler["enum"], serde_json::json!(Scheduler::NAMES));
    let rate = &schema["properties"]["train"]["properties"]["learning_rate"];
    assert_eq!((&rate["exclusiveMinimum"], &rate["maximum"]), (&0.0.into(), &1.0.into()));
    let item = &schema["properties"]["data"]["properties"]["train"]["items"];
    assert_eq!(item["required"], serde_json::json!(["path"]));
    assert_eq!(item["additionalProperties"], false);
}

/// Whoever has one in a config, such as a run's own, keeps its default.
#[test]
fn switches_of_the_programs_own_tests_are_shown_nowhere_and_keep_their_default() {
    let internal: Vec<_> = KEYS.keys().filter(|key| key.internal).collect();
    assert_eq!(internal.iter().map(|key| key.path).collect::<Vec<_>>(), ["device.kernels"]);
    let mut errors = Vec::new();
    for key in internal {
        let DefaultValue::Value(default) = key.default else { panic!("{} has none", key.path) };
        let with = |value: &str| format!("{LEAST}[device]\n{} = {value}\n", key.name());
        assert_eq!(config(&with(default)), config(LEAST));
        errors.push(message(&with(key.example)));
        assert!(!template().contains(key.doc.split_once('.').unwrap().0), "{}", key.path);
        errors.push(message(&with(default).replace("kernels", "kernel")));
    }
    each_says(
        errors,
        snapbox::str![[r#"
error[config]: `device.kernels` is a switch of the program's own tests
  at run.toml:6:11

hint: remove it
error[config]: unknown key `kernel` in `[device]`
  at run.toml:6:1

hint: the keys in `[device]` are `name`, `threads`, `parallel_micro_batches`, `memory_limit`, `pin_kernels`
"#]],
    );
}

#[test]
fn the_template_gives_the_defaults() {
    let template = template();
    let loaded = read(&template).unwrap_or_else(|error| panic!("{error}\n{template}"));
    let least = "[model]\nbase = \"checkpoints/base-tiny\"\n[[data.train]]\n\
                 path = \"datasets/messages.jsonl\"\n[lora]\n";
    assert_eq!(loaded.config, config(least));
    for line in template.lines() {
        assert!(line.chars().count() <= 88, "{line}");
    }
}

/// Every default that the template shows is the one that holds: taking the `#` away changes
/// nothing.
#[test]
fn the_template_shows_the_defaults_that_hold() {
    let text = template();
    let wanted = read(&text).unwrap().config;
    for key in KEYS.keys().filter(|key| !key.internal) {
        let DefaultValue::Value(toml) = key.default else { continue };
        let line = format!("#{} = {toml}\n", key.name());
        assert!(text.contains(&line), "{line}");
        if key.only_with.is_some() || section_of(key).only_with.is_some() {
            continue; // Given with another choice it is refused, which other tests show.
        }
        assert_eq!(wanted, config(&text.replace(&line, &line[1..])), "{}", key.path);
    }
}

#[test]
fn canonical_text_gives_the_same_config_again() {
    let full = "name = \"a.b-c_1\"\nseed = 9223372036854775807\n[model]\nbase = \"q\\\"\\\\é\"\n\
                trusted_keys = [\"a.pem\", \"b.pem\"]\n\
                [trust]\nallowlist = \"r.toml\"\nallowlist_keys = [\"c.pem\"]\ntofu = true\n\
                [lora]\nr = 4\ntarget_modules = [\"q_proj\", \"v_proj\"]\n\
                [train]\nmax_steps = 7\nlr_scheduler = \"wsd\"\ndecay_ratio = 0.3\n\
                warmup_ratio = 0.1\nadam_epsilon = 1e-30\n\
                [eval]\nprompts = [\"a\\nb\\u0000\\t\\\"'\", \"ü\"]\n[output]\nlicense = \"MIT\"\n\
                signer = [\"sign\", \"-k\", \"a b\"]\nsigner_key = \"k.pem\"\n\
                signer_certificates = \"c.pem\"\n\
                [[data.train]]\npath = \"a\"\n[[data.train]]\npath = \"b\"\nformat = \"text\"\n\
                revision = \"v\"\nsubset = \"s\"\nsplit = \"p\"\nfiles = [\"a*\"]\nweight = 0.5\n\
                columns = { prompt = \"q.\\\"a\\\"\", text = \"é\" }\n\
                [[data.validation]]\npath = \"c\"\ncolumns.text = \"t\"\n";
    let constant = format!("{LEAST}[train]\nlr_scheduler = \"constant\"\n");
    let share = "model.base = \"m\"\ndata.train = [{path=\"d\"}]\ndata.val_size = 0.25\n";
    for text in [LEAST, &format!("{LEAST}[lora]\n"), full, &constant, share] {
        let first = read(text).unwrap_or_else(|error| panic!("{error}"));
        let path = Path::new("another.toml");
        let again = parse(path, first.canonical.as_bytes(), &[]).unwrap();
        assert_eq!(first.config, again.config);
        assert_eq!(first.canonical, again.canonical);
        assert_eq!(first.digest, again.digest);
        assert_eq!(first.resolved, again.resolved);
    }
}

#[test]
fn comments_order_and_omitted_defaults_do_not_change_the_digest() {
    let plain = read(&format!("{LEAST}[train]\nepochs = 2\nlearning_rate = 1e-4\n")).unwrap();
    let other = read(
        "# words\nseed = 42\n[train]\nlearning_rate = 0.000_1 # rate\nepochs = 2\n\
         optimizer = 'adamw'\n[data]\ntrain = [{ format = \"auto\", path = \"d.jsonl\" }]\n\
         [model]\nbase = 'm'\n",
    )
    .unwrap();
    assert_eq!(plain.canonical, other.canonical);
    assert_eq!(plain.digest, other.digest);
    assert_ne!(plain.text_sha256, other.text_sha256);
}

/// Runs are continued only under the same digest: a change of this value ends them all.
#[test]
fn the_canonical_text_and_its_digest_are_stable() {
    let loaded = read(&format!("{LEAST}[lora]\n")).unwrap();
    let wanted = "name = \"run\"\nseed = 42\n\n[model]\nbase = \"m\"\nrevision = \"main\"\n\
        init = \"pretrained\"\n\n[data]\nval_size = 0\nmax_seq_len = 1024\npacking = true\n\
        shuffle = true\noverlong = \"truncate\"\ntrain_on = \"assistant\"\nmax_bad_rows = 0\n\
        deduplicate = false\nwindow_rows = 16000\nwindow_bytes = 67108864\n\
        prefetch_windows = 1\nsurvey_below = 67108864\n\n[[data.train]]\n\
        path = \"d.jsonl\"\nformat = \"auto\"\nweight = 1.0\n\n\
        [lora]\nr = 16\nlora_alpha = 32.0\nlora_dropout = 0.0\n\
        target_modules = \"all-linear\"\nuse_rslora = false\n\n[train]\nepochs = 1\n\
        micro_batch_size = 1\ngradient_accumulation_steps = 1\noptimizer = \"adamw\"\n\
        learning_rate = 0.0002\nlr_scheduler = \"cosine\"\nwarmup_steps = 0\n\
        min_lr_ratio = 0.0\nweight_decay = 0.01\nadam_beta1 = 0.9\nadam_beta2 = 0.999\n\
        adam_epsilon = 1e-8\nmax_grad_norm = 1.0\nrecompute = \"none\"\n\
        loss_chunk_tokens = 128\nprecision = \"auto\"\n\n[eval]\nevery_steps = 0\n\
        prompts = []\nmax_tokens = 64\ntemperature = 0.0\nmax_records = 0\n\n\
        [checkpoint]\nevery_steps = 100\nkeep_last = 2\nkeep_every = 0\nkeep_best = 0\n\
        on_disk_full = \"stop\"\nreuse = \"auto\"\nreuse_limit = 10000000000\n\n[output]\n\
        dir = \"checkpoints/run\"\nsign = true\nsbom = false\n\n[trust]\ntofu = false\n\n\
        [device]\nname = \"auto\"\nthreads = 0\n\
        parallel_micro_batches = 1\nkernels = \"fast\"\npin_kernels = false\n";
    assert_eq!(loaded.canonical, wanted);
    assert_eq!(loaded.digest.short(), "c9fd9b470898");
}

#[test]
fn every_key_says_what_its_change_does() {
    for key in KEYS.keys() {
        assert!(KEYS.known_effect(key.path).is_some(), "what does a change of `{}` do?", key.path);
    }
    assert_eq!(KEYS.effect("data.train.0.path"), Effect::Data);
    assert_eq!(KEYS.effect("data.cache_limit"), Effect::Speed);
    assert_eq!(KEYS.effect("train.max_steps"), Effect::Length);
    assert_eq!(KEYS.effect("train.learning_rate"), Effect::Weights);
    assert_eq!(KEYS.effect("eval.prompts"), Effect::Measures);
    assert_eq!(KEYS.effect("eval.what_is_new"), Effect::Weights, "nothing says that it is safe");
    assert!(KEYS.effect("gone.key").decides() && !KEYS.effect("eval.max_tokens").decides());
}

/// Keys that `config` has never heard of: an added key, a section, and one under a condition.
mod owned {
    use super::*;
    use crate::document::key::{OwnedKeys, Range, Section};

    const SWITCH: &[Key] = &[Key::new(
        "train.rule",
        ValueKind::Choice(&["plain", "odd"]),
        DefaultValue::Value("\"plain\""),
        "Which rule.",
    )
    .example("\"odd\"")
    .silent_default()];
    const BETA: &[Key] = &[Key::new(
        "odd.beta",
        ValueKind::Number(Range::closed(0.0, 1.0)),
        DefaultValue::Value("0.5"),
        "How odd.",
    )];
    const ODD: Section = Section {
        only_with: Some(("train.rule", &["odd"])),
        ..Section::new("odd", "The odd rule.", BETA).effect(Effect::Speed)
    };
    const SIDE: Section = Section {
        optional: true,
        defaults: &[("train.learning_rate", "0.25")],
        ..Section::new("side", "Something beside it.", SIDE_KEYS).effect(Effect::Weights)
    };
    const SIDE_KEYS: &[Key] = &[Key::new(
        "side.on",
        ValueKind::Boolean,
        DefaultValue::Value("true"),
        "Whether it is on.",
    )];

    fn table() -> KeyTable {
        let notes: &[_] = &[("a tool", "oddness", "`odd.beta` is that")];
        crate::config::keys(vec![
            OwnedKeys::within("train", "train.learning_rate", SWITCH),
            OwnedKeys { notes, ..OwnedKeys::section(ODD, "eval") },
            OwnedKeys::section(SIDE, "train"),
        ])
    }

    fn read(text: &str, overrides: &[&str]) -> Result<Loaded> {
        let overrides: Vec<String> = overrides.iter().map(|text| (*text).to_owned()).collect();
        let text = format!("{LEAST}{text}");
        let overrides = crate::config::of_options(&overrides);
        super::super::super::parse(&table(), Path::new("run.toml"), text.as_bytes(), overrides)
    }

    #[test]
    fn what_is_not_set_leaves_no_trace() {
        let plain = read("", &[]).unwrap();
        assert!(!plain.canonical.contains("rule") && !plain.canonical.contains("odd"));
        assert!(!plain.canonical.contains("side"));
        assert_eq!(plain.config.owned.text("train.rule"), "plain");
        let explicit = read("[train]\nrule = \"plain\"\n", &[]).unwrap();
        assert_eq!((plain.digest, plain.canonical), (explicit.digest, explicit.canonical));
    }

    #[test]
    fn what_is_set_is_rendered_in_its_place_and_read_again() {
        let text = "[odd]\nbeta = 0.25\n[train]\nrule = \"odd\"\n[side]\n";
        let loaded = read(text, &[]).unwrap();
        let shown = &loaded.canonical;
        assert!(shown.contains("\nrule = \"odd\"\nlearning_rate = 0.25\n"), "{shown}");
        assert!(shown.contains("\n[odd]\nbeta = 0.25\n\n[eval]\n"), "{shown}");
        assert!(shown.contains("\n[side]\non = true\n\n[train]\n"), "{shown}");
        assert_eq!(loaded.config.owned.number("odd.beta"), 0.25);
        assert!(loaded.config.owned.has_section("side"));
        assert!(!loaded.deciding().contains_key("odd.beta"), "it is of speed alone");
        let path = Path::new("run.toml");
        let again =
            super::super::super::parse(&table(), path, shown.as_bytes(), Vec::new()).unwrap();
        assert_eq!((&again.config, &again.canonical), (&loaded.config, shown));
    }

    #[test]
    fn a_section_without_its_condition_is_an_error_but_not_against_the_command_line() {
        let error = read("[odd]\n", &[]).unwrap_err().to_string();
        let wanted = "error[config]: `[odd]` means nothing when `train.rule` is `plain`\n  \
                      at run.toml:5:2\n\nhint: remove it, or set `rule` to `odd`";
        assert_eq!(error, wanted);
        let text = "[odd]\nbeta = 0.25\n[train]\nrule = \"odd\"\n";
        let loaded = read(text, &["train.rule=plain"]).unwrap();
        assert_eq!(loaded.digest, read("", &[]).unwrap().digest);
        assert!(loaded.config.owned.get("odd.beta").is_none());
        let error = read("[odd]\nbeta = 2\n[train]\nrule = \"odd\"\n", &[]).unwrap_err();
        says(
            error,
            snapbox::str![[r#"
error[config]: `odd.beta` must be a number of at least 0 and at most 1, not `2`
  at run.toml:6:8
"#]],
        );
    }

    #[test]
    fn errors_schema_and_template_know_them() {
        let error = read("oddness = 1\nbeta = 3\n", &[]).unwrap_err();
        says(
            error,
            snapbox::str![[r#"
error[config]: unknown key `oddness` in `[[data.train]]`
  at run.toml:5:1

hint: `oddness` is a tool's and has no key here: `odd.beta` is that

error[config]: unknown key `beta` in `[[data.train]]`
  at run.toml:6:1

hint: `beta` belongs in `[odd]`; its full name is `odd.beta`
"#]],
        );
        let schema = crate::document::schema(&table());
        assert_eq!(schema["properties"]["odd"]["properties"]["beta"]["default"], 0.5);
        let then = &schema["allOf"][0]["then"];
        assert_eq!(then["properties"]["train"]["properties"]["rule"]["enum"][0], "odd");
        assert_eq!(then["required"][0], "train");
        let text = crate::document::template(&table());
        assert!(text.contains("#[odd]\n# How odd."), "{text}");
        assert!(text.contains("[side]\n"), "{text}");
    }
}
