//! Every setting that is accepted changes something that a user can see: for each key, two runs
//! that differ in it alone behave differently.

use std::collections::BTreeSet;

use crate::common::{Run, say_not_tested};
use firebrand::document::key::ValueKind;

/// Overrides that make a run in which the key below matters, and two values of the key. An empty
/// value leaves the key out.
struct Change {
    key: &'static str,
    with: &'static [&'static str],
    one: &'static str,
    other: &'static str,
}

const fn change(key: &'static str, one: &'static str, other: &'static str) -> Change {
    Change { key, with: &[], one, other }
}

const fn under(
    with: &'static [&'static str],
    key: &'static str,
    one: &'static str,
    other: &'static str,
) -> Change {
    Change { key, with, one, other }
}

/// Three tokens of random text a prompt, so that what is generated shows.
const TALK: &[&str] = &["eval.temperature=1.5", "eval.prompts=[\"What?\"]"];
const GROUPED: &[&str] =
    &["train.param_groups=[{ modules = [\"self_attn\"], learning_rate = 1e-2 }]"];
/// After the first steps it only gets worse.
const RUINED: &[&str] = &["eval.every_steps=1", "train.learning_rate=1"];
const SPLIT: &[&str] = &["data.validation=[]"];
/// The digest of the fourth conversation of the training data.
const FOURTH_RECORD: &str =
    "[\"2d23eef93105b325827f41c0034a9a04ffaf1eb97aa39dfac969fdf506d23a6d\"]";
const EPOCHS: &[&str] = &["train.epochs=2"];
const FOLDER: &[&str] = &["data.train.0.path=set"];
const VALIDATION: &[&str] = &["data.validation.0.path=set"];
const ASKING: &[&str] = &["data.chat_template=asking.jinja"];
const CALLS: &[&str] = &["data.train.0.path=calls.jsonl", "data.chat_template=plain.jinja"];
const PAIRS: &[&str] = &["data.train.0.path=pairs.jsonl", "data.validation=[]"];
const ORPO: &[&str] =
    &["data.train.0.path=pairs.jsonl", "data.validation=[]", "train.objective=orpo"];
const DPO: &[&str] =
    &["data.train.0.path=pairs.jsonl", "data.validation=[]", "train.objective=dpo", "lora={}"];
const SIMPO: &[&str] =
    &["data.train.0.path=pairs.jsonl", "data.validation=[]", "train.objective=simpo"];
const CPO: &[&str] =
    &["data.train.0.path=pairs.jsonl", "data.validation=[]", "train.objective=cpo"];
const KTO: &[&str] =
    &["data.train.0.path=labels.jsonl", "data.validation=[]", "train.objective=kto", "lora={}"];
/// Answers to other prompts become likelier, too.
const KTO_LIKED: &[&str] = &[
    "data.train.0.path=labels.jsonl",
    "data.validation=[]",
    "train.objective=kto",
    "lora={}",
    "kto.desirable_weight=5",
];
const CLASSIFY: &[&str] =
    &["data.train.0.path=scored.jsonl", "data.validation=[]", "train.objective=classification"];
const CLASSIFY_NAMED: &[&str] = &[
    "data.train.0.path=scored.jsonl",
    "data.validation=[]",
    "train.objective=classification",
    "classification.labels=[\"1\", \"2\"]",
];
const CLASSIFY_HELD_OUT: &[&str] = &[
    "data.train.0.path=scored.jsonl",
    "data.validation=[]",
    "data.val_size=4",
    "train.objective=classification",
];
const REWARD: &[&str] =
    &["data.train.0.path=pairs.jsonl", "data.validation=[]", "train.objective=reward"];
const REWARD_MARGINS: &[&str] = &[
    "data.train.0.path=margins.jsonl",
    "data.validation=[]",
    "data.on_unused=warn",
    "train.objective=reward",
];
/// A reward that is nearly different for each completion: the length of what the program is told.
const LENGTHS: &str = "grpo.reward=[{ name = \"length\", kind = \"command\", command = [\"sh\", \"-c\", \
                       \"while read -r line; do echo ${#line}; done\"] }]";
