//! `--set key=value`.

use super::*;

#[track_caller]
fn with(overrides: &[&str]) -> RunConfig {
    read_with(LEAST, overrides).unwrap_or_else(|error| panic!("{error}")).config
}

#[track_caller]
fn refusal(overrides: &[&str]) -> String {
    read_with(LEAST, overrides).expect_err("must be refused").to_string()
}

#[test]
fn values_are_toml_and_else_strings() {
    let config = with(&[
        "train.learning_rate=1e-4",
        " seed = 7 ",
        "model.base=some/dir=x",
        "model.revision=1234",
        "output.license=\"MIT\"",
        "lora.target_modules=[\"q_proj\"]",
        "data.packing=false",
        "train.lr_scheduler=linear",
    ]);
    assert_eq!((config.train.learning_rate, config.seed), (1e-4, 7));
    assert_eq!(config.model.base, "some/dir=x");
    assert_eq!(config.model.revision, "1234");
    assert_eq!(config.output.license.as_deref(), Some("MIT"));
    assert_eq!(config.owned.texts("lora.target_modules"), ["q_proj"]);
    assert!(!config.data.packing);
    assert_eq!(config.train.lr_scheduler, Scheduler::Linear);
}

#[test]
fn the_last_override_of_a_key_holds_and_all_are_recorded() {
    let loaded = read_with(LEAST, &["seed=1", "seed=2"]).unwrap();
    assert_eq!(loaded.config.seed, 2);
    let recorded = [("seed".to_owned(), "1".to_owned()), ("seed".to_owned(), "2".to_owned())];
    assert_eq!(loaded.overrides, recorded);
}

#[test]
fn arrays_of_tables_are_replaced_entered_and_extended() {
    let whole = with(&["data.train=[{path=\"a\"},{path=\"b\",format=\"text\"}]"]);
    assert_eq!(whole.data.train.len(), 2);
    assert_eq!(whole.data.train[1].format, FormatChoice::Text);
    let entered =
        with(&["data.train.0.path=x", "data.train.1.path=y", "data.train.2={path=\"z\"}"]);
    let paths: Vec<_> = entered.data.train.iter().map(|set| set.path.as_str()).collect();
    assert_eq!(paths, ["x", "y", "z"]);
    assert_eq!(with(&["data.validation.0.path=v"]).data.validation.len(), 1);
}

#[test]
fn a_table_over_a_section_sets_its_keys() {
    let text = format!("{LEAST}[train]\nepochs = 2\nweight_decay = 0.5\n");
    let config = read_with(&text, &["train={epochs=3}", "lora={}"]).unwrap().config;
    assert_eq!(config.train.length, Length::Epochs(3));
    assert_eq!(config.owned.number("train.weight_decay"), 0.5);
    assert!(config.owned.has_section("lora"));
}

/// A run is shortened without editing its file.
#[test]
fn the_command_line_wins_over_what_it_excludes_in_the_file() {
    let text = "model.base = \"m\"\n[data]\ntrain = [{ path = \"d\" }]\nval_size = 5\n[train]\n\
                epochs = 3\nwarmup_ratio = 0.1\nlr_scheduler = \"wsd\"\ndecay_ratio = 0.5\n";
    let overrides = [
        "train.max_steps=5",
        "train.warmup_steps=2",
        "train.lr_scheduler=cosine",
        "data.validation=[{path=\"v\"}]",
    ];
    let config = read_with(text, &overrides).unwrap_or_else(|error| panic!("{error}")).config;
    assert_eq!(config.train.length, Length::Steps(5));
    assert_eq!(config.train.warmup, Warmup::Steps(2));
    assert_eq!((config.train.decay_ratio, config.data.val_size), (0.2, ValSize::None));
    assert_eq!(
        refusal(&["train.max_steps=5", "train.epochs=2"]),
        "error[config]: `train.max_steps` and `train.epochs` exclude each other\n  \
           at --set train.epochs\n\n\
         hint: keep one of the two; `train.max_steps` is given by `--set train.max_steps`"
    );
}

#[test]
fn bad_overrides_get_the_same_help_as_the_file() {
    assert_eq!(
        refusal(&[
            "train.learning_rat=1",
            "sequence_len=5",
            "epochs=2",
            "lora.r=0",
            "seed",
            "a..b=1",
            "data.train.5.path=x",
            "data.train.0.pth=x",
            "data.validation.path=x",
            "data.train.99999999999999999999.path=x",
            "train.epochs=1",
            "train.epochs.x=1",
            "eval.prompts=[\"a\"]",
            "eval.prompts.0.x=1",
        ]),
        "error[config]: unknown key `learning_rat` in `[train]`\n  at --set train.learning_rat\n\n\
         hint: did you mean `learning_rate`?\n\n\
         error[config]: unknown key `sequence_len` at the top level\n  at --set sequence_len\n\n\
         hint: `sequence_len` is axolotl's name for `data.max_seq_len`\n\n\
         error[config]: unknown key `epochs` at the top level\n  at --set epochs\n\n\
         hint: `epochs` belongs in `[train]`; its full name is `train.epochs`\n\n\
         error[config]: `lora.r` must be an integer from 1 to 65536, not `0`\n  at --set lora.r\n\n\
         error[config]: `--set seed` gives no value\n  at --set seed\n\n\
         hint: write `--set key=value`\n\n\
         error[config]: `a..b` is no key\n  at --set a..b\n\n\
         hint: a key is a dotted path such as `train.learning_rate`\n\n\
         error[config]: `data.train.5.path` leads beyond the end of `data.train`\n  \
           at --set data.train.5.path\n\n\
         hint: the next entry is `data.train.1`\n\n\
         error[config]: unknown key `pth` in `[[data.train]]`\n  at --set data.train.0.pth\n\n\
         hint: did you mean `path`?\n\n\
         error[config]: `data.validation.path` does not say which entry\n  \
           at --set data.validation.path\n\n\
         hint: write `data.validation.0.path`, counted from 0\n\n\
         error[config]: `data.train.99999999999999999999.path` leads beyond the end of \
         `data.train`\n  at --set data.train.99999999999999999999.path\n\n\
         hint: the next entry is `data.train.1`\n\n\
         error[config]: `train.epochs.x` leads into a plain value\n  at --set train.epochs.x\n\n\
         error[config]: `eval.prompts.0.x` leads into a plain value\n  at --set eval.prompts.0.x"
    );
}

#[test]
fn problems_of_the_file_come_before_those_of_the_command_line() {
    let error = read_with(&format!("{LEAST}[train]\nepoch = 1\n"), &["sed=1"]).unwrap_err();
    assert_eq!(error.place.as_ref().unwrap().to_string(), "run.toml:6:1");
    assert_eq!(error.others[0].place.as_ref().unwrap().to_string(), "--set sed");
}
