//! What people see, word for word.

use snapbox::data::Inline;

use super::*;

/// A config and what is said of it.
#[track_caller]
fn says(text: &str, snapshot: Inline) {
    crate::snapshots::says(message(text), snapshot);
}

#[test]
fn devices_have_names_and_some_have_numbers() {
    use crate::config::{DeviceChoice, GraphicsApi};
    for (name, wanted) in [
        ("auto", DeviceChoice::Auto),
        ("gpu", DeviceChoice::Gpu(None)),
        ("gpu:12", DeviceChoice::Gpu(Some(12))),
        ("vulkan:0", DeviceChoice::Api(GraphicsApi::Vulkan, Some(0))),
        ("gl", DeviceChoice::Api(GraphicsApi::Gl, None)),
        ("software", DeviceChoice::Software),
    ] {
        assert_eq!(DeviceChoice::from_name(name), Some(wanted));
        assert_eq!(wanted.to_string(), name);
    }
    for name in
        ["", "gpu:", "gpu:-1", "gpu:1000", "gpu:1:2", "cpu:0", "auto:1", "software:0", "tpu"]
    {
        assert_eq!(DeviceChoice::from_name(name), None, "{name}");
    }
    let error = |value: &str| {
        let set = [format!("device.name={value}")];
        super::parse(Path::new("run.toml"), LEAST.as_bytes(), &set).unwrap_err().to_string()
    };
    crate::snapshots::each_says(
        ["vulcan:1", "gpu:one"].map(error),
        snapbox::str![[r#"
error[config]: `device.name` must be one of `auto`, `cpu`, `gpu`, `vulkan`, `metal`, `dx12`, `gl`, `software`, not `"vulcan:1"`
  at --set device.name

hint: did you mean `vulkan`?
error[config]: `device.name` must be one of `auto`, `cpu`, `gpu`, `vulkan`, `metal`, `dx12`, `gl`, `software`, not `"gpu:one"`
  at --set device.name

hint: a number may follow `gpu`, `vulkan`, `metal`, `dx12` and `gl`, as in `gpu:1`; it counts from 0
"#]],
    );
}

#[test]
fn a_misspelt_key_gets_the_nearest_name() {
    says(
        &format!("{LEAST}[train]\n  learning_rat = 1e-4\n"),
        snapbox::str![[r#"
error[config]: unknown key `learning_rat` in `[train]`
  at run.toml:6:3

hint: did you mean `learning_rate`?
"#]],
    );
}

#[test]
fn a_misspelt_section_gets_the_nearest_name_and_its_keys_are_not_missing() {
    says(
        "[modle]\nbase = \"m\"\n[[data.train]]\npath = \"d\"\n",
        snapbox::str![[r#"
error[config]: unknown section `[modle]`
  at run.toml:1:2

hint: did you mean `[model]`?
"#]],
    );
    says(
        &format!("{LEAST}[banana]\nx = 1\n"),
        snapbox::str![[r#"
error[config]: unknown section `[banana]`
  at run.toml:5:2

hint: the sections are `model`, `data`, `lora`, `train`, `dpo`, `simpo`, `cpo`, `orpo`, `kto`, `classification`, `reward`, `grpo`, `distillation`, `eval`, `checkpoint`, `output`, `trust`, `device`
"#]],
    );
}

#[test]
fn a_key_that_is_like_no_other_gets_the_list() {
    says(
        &format!("{LEAST}[checkpoint]\nbanana = 1\n"),
        snapbox::str![[r#"
error[config]: unknown key `banana` in `[checkpoint]`
  at run.toml:6:1

hint: the keys in `[checkpoint]` are `every_steps`, `keep_last`, `keep_every`, `keep_best`, `disk_budget`, `on_disk_full`, `reuse`, `reuse_limit`, `reuse_store`
"#]],
    );
}

#[test]
fn a_key_in_the_wrong_section_is_told_where_it_belongs() {
    says(
        &format!("epochs = 2\n{LEAST}format = \"text\"\nevery_steps = 5\nseed = 1\n"),
        snapbox::str![[r#"
error[config]: unknown key `epochs` at the top level
  at run.toml:1:1

hint: `epochs` belongs in `[train]`; its full name is `train.epochs`

error[config]: unknown key `every_steps` in `[[data.train]]`
  at run.toml:7:1

hint: `every_steps` belongs in `[eval]` or in `[checkpoint]`; its full name is `eval.every_steps` or `checkpoint.every_steps`

error[config]: unknown key `seed` in `[[data.train]]`
  at run.toml:8:1

hint: `seed` belongs at the top level; its full name is `seed`
"#]],
    );
    says(
        "[model]\nbase = \"m\"\n[data]\npath = \"x\"\n",
        snapbox::str![[r#"
error[config]: `data.train` is missing
  at run.toml:3:2

hint: add `[[data.train]]` and below it `path = "datasets/messages.jsonl"`

error[config]: unknown key `path` in `[data]`
  at run.toml:4:1

hint: `path` belongs in `[[data.train]]`
"#]],
    );
}

#[test]
fn names_of_other_tools_are_recognised() {
    let hint = |name: &str| {
        let text = message(&format!("{LEAST}[train]\n{name} = 1\n"));
        text.split_once("hint: ").map(|(_, hint)| hint.to_owned()).unwrap_or(text)
    };
    for (name, wanted) in [
        ("sequence_len", "`sequence_len` is axolotl's name for `data.max_seq_len`"),
        ("cutoff_len", "`cutoff_len` is LLaMA-Factory's name for `data.max_seq_len`"),
        ("max_seq_length", "`max_seq_length` is mlx-lm's name for `data.max_seq_len`"),
        ("max_length", "`max_length` is TRL's name for `data.max_seq_len`"),
        ("packed", "`packed` is torchtune's name for `data.packing`"),
        ("datasets", "`datasets` is axolotl's name for `[[data.train]]`"),
        ("lr", "`lr` is torchtune's name for `train.learning_rate`"),
        (
            "num_train_epochs",
            "`num_train_epochs` is TRL and LLaMA-Factory's name for `train.epochs`",
        ),
        ("load_in_4bit", "`load_in_4bit` is axolotl and TRL's name for `model.weight_format`"),
        (
            "push_to_hub",
            "`push_to_hub` is axolotl, TRL and LLaMA-Factory's and has no key here: `firebrand \
             push` uploads an artifact",
        ),
        (
            "group_by_length",
            "`group_by_length` is axolotl, TRL and LLaMA-Factory's and has no key here: \
             `data.packing` fills rows, so that little is padded",
        ),
    ] {
        assert_eq!(hint(name), wanted);
    }
    let every_name = KEYS.keys().flat_map(|key| key.names.iter().map(move |name| (key, name)));
    for (key, (_, name)) in every_name.filter(|(_, (_, name))| !name.contains('.')) {
        let hint = hint(name);
        assert!(
            hint.contains(&format!("name for `{}`", key.path)) || hint.contains("[["),
            "{hint}"
        );
    }
}

#[test]
fn sections_of_other_tools_are_explained_key_by_key() {
    says(
        &format!(
            "{LEAST}[lora_parameters]\nrank = 8\nscale = 20.0\nnothing_known = 1\n\
             [optimizer]\n_component_ = \"torch.optim.AdamW\"\n"
        ),
        snapbox::str![[r#"
error[config]: unknown key `rank` in `[lora_parameters]`
  at run.toml:6:1

hint: `lora_parameters.rank` is mlx-lm's name for `lora.r`

error[config]: unknown key `scale` in `[lora_parameters]`
  at run.toml:7:1

hint: `scale` is mlx-lm's and has no key here: `lora.lora_alpha` is that times `lora.r`

error[config]: unknown key `nothing_known` in `[lora_parameters]`
  at run.toml:8:1

hint: the sections are `model`, `data`, `lora`, `train`, `dpo`, `simpo`, `cpo`, `orpo`, `kto`, `classification`, `reward`, `grpo`, `distillation`, `eval`, `checkpoint`, `output`, `trust`, `device`

error[config]: unknown key `_component_` in `[optimizer]`
  at run.toml:10:1

hint: `optimizer._component_` is torchtune's name for `train.optimizer`
"#]],
    );
}

#[test]
fn wrong_types_say_what_is_wanted() {
    says(
        "[model]\nbase = 5\n[data]\ntrain = [\"a.jsonl\"]\nmax_seq_len = \"1024\"\n\
         packing = \"true\"\nval_size = 1.0\n[data.validation]\npath = \"x\"\n\
         [lora]\ntarget_modules = \"q_proj\"\nr = 8.0\n[eval]\nprompts = \"hello\"\n",
        snapbox::str![[r#"
error[config]: `model.base` must be a string on one line, not `5`
  at run.toml:2:8

hint: write it in quotes: `"5"`

error[config]: `data.train.0` must be a table, not `"a.jsonl"`
  at run.toml:4:10

hint: write `{ path = "a.jsonl" }`

error[config]: `data.max_seq_len` must be an integer from 8 to 131072, not `"1024"`
  at run.toml:5:15

hint: write it without quotes: `1024`

error[config]: `data.packing` must be `true` or `false`, not `"true"`
  at run.toml:6:11

hint: write it without quotes: `true`

error[config]: `data.val_size` must be 0, a share between 0 and 1, or a number of records up to 1000000000, not `1.0`
  at run.toml:7:12

hint: for a number of records write `1`

error[config]: `data.validation` must be an array of tables, not a table
  at run.toml:8:1

hint: write `[[data.validation]]`, in double brackets

error[config]: `data.val_size` and `data.validation` exclude each other
  at run.toml:8:1

hint: keep one of the two; `data.val_size` is given in line 7

error[config]: `lora.target_modules` must be `all-linear` or an array of module names, not `"q_proj"`
  at run.toml:11:18

hint: write `["q_proj"]`

error[config]: `lora.r` must be an integer from 1 to 65536, not `8.0`
  at run.toml:12:5

hint: write `8`

error[config]: `eval.prompts` must be an array of strings, not `"hello"`
  at run.toml:14:11

hint: write `["hello"]`
"#]],
    );
}

#[test]
fn sections_that_are_no_sections_are_told_so() {
    says(
        "model = \"some/model\"\n[[data.train]]\npath = \"d\"\n[[device]]\nname = \"cpu\"\n",
        snapbox::str![[r#"
error[config]: `model` must be a section, not `"some/model"`
  at run.toml:1:9

hint: write `[model]` on a line of its own, and its keys below it

hint: the base model itself is `base` in `[model]`

error[config]: `device` must be one section, not an array
  at run.toml:4:1

hint: write `[device]`, in single brackets, once
"#]],
    );
}

#[test]
fn values_out_of_range_say_the_range() {
    says(
        &format!(
            "{LEAST}[lora]\nr = 0\nlora_alpha = nan\nlora_dropout = 1\n\
             target_modules = [\"q\", \"q\", \"\"]\n[train]\nadam_epsilon = inf\n\
             [checkpoint]\nkeep_last = 1\n"
        ),
        snapbox::str![[r#"
error[config]: `lora.r` must be an integer from 1 to 65536, not `0`
  at run.toml:6:5

error[config]: `lora.lora_alpha` must be a number above 0 and at most 1000000, not `nan`
  at run.toml:7:14

error[config]: `lora.lora_dropout` must be a number of at least 0 and below 1, not `1`
  at run.toml:8:16

error[config]: `lora.target_modules` names `"q"` twice
  at run.toml:9:24

error[config]: `lora.target_modules.2` must not be empty
  at run.toml:9:29

error[config]: `train.adam_epsilon` must be a number above 0 and at most 1, not `inf`
  at run.toml:11:16

error[config]: `checkpoint.keep_last` must be an integer from 2 to 1000000000, not `1`
  at run.toml:13:13
"#]],
    );
}

#[test]
fn unknown_choices_get_the_nearest_one() {
    says(
        &format!("{LEAST}format = \"mesages\"\n[train]\noptimizer = \"sgd\"\n"),
        snapbox::str![[r#"
error[config]: `data.train.0.format` must be one of `auto`, `messages`, `sharegpt`, `alpaca`, `completion`, `text`, `preference`, not `"mesages"`
  at run.toml:5:10

hint: did you mean `messages`?
"#]],
    );
}

#[test]
fn conflicts_name_both_keys_and_their_places() {
    says(
        "[model]\nbase = \"m\"\n[data]\nval_size = 0.1\n[[data.train]]\npath = \"d\"\n\
         [[data.validation]]\npath = \"v\"\n[train]\nmax_steps = 5\nepochs = 1\n\
         warmup_steps = 1\nwarmup_ratio = 0.1\nlr_scheduler = \"constant\"\n\
         min_lr_ratio = 0.1\ndecay_ratio = 0.1\n",
        snapbox::str![[r#"
error[config]: `data.val_size` and `data.validation` exclude each other
  at run.toml:7:1

hint: keep one of the two; `data.val_size` is given in line 4

error[config]: `train.max_steps` and `train.epochs` exclude each other
  at run.toml:11:10

hint: keep one of the two; `train.max_steps` is given in line 10

error[config]: `train.warmup_ratio` and `train.warmup_steps` exclude each other
  at run.toml:13:16

hint: keep one of the two; `train.warmup_steps` is given in line 12

error[config]: `train.min_lr_ratio` means nothing when `train.lr_scheduler` is `constant`
  at run.toml:15:16

hint: remove it, or set `lr_scheduler` to one of `linear`, `cosine`, `cosine-with-restarts`, `polynomial`, `wsd`

error[config]: `train.decay_ratio` means nothing when `train.lr_scheduler` is `constant`
  at run.toml:16:15

hint: remove it, or set `lr_scheduler` to `wsd`
"#]],
    );
    says(
        &format!("{LEAST}[train]\ndecay_ratio = 0.1\n"),
        snapbox::str![[r#"
error[config]: `train.decay_ratio` means nothing when `train.lr_scheduler` is `cosine`
  at run.toml:6:15

hint: remove it, or set `lr_scheduler` to `wsd`
"#]],
    );
}

#[test]
fn what_must_be_given_is_asked_for() {
    says(
        "",
        snapbox::str![[r#"
error[config]: `model.base` is missing
  at run.toml

hint: add `[model]` and below it `base = "checkpoints/base-tiny"`

error[config]: `data.train` is missing
  at run.toml

hint: add `[[data.train]]` and below it `path = "datasets/messages.jsonl"`
"#]],
    );
    says(
        "[model]\n[data]\ntrain = []\n[[data.validation]]\npth = \"x\"\n[[data.validation]]\n",
        snapbox::str![[r#"
error[config]: `model.base` is missing
  at run.toml:1:2

hint: for instance `base = "checkpoints/base-tiny"`

error[config]: `data.train` must not be empty
  at run.toml:3:9

hint: add `[[data.train]]` and below it `path = "datasets/messages.jsonl"`

error[config]: unknown key `pth` in `[[data.validation]]`
  at run.toml:5:1

hint: did you mean `path`?

error[config]: `data.validation.1.path` is missing
  at run.toml:6:1

hint: for instance `path = "datasets/messages.jsonl"`
"#]],
    );
}

#[test]
fn duplicate_keys_and_sections_are_refused() {
    says(
        &format!("seed = 1\nseed = 2\n{LEAST}[train]\nepochs = 1\n[train]\nmicro_batch_size = 0\n"),
        snapbox::str![[r#"
error[config]: `seed` is given twice
  at run.toml:2:1

hint: keep one of the two

error[config]: the section `[train]` is opened twice
  at run.toml:9:2

hint: put all its keys below one `[train]`

error[config]: `train.micro_batch_size` must be an integer from 1 to 65536, not `0`
  at run.toml:10:20
"#]],
    );
}

#[test]
fn syntax_errors_do_not_hide_other_problems() {
    says(
        "sed = 1\n[train]\nlr_scheduler = cosine\nepochs = 0\noptimizer = \n\
         learning_rate = 1e\nmax_grad_norm = -1\n[data]\npacking = True\n",
        snapbox::str![[r#"
error[config]: unknown key `sed` at the top level
  at run.toml:1:1

hint: did you mean `seed`?

error[config]: not valid TOML: `cosine` is not a value
  at run.toml:3:16

hint: write `"cosine"`

error[config]: `train.epochs` must be an integer from 1 to 1000000000, not `0`
  at run.toml:4:10

error[config]: not valid TOML: a value is missing
  at run.toml:5:13

error[config]: not valid TOML: invalid exponent, expected digits
  at run.toml:6:19

error[config]: `train.max_grad_norm` must be a number of at least 0 and at most 1000000000, not `-1`
  at run.toml:7:17

error[config]: not valid TOML: `True` is not a value
  at run.toml:9:11

hint: write `true`
"#]],
    );
}

/// After an unclosed bracket the rest of the file reads as something that nobody wrote.
#[test]
fn nothing_is_said_of_what_syntax_errors_hide() {
    says(
        "seed = -1\n[model\nbase = 5\n[train]\nepochs = 0\n",
        snapbox::str![[r#"
error[config]: `seed` must be an integer from 0 to 9223372036854775807, not `-1`
  at run.toml:1:8

error[config]: not valid TOML: unclosed table, expected `]`
  at run.toml:2:7
"#]],
    );
    says(
        "[eval]\nprompts = [\"a\",\nmax_tokens = 0\n[train]\nepochs = 0\n",
        snapbox::str![[r#"
error[config]: not valid TOML: unexpected `=` in array, expected value, `]`
  at run.toml:3:12

hint: an array is not closed here or before: add the missing `]`
"#]],
    );
}

#[test]
fn other_languages_are_recognised_by_the_name_of_the_file() {
    let error = parse(Path::new("lora.yml"), b"model:\n  base: x\n", &[]).unwrap_err();
    crate::snapshots::says(
        error,
        snapbox::str![[r#"
error[config]: not valid TOML: key with no value, expected `=`
  at lora.yml:1:7

hint: the config is TOML: `[section]` lines, and `key = value` below them
"#]],
    );
}
