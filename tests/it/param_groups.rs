//! Groups of parameters with a rate and a weight decay of their own, in whole runs; their steps are
//! compared with those of PyTorch in `parity::steps`, and `resume` stops them.

use snapbox::str;

use crate::common::{Run, says};

const GROUPS: &str = r#"
[[train.param_groups]]
modules = ["embed_tokens"]
learning_rate = 1e-3
weight_decay = 0.0

[[train.param_groups]]
modules = ["self_attn", "layers\\.1\\..*"]
learning_rate = 2e-2
"#;

fn with_groups(config: &str, groups: &str) -> String {
    format!("{config}{groups}")
}

#[test]
fn groups_are_in_the_lineage_and_change_what_is_trained() {
    let run = Run::new();
    run.write("grouped.toml", &with_groups(&run.read("tiny.toml"), GROUPS));
    for config in ["tiny.toml", "grouped.toml"] {
        run.succeeds(&["train", config, "--quiet"]);
    }
    let statement = run.read("checkpoints/grouped/artifact/lineage.statement.json");
    for setting in [
        r#""train.param_groups.0.modules":"[\"embed_tokens\"]""#,
        r#""train.param_groups.0.learning_rate":"0.001""#,
        r#""train.param_groups.0.weight_decay":"0.0""#,
        r#""train.param_groups.1.learning_rate":"0.02""#,
    ] {
        let plain: String = statement.split_whitespace().collect();
        assert!(plain.contains(setting), "{setting}: {statement}");
    }
    assert!(!run.read("checkpoints/tiny/artifact/lineage.statement.json").contains("param_groups"));
    let told = run.stderr_of(&["plan", "grouped.toml"]);
    let groups = told.lines().filter(|line| line.trim_start().starts_with("group "));
    says(
        groups.map(|line| format!("{line}\n")).collect::<String>(),
        str![[r#"
       group  0.02 M parameters of embed_tokens: learning rate 0.001, weight decay 0.0
       group  0.01 M parameters of self_attn, layers\.1\..*: learning rate 0.02

"#]],
    );
    // The rate that is told is that of the parameters without a group.
    let rates = |name: &str| -> Vec<f64> {
        let metrics = run.read(&format!("checkpoints/{name}/metrics.jsonl"));
        let steps = firebrand::checkpoint::steps_of(metrics.as_bytes()).unwrap();
        steps.iter().map(|report| report.learning_rate).collect()
    };
    assert_eq!(rates("grouped"), rates("tiny"));
}

#[test]
fn a_group_that_has_nothing_to_do_is_refused_before_anything_is_trained() {
    let run = Run::new().with_base();
    let group = |lines: &str| format!("[[train.param_groups]]\n{lines}\n");
    run.write(
        "typo.toml",
        &with_groups(
            &run.read("tiny.toml"),
            &[
                group("modules = [\"q_prj\", \"mlp\"]"),
                group("modules = [\"up_proj\"]\nweight_decay = 0.5"),
            ]
            .concat(),
        ),
    );
    run.fails_with(
        2,
        &["plan", "typo.toml", "--quiet"],
        str![[r#"
error[config]: `train.param_groups.0` has neither `learning_rate` nor `weight_decay`

error[config]: `q_prj` in `train.param_groups.0.modules` fits no parameter that is trained

hint: did you mean `q_proj`?

error[config]: `train.param_groups.1` decides for no parameter
  because all that it fits are of a group before it

"#]],
    );
    // Beside an adapter its parameters are all that is trained.
    run.write(
        "frozen.toml",
        &with_groups(
            &run.read("lora.toml"),
            &group("modules = [\"embed_tokens\"]\nlearning_rate = 1e-5"),
        ),
    );
    run.fails_with(2, &["plan", "frozen.toml", "--quiet"], str![[r#"
error[config]: `embed_tokens` in `train.param_groups.0.modules` fits no parameter that is trained

hint: there are: down_proj, gate_proj, k_proj, layers, lora_A, lora_B, mlp, model, o_proj, q_proj, self_attn, up_proj, v_proj

"#]]);
    run.write(
        "odd.toml",
        &with_groups(
            &run.read("tiny.toml"),
            &group("modules = [\"(\"]\nlearning_rate = 2\nmomentum = 1"),
        ),
    );
    run.fails_with(2, &["plan", "odd.toml", "--quiet"], str![[r#"
error[config]: `train.param_groups.0.modules.0` must be a name or a regular expression of modules, not `"("`
  at odd.toml:27:12
  because unclosed group

error[config]: `train.param_groups.0.learning_rate` must be a number above 0 and at most 1, not `2`
  at odd.toml:28:17

error[config]: unknown key `momentum` in `[[train.param_groups]]`
  at odd.toml:29:1

hint: did you mean `train.sgd_momentum`?

"#]]);
}