const GRPO: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.num_generations=3",
    "eval.prompts=[]",
    LENGTHS,
];
const GRPO_NEAR: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.beta=1",
    LENGTHS,
];
/// The second step with the same completions is far from the first one.
const GRPO_AGAIN: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.num_iterations=4",
    "grpo.epsilon=0.01",
    "train.warmup_steps=0",
    "train.learning_rate=0.1",
    LENGTHS,
];
const GRPO_PLAIN: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.scale_rewards=none",
    LENGTHS,
];
const GRPO_REGEX: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.reward=[{ name = \"found\", kind = \"regex\", pattern = \".\" }]",
];
/// An empty text is equal to itself, and no JSON.
const GRPO_EXACT: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.reward=[{ name = \"same\", kind = \"exact\", extract = \"()\" }]",
];
const GRPO_SCHEMA: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.reward=[{ name = \"fits\", kind = \"json_schema\", schema = \"nowhere.json\" }]",
];
/// What a sandbox tells of itself in the place of code.
const GRPO_CODE: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.reward=[{ name = \"runs\", kind = \"code\", command = [\"sh\", \"-c\", \"test $(ulimit -t) \
     = 7 || test $(ulimit -v) = 262144\"] }]",
];
const GRPO_TESTS: &[&str] = &[
    "data.validation=[]",
    "train.objective=grpo",
    "lora={}",
    "grpo.max_completion_length=6",
    "grpo.reward=[{ name = \"long\", kind = \"code\", command = [\"sh\", \"-c\", \"test $(wc -l) -ge \
     2\"] }]",
];
const DISTILLATION: &[&str] =
    &["train.objective=distillation", "distillation.teacher=checkpoints/tiny"];
const ON_POLICY: &[&str] = &[
    "train.objective=distillation",
    "distillation.teacher=checkpoints/tiny",
    "distillation.lmbda=1",
    "distillation.max_new_tokens=6",
];
const WEIGHED: &[&str] = &["data.train.0.path=weighed.jsonl"];
const TWO_SETS: &[&str] = &[
    "data.train=[{ path = \"data.jsonl\" }, { path = \"validation.jsonl\" }]",
    "data.validation=[]",
];
const RENAMED: &[&str] = &["data.train.0.path=renamed.jsonl"];

const CHANGES: &[Change] = &[
    change("name", "one", "two"),
    change("seed", "1", "2"),
    change("model.base", "base", "other-base"),
    change("model.revision", "main", "v2"),
    under(&["lora={}"], "model.adapter", "", "nowhere"),
    under(
        &["model.base=checkpoints/tiny", "model.init=pretrained", "lora={}"],
        "model.base_adapters",
        "[]",
        "[\"nowhere\"]",
    ),
    under(
        &["model.base=checkpoints/tiny", "model.init=pretrained"],
        "model.base_id",
        "",
        "acme/tiny",
    ),
    under(&["model.base=checkpoints/tiny"], "model.init", "random", "pretrained"),
    change("model.add_tokens", "[]", "[\"plus\"]"),
    change("model.add_special_tokens", "[]", "[\"plus\"]"),
    change("model.weight_format", "auto", "int8"),
    change("model.weight_format", "int8", "nf4"),
    change("model.weight_format", "auto", "dequantised"),
    change("data.train.path", "data.jsonl", "validation.jsonl"),
    change("data.train.format", "messages", "alpaca"),
    change("data.train.revision", "", "v2"),
    under(FOLDER, "data.train.subset", "", "odd"),
    under(FOLDER, "data.train.split", "train", "test"),
    under(FOLDER, "data.train.files", "[\"test.jsonl\"]", "[\"t*.jsonl\"]"),
    under(RENAMED, "data.train.columns", "", "{ messages = \"talk\" }"),
    under(EPOCHS, "data.train.weight", "1", "2.5"),
    change("data.validation.revision", "", "v2"),
    under(VALIDATION, "data.validation.subset", "", "odd"),
    under(VALIDATION, "data.validation.split", "train", "test"),
    under(VALIDATION, "data.validation.files", "[\"test.jsonl\"]", "[\"t*.jsonl\"]"),
    under(
        &["data.validation.0.path=renamed.jsonl"],
        "data.validation.columns",
        "",
        "{ messages = \"talk\" }",
    ),
    under(RENAMED, "data.columns", "", "{ messages = \"talk\" }"),
    change("data.validation.path", "validation.jsonl", "text.jsonl"),
    under(&["data.validation.0.path=text.jsonl"], "data.validation.format", "text", "alpaca"),
    under(SPLIT, "data.val_size", "2", "5"),
    under(EPOCHS, "data.max_seq_len", "96", "200"),
    under(EPOCHS, "data.packing", "true", "false"),
    change("data.shuffle", "true", "false"),
    under(WEIGHED, "data.order", "length", "quality"),
    under(WEIGHED, "data.sample_weight", "", "quality"),
    under(TWO_SETS, "data.mixing_temperature", "1", "3"),
    under(&["data.max_seq_len=56"], "data.overlong", "truncate", "drop"),
    change("data.train_on", "assistant", "all"),
    under(&["data.train.0.path=turns.jsonl"], "data.train_on", "assistant", "last_turn"),
    change("data.chat_template", "", "plain.jinja"),
    under(ASKING, "data.template_args", "{ tone = \"dry\" }", "{ tone = \"kind\" }"),
    under(CALLS, "data.on_unused", "", "warn"),
    under(&["data.train.0.path=broken.jsonl"], "data.max_bad_rows", "0", "1"),
    change("data.window_rows", "16000", "5"),
    change("data.window_bytes", "64 MiB", "1 KiB"),
    change("data.prefetch_windows", "1", "3"),
    change("data.survey_below", "64 MiB", "0"),
    change("data.cache_limit", "", "0"),
    under(&["data.train.0.path=twice.jsonl"], "data.deduplicate", "false", "true"),
    change("data.retracted", "[]", FOURTH_RECORD),
    change("lora.r", "4", "2"),
    change("lora.lora_alpha", "8", "16"),
    change("lora.lora_dropout", "0", "0.5"),
    change("lora.target_parameters", "[]", "[\"mlp.experts.down_proj\"]"),
    change("lora.target_modules", "all-linear", "[\"q_proj\"]"),
    change("lora.layers_to_transform", "[]", "[1]"),
    change("lora.use_rslora", "false", "true"),
    change("lora.rank_pattern", "{}", "{ q_proj = 2 }"),
    change("lora.loraplus_lr_ratio", "1", "16"),
    change("lora.modules_to_save", "[]", "[\"lm_head\"]"),
    change("lora.trainable_token_indices", "[]", "[1]"),
    change("lora.trainable_tokens", "[]", "[\"<|im_end|>\"]"),
    under(&["model.base=biased", "model.init=random"], "lora.bias", "none", "lora_only"),
    change("lora.init_lora_weights", "default", "pissa"),
    change("lora.alpha_pattern", "{}", "{ q_proj = 2 }"),
    change("lora.use_dora", "false", "true"),
    under(PAIRS, "train.objective", "sft", "orpo"),
    under(ORPO, "orpo.beta", "0.1", "3"),
    under(DPO, "dpo.beta", "0.1", "3"),
    under(DPO, "dpo.loss_type", "sigmoid", "ipo"),
    under(DPO, "dpo.label_smoothing", "0", "0.3"),
    under(DPO, "dpo.ld_alpha", "1", "0"),
    under(DPO, "dpo.rpo_alpha", "0", "1"),
    under(CLASSIFY, "classification.problem_type", "single_label_classification", "regression"),
    under(CLASSIFY, "classification.labels", "[\"1\", \"2\"]", "[\"2\", \"1\"]"),
    under(CLASSIFY_NAMED, "classification.class_weights", "{}", "{ \"2\" = 3.0 }"),
    under(CLASSIFY_HELD_OUT, "classification.calibrate", "false", "true"),
    under(REWARD, "reward.center_rewards_coefficient", "0", "0.5"),
    under(REWARD_MARGINS, "reward.margin", "low", "high"),
    under(KTO, "kto.beta", "0.1", "3"),
    under(KTO_LIKED, "kto.loss_type", "kto", "apo_zero_unpaired"),
    under(KTO, "kto.desirable_weight", "1", "2"),
    under(KTO, "kto.undesirable_weight", "1", "2"),
    under(GRPO, "grpo.num_generations", "3", "2"),
    under(GRPO, "grpo.dynamic_sampling", "1", "2"),
    under(GRPO, "grpo.max_completion_length", "6", "3"),
    under(GRPO, "grpo.temperature", "1", "2"),
    under(GRPO, "grpo.top_p", "1", "0.3"),
    under(GRPO, "grpo.top_k", "0", "2"),
    under(GRPO, "grpo.num_iterations", "1", "2"),
    under(GRPO, "grpo.loss_type", "dapo", "dr_grpo"),
    under(GRPO_AGAIN, "grpo.importance_sampling_level", "token", "sequence"),
    under(GRPO_AGAIN, "grpo.epsilon", "0.01", "0.5"),
    under(GRPO_AGAIN, "grpo.epsilon_high", "", "0.5"),
    under(GRPO, "grpo.beta", "0", "1"),
    under(GRPO_NEAR, "grpo.kl_estimator", "k3", "k2"),
    under(GRPO, "grpo.scale_rewards", "group", "none"),
    under(GRPO_PLAIN, "grpo.baseline", "mean", "leave_one_out"),
    under(GRPO, "grpo.mask_truncated_completions", "false", "true"),
    under(GRPO_REGEX, "grpo.reward.name", "found", "seen"),
    under(GRPO_PLAIN, "grpo.reward.weight", "1", "-1"),
    under(GRPO_REGEX, "grpo.reward.kind", "regex", "exact"),
    under(GRPO_EXACT, "grpo.reward.compare", "text", "json"),
    under(GRPO_SCHEMA, "grpo.reward.schema", "nowhere.json", "data.jsonl"),
    under(GRPO_REGEX, "grpo.reward.pattern", ".", "^$"),
    under(GRPO, "grpo.reward.command", "[\"cat\"]", "[\"no-such-program\"]"),
    under(GRPO, "grpo.reward.timeout_seconds", "600", "0"),
    under(GRPO_REGEX, "grpo.reward.extract", "", "nothing"),
    under(GRPO_CODE, "grpo.reward.run_seconds", "10", "7"),
    under(GRPO_CODE, "grpo.reward.run_memory", "512 MiB", "256 MiB"),
    under(GRPO_TESTS, "grpo.reward.append_reference", "true", "false"),
    under(&["train.objective=distillation"], "distillation.teacher", "nowhere", "checkpoints/tiny"),
    under(DISTILLATION, "distillation.beta", "0.5", "0"),
    under(DISTILLATION, "distillation.temperature", "1", "3"),
    under(DISTILLATION, "distillation.top_k", "64", "2"),
    under(DISTILLATION, "distillation.kd_ratio", "1", "0.5"),
    under(DISTILLATION, "distillation.lmbda", "0", "1"),
    under(ON_POLICY, "distillation.sampling_temperature", "0.9", "2"),
    under(ON_POLICY, "distillation.max_new_tokens", "6", "3"),
    under(SIMPO, "simpo.beta", "2", "3"),
    under(SIMPO, "simpo.gamma", "1", "0"),
    under(SIMPO, "simpo.label_smoothing", "0", "0.3"),
    under(SIMPO, "simpo.cpo_alpha", "0", "1"),
    under(CPO, "cpo.beta", "0.1", "3"),
    under(CPO, "cpo.loss_type", "sigmoid", "hinge"),
    under(CPO, "cpo.label_smoothing", "0", "0.3"),
    under(CPO, "cpo.cpo_alpha", "1", "0"),
    change("train.epochs", "1", "2"),
    change("train.max_steps", "2", "3"),
    change("train.micro_batch_size", "2", "1"),
    change("train.gradient_accumulation_steps", "2", "1"),
    change("train.learning_rate", "5e-3", "1e-3"),
    under(&["train.warmup_steps=0"], "train.lr_scheduler", "cosine", "linear"),
    change("train.warmup_steps", "0", "3"),
    change("train.warmup_ratio", "0.2", "0.6"),
    change("train.min_lr_ratio", "0", "0.5"),
    under(&["train.lr_scheduler=wsd"], "train.decay_ratio", "0.2", "0.9"),
    under(&["train.lr_scheduler=cosine-with-restarts"], "train.cycles", "2", "3"),
    under(&["train.lr_scheduler=polynomial"], "train.power", "1.0", "2.0"),
    change("train.weight_decay", "0", "0.5"),
    change("train.optimizer", "adamw", "lion"),
    under(&["train.optimizer=lion"], "train.lion_beta1", "0.9", "0.2"),
    under(&["train.optimizer=lion"], "train.lion_beta2", "0.99", "0.5"),
    change("train.decay_norms_and_biases", "true", "false"),
    change("train.ema_decay", "", "0.9"),
    under(GROUPED, "train.param_groups.modules", "[\"q_proj\"]", "[\"mlp\", \"embed_tokens\"]"),
    under(GROUPED, "train.param_groups.learning_rate", "1e-2", "1e-3"),
    under(GROUPED, "train.param_groups.weight_decay", "", "5"),
    under(&["train.optimizer=sgd"], "train.sgd_momentum", "0.9", "0.2"),
    under(&["train.optimizer=sgd"], "train.sgd_nesterov", "false", "true"),
    under(&["train.optimizer=adafactor"], "train.adafactor_decay_rate", "-0.8", "-0.3"),
    under(&["train.optimizer=adafactor"], "train.adafactor_clip_threshold", "1", "0.1"),
    under(&["train.optimizer=adafactor"], "train.adafactor_scale_parameter", "false", "true"),
    under(&["train.optimizer=muon"], "train.muon_momentum", "0.95", "0.5"),
    under(&["train.optimizer=muon"], "train.muon_nesterov", "true", "false"),
    under(&["train.optimizer=muon"], "train.muon_ns_steps", "5", "3"),
    under(&["train.optimizer=muon"], "train.muon_adjust_lr_fn", "match_rms_adamw", "original"),
    under(&["train.optimizer=schedule-free-adamw"], "train.schedule_free_beta1", "0.9", "0.5"),
    change("train.neftune_noise_alpha", "", "5"),
    change("train.adam_beta1", "0.9", "0.5"),
    change("train.adam_beta2", "0.999", "0.5"),
    change("train.adam_epsilon", "1e-8", "1e-2"),
    change("train.max_grad_norm", "0", "0.1"),
    change("train.recompute", "none", "layers"),
    under(&["train.recompute=layers"], "train.tiled_mlp", "false", "true"),
    change("train.memory", "fastest", "recompute"),
    change("train.optimizer_offload", "none", "disk"),
    under(&["train.recompute=layers"], "train.activation_offload", "none", "disk"),
    change("device.memory_limit", "", "1 MB"),
    change("train.loss_chunk_tokens", "512", "16"),
    change("train.precision", "auto", "f32"),
    change("eval.every_steps", "0", "2"),
    under(RUINED, "eval.load_best_model_at_end", "false", "true"),
    under(RUINED, "eval.early_stopping_patience", "", "1"),
    under(
        &["eval.every_steps=1", "eval.early_stopping_patience=1"],
        "eval.early_stopping_threshold",
        "",
        "100",
    ),
    under(TALK, "eval.prompts", "[\"What?\"]", "[\"Who?\", \"Where?\"]"),
    under(TALK, "eval.max_tokens", "3", "9"),
    under(TALK, "eval.temperature", "1.5", "3"),
    change("eval.max_records", "0", "2"),
    change("eval.suite", "", "nowhere.toml"),
    change("checkpoint.every_steps", "0", "1"),
    under(&["checkpoint.every_steps=1"], "checkpoint.keep_last", "2", "4"),
    under(&["checkpoint.every_steps=1"], "checkpoint.keep_every", "0", "2"),
    under(&["checkpoint.every_steps=1", "eval.every_steps=1"], "checkpoint.keep_best", "0", "4"),
    change("checkpoint.disk_budget", "", "1 MiB"),
    under(
        // A save that failed in the background is heard of at the next one at the latest: with
        // more than one of them left, that is in time to stop.
        &["checkpoint.every_steps=1", "checkpoint.disk_budget=1.3 MB", "train.max_steps=8"],
        "checkpoint.on_disk_full",
        "stop",
        "continue",
    ),
    under(&["checkpoint.reuse=auto"], "checkpoint.reuse_limit", "0", "1 GB"),
    under(&["checkpoint.reuse=auto"], "checkpoint.reuse_store", "", "store"),
    change("checkpoint.reuse", "never", "auto"), // after what the one before has kept
    change("output.dir", "here", "there"),
    change("output.mirror", "", "store"),
    change("output.sign", "true", "false"),
    change("output.signing_key", "", "nowhere.pem"),
    change("model.trusted_keys", "", "[\"nowhere.pem\"]"),
    change("trust.allowlist", "", "nowhere.toml"),
    under(&["trust.allowlist=nowhere.toml"], "trust.allowlist_keys", "", "[\"nowhere.pem\"]"),
    change("trust.data_keys", "", "[\"nowhere.pem\"]"),
    change("trust.tofu", "false", "true"),
    change("output.signer", "", "[\"false\"]"),
    under(&["output.signer=[\"false\"]"], "output.signer_key", "", "nowhere.pem"),
    change("output.signer_certificates", "", "nowhere.pem"),
    change("output.license", "MIT", "Apache-2.0"),
    change("output.title", "one", "two"),
    change("output.report_to", "[\"csv\"]", "[\"tensorboard\"]"),
    change("output.report_to", "[\"csv\"]", "[\"prometheus\"]"),
    change("output.report_to", "[\"mlflow\"]", "[\"wandb\"]"),
    change("output.sbom", "false", "true"),
    change("device.name", "auto", "cpu"),
    change("device.threads", "1", "2"),
    change("device.parallel_micro_batches", "1", "2"),
    change("device.kernels", "fast", "portable"),
    change("device.pin_kernels", "false", "true"),
];

/// Keys with a single accepted value: there is nothing to change yet.
const SINGLE: [&str; 0] = [];

fn folder() -> Run {
    let run = Run::new().with_base();
    run.write("text.jsonl", "{\"text\": \"two and two\"}\n{\"text\": \"more of it\"}\n");
    run.write("broken.jsonl", &format!("{}no json\n", run.read("data.jsonl")));
    run.write(
        "plain.jinja",
        "{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}\
         {% if add_generation_prompt %}assistant: {% endif %}",
    );
    run.write(
        "asking.jinja",
        "{{ tone }}{% for m in messages %}{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}\
         {% if add_generation_prompt %}assistant: {% endif %}",
    );
    let call = r#"{"function": {"name": "add", "arguments": {"a": 1}}}"#;
    run.write(
        "calls.jsonl",
        &format!(
            "{}{{\"messages\": [{{\"role\": \"user\", \"content\": \"1\"}}, {{\"role\": \
             \"assistant\", \"content\": \"\", \"tool_calls\": [{call}]}}]}}\n",
            run.read("data.jsonl")
        ),
    );
    let turns = |line: &str| {
        let again = line.trim_end_matches("]}");
        let (_, messages) = line.split_once('[').unwrap();
        format!("{again}, {messages}\n")
    };
    let data = run.read("data.jsonl");
    run.write("turns.jsonl", &data.lines().map(turns).collect::<String>());
    let weighed = |(at, line): (usize, &str)| {
        line.replacen('{', &format!("{{\"quality\": {}, ", at * 7 % 5 + 1), 1) + "\n"
    };
    run.write("weighed.jsonl", &data.lines().enumerate().map(weighed).collect::<String>());
    let pairs =
        std::fs::read_to_string(crate::common::repository("datasets/preference.jsonl")).unwrap();
    run.write("pairs.jsonl", &pairs);
    run.write(
        "margins.jsonl",
        &pairs
            .replacen('{', "{\"low\": 0, \"high\": 3, ", 1)
            .replace("\n{", "\n{\"low\": 0, \"high\": 3, "),
    );
    let labels = crate::common::repository("datasets/labels.jsonl");
    run.write("labels.jsonl", &std::fs::read_to_string(labels).unwrap());
    let scored = |at: u32| format!("{{\"text\": \"{at} is it\", \"label\": {}}}\n", at % 2 + 1);
    run.write("scored.jsonl", &(0..16).map(scored).collect::<String>());
    run.write("twice.jsonl", &run.read("data.jsonl").repeat(2));
    run.write("renamed.jsonl", &run.read("data.jsonl").replace("\"messages\"", "\"talk\""));
    for folder in ["set", "set/odd"] {
        std::fs::create_dir(run.path(folder)).unwrap();
    }
    let lines: Vec<String> =
        run.read("data.jsonl").lines().map(|line| format!("{line}\n")).collect();
    run.write("set/train.jsonl", &lines[..8].concat());
    run.write("set/test.jsonl", &lines[8..16].concat());
    run.write("set/odd/train.jsonl", &lines[16..].concat());
    run.write(
        "set/README.md",
        "---\nconfigs:\n- config_name: even\n  default: true\n  data_files:\n  - split: train\n    \
         path: train.jsonl\n  - split: test\n    path: test.jsonl\n  - split: validation\n    \
         path: test.jsonl\n- config_name: odd\n  data_files:\n  - split: train\n    path: \
         odd/train.jsonl\n  - split: validation\n    path: odd/train.jsonl\n---\n",
    );
    std::fs::create_dir(run.path("other-base")).unwrap();
    for entry in std::fs::read_dir(run.path("base")).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, run.path("other-base").join(path.file_name().unwrap())).unwrap();
    }
    let config = run.read("other-base/config.json");
    run.write("other-base/config.json", &config.replace("10000.0", "500.0"));
    let mut config = crate::common::model_config();
    config["attention_bias"] = true.into();
    run.model_folder("biased", &config);
    run
}

/// All that a user can see of a run, but for times and for the record of the settings themselves.
fn seen(run: &Run, change: &Change, value: &str) -> String {
    let config = if change.key.starts_with("lora.") { "lora.toml" } else { "tiny.toml" };
    let key = change.key.replace("data.train.", "data.train.0.");
    let key = key.replace("data.validation.", "data.validation.0.");
    let key = key.replace("grpo.reward.", "grpo.reward.0.");
    let key = key.replace("train.param_groups.", "train.param_groups.0.");
    let mut overrides = vec!["eval.prompts=[]".to_owned(), "train.max_steps=4".to_owned()];
    overrides.extend(change.with.iter().map(|text| (*text).to_owned()));
    let counted = ["train.epochs", "data.max_seq_len", "data.packing", "data.train.weight"];
    let own = change.with.iter().any(|text| text.starts_with("train.max_steps"));
    if counted.contains(&change.key) || own {
        overrides.retain(|text| text != "train.max_steps=4");
    }
    if !matches!(change.key, "name" | "output.dir") {
        overrides.push("output.dir=out".to_owned());
    }
    if !value.is_empty() {
        overrides.push(format!("{key}={value}"));
    }
    if matches!(change.key, "checkpoint.reuse_store" | "output.mirror") {
        // What lies here is not computed again, and so not shared.
        let _ = std::fs::remove_dir_all(run.path("cache/steps"));
        let _ = std::fs::remove_dir_all(run.path("store"));
    }
    let mut arguments = vec!["train", config];
    for text in &overrides {
        arguments.extend(["--set", text]);
    }
    // Switches of the program's own tests are settings, too.
    let command = run.command(&arguments).env(firebrand::document::key::INTERNAL_KEYS, "1");
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let mut seen = format!("exit {:?}\n", output.status.code());
    seen += &String::from_utf8(output.stdout).unwrap();
    for line in stderr.lines() {
        let timed =
            ["tokens/s", "saved step", "checkpoint stall", "made a key pair", "signed by key"];
        if !timed.iter().any(|text| line.contains(text)) {
            seen += line;
            seen += "\n";
        }
    }
    if change.key == "data.cache_limit" {
        let shelves = std::fs::read_dir(run.path("cache/examples")).unwrap();
        seen += &format!(
            "{} shelves\n",
            shelves
                .filter(|shelf| {
                    let shelf = shelf.as_ref().unwrap().path();
                    shelf.is_dir() && std::fs::read_dir(shelf).unwrap().count() > 0
                })
                .count()
        );
    }
    if change.key == "checkpoint.reuse_limit" {
        let shelves = std::fs::read_dir(run.path("cache/steps")).into_iter().flatten();
        seen += &format!("{} shelves of steps\n", shelves.count());
    }
    if matches!(change.key, "checkpoint.reuse_store" | "output.mirror") {
        seen += &format!("a store: {}\n", run.path("store").exists());
    }
    for folder in ["out", "here", "there"] {
        let root = run.path(folder);
        if !root.exists() {
            continue;
        }
        let mut names: BTreeSet<String> = BTreeSet::new();
        for folder in [root.clone(), root.join("artifact")] {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            names.extend(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()));
        }
        seen += &format!("{names:?}\n");
        if let Ok(text) = std::fs::read_to_string(root.join("metrics.jsonl")) {
            seen += &text;
        }
        if let Some(name) = names.iter().rev().find(|name| name.starts_with("step-")) {
            let text = std::fs::read_to_string(root.join(name).join("state.json")).unwrap();
            let state: serde_json::Value = serde_json::from_str(&text).unwrap();
            seen += &format!("{} {}\n", state["evaluations"], state["samples"]);
        }
        if let Ok(card) = std::fs::read_to_string(root.join("artifact/README.md")) {
            let mut first: Vec<&str> = card.lines().take(3).collect();
            first.extend(card.lines().find(|line| line.starts_with("# ")));
            seen += &format!("{first:?}\n");
        }
        std::fs::remove_dir_all(root).unwrap();
    }
    seen
}

/// Whether code can be run in a sandbox here.
fn sandbox() -> bool {
    let command = vec!["true".to_owned()];
    let runner = firebrand::scorers::CodeRunner {
        command,
        seconds: 60,
        memory: 1 << 30,
        append_reference: false,
    };
    runner.check().is_ok()
}

#[test]
fn every_accepted_setting_changes_something() {
    let known: BTreeSet<&str> = CHANGES.iter().map(|change| change.key).chain(SINGLE).collect();
    let mut accepted: BTreeSet<String> = BTreeSet::new();
    for key in firebrand::settings::KEYS.keys() {
        match key.kind {
            ValueKind::Tables { keys, .. } => {
                accepted.extend(keys.iter().map(|inner| format!("{}.{}", key.path, inner.path)));
            }
            _ => drop(accepted.insert(key.path.to_owned())),
        }
    }
    let missing: Vec<_> = accepted.iter().filter(|key| !known.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "no run shows what these do: {missing:?}");

    let run = folder();
    let mut idle = Vec::new();
    let sandbox = sandbox();
    for change in CHANGES {
        if !sandbox && [GRPO_CODE, GRPO_TESTS].contains(&change.with) {
            say_not_tested(&format!("`{}`, since there is no sandbox here", change.key));
            continue;
        }
        let one = seen(&run, change, change.one);
        if one == seen(&run, change, change.other) {
            idle.push((change.key, one));
        }
    }
    assert!(idle.is_empty(), "these settings changed nothing: {idle:#?}");
}

#[test]
fn the_same_settings_look_the_same() {
    // Else the test above would show nothing.
    let run = folder();
    let change = change("seed", "1", "1");
    assert_eq!(seen(&run, &change, "1"), seen(&run, &change, "1"));
}
