//! Which paths of a model data exercises: against an independent calculation, as whole commands, and
//! what compares them.

use std::sync::Arc;

use crate::common::{Run, case, cpu, says};
use firebrand::coverage::{
    BitSet, CRITERIA, CoveragePass, Criterion, LayerCoverage, Thresholds, UnitRanges,
};
use firebrand::data::{Case, Example, RecordId};
use firebrand::files::Digest;
use firebrand::model::{Init, Model, load};
use serde_json::{Value, json};
use snapbox::str;

fn text(tokens: &Value) -> Case {
    let tokens: Vec<u32> = serde_json::from_value(tokens.clone()).unwrap();
    let loss_mask = vec![true; tokens.len()];
    Case {
        record: RecordId { file: Arc::from("a"), line: 1 },
        digest: Digest::of(b""),
        fields: serde_json::Map::new(),
        examples: vec![Example { tokens, loss_mask }],
        question: None,
    }
}

/// What texts exercise, and the numbers of each layer.
fn covered(
    model: &Model,
    thresholds: Thresholds,
    reference: Option<&[UnitRanges]>,
    texts: &[Case],
) -> (BitSet, Vec<LayerCoverage>) {
    let mut pass = CoveragePass::new(model, thresholds, reference);
    let (mut all, mut numbers) = (BitSet::new(pass.space.total), pass.no_numbers());
    pass.run(texts, (32, 1), &mut numbers, &mut |_| (), &mut |_, set| all.add(set)).unwrap();
    let layers = pass.space.layers.iter().zip(&numbers);
    let layers = layers.map(|(space, numbers)| LayerCoverage::new(space, &all, numbers)).collect();
    (all, layers)
}

fn ranges(layers: &[LayerCoverage]) -> Vec<UnitRanges> {
    use base64::Engine as _;
    let floats = |text: &str| -> Vec<f32> {
        let bytes = base64::engine::general_purpose::STANDARD.decode(text).unwrap();
        bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect()
    };
    let units = layers.iter().map(|layer| layer.units.as_ref().unwrap());
    units.map(|units| UnitRanges { low: floats(&units.low), high: floats(&units.high) }).collect()
}

#[test]
fn paths_are_those_that_pytorch_exercises() {
    let path = crate::common::repository("tests/reference/coverage.json");
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let model = load(&case("gqa-tied"), Init::Pretrained, &cpu()).unwrap().model;
    let thresholds: Thresholds = serde_json::from_value(stored.clone()).unwrap();
    let (_, first) = covered(&model, thresholds, None, &[text(&stored["texts"][0])]);
    let reference = ranges(&first);
    let second = [text(&stored["texts"][1])];
    let (_, found) = covered(&model, thresholds, Some(&reference), &second);
    let near = |found: f64, wanted: &Value| (found - wanted.as_f64().unwrap()).abs() < 1e-5;
    for (number, wanted) in stored["layers"].as_array().unwrap().iter().enumerate() {
        let of_experts = [Criterion::Experts, Criterion::ExpertUnits];
        for criterion in CRITERIA.into_iter().filter(|it| !of_experts.contains(it)) {
            let set = found[number].set(criterion.name()).unwrap();
            let numbers = json!(set.numbers().collect::<Vec<_>>());
            assert_eq!(numbers, wanted["sets"][criterion.name()], "{criterion} of layer {number}");
        }
        let heads = found[number].heads.as_ref().unwrap();
        for head in 0..4 {
            assert!(near(heads.mean_share[head], &wanted["mean_share"][head]), "{heads:?}");
            let entropy = heads.mean_entropy[head].unwrap();
            assert!(near(entropy, &wanted["mean_entropy"][head]), "{heads:?}");
        }
        for unit in 0..8 {
            assert!(near(f64::from(reference[number].low[unit]), &wanted["low"][unit]));
            assert!(near(f64::from(reference[number].high[unit]), &wanted["high"][unit]));
        }
    }
}

#[test]
fn every_threshold_changes_what_is_counted() {
    let model = load(&case("gqa-tied"), Init::Pretrained, &cpu()).unwrap().model;
    let texts = [text(&json!([5, 17, 42, 8, 61, 7])), text(&json!([9, 71, 9, 31]))];
    let usual = Thresholds { head_share: 1.2, ..Thresholds::default() };
    let (_, first) = covered(&model, usual, None, &texts[..1]);
    let reference = ranges(&first);
    let counts = |thresholds: Thresholds| {
        let (_, layers) = covered(&model, thresholds, Some(&reference), &texts);
        layers.iter().map(LayerCoverage::counts).collect::<Vec<_>>()
    };
    let others = [
        Thresholds { unit_threshold: 0.25, ..usual },
        Thresholds { unit_top_k: 1, ..usual },
        Thresholds { unit_top_k: 0, ..usual },
        Thresholds { unit_sections: 5, ..usual },
        Thresholds { head_share: 1.01, ..usual },
        Thresholds { entropy_buckets: 2, ..usual },
    ];
    for other in others {
        assert_ne!(counts(usual), counts(other), "{other:?}");
    }
}

const SUITE: &str = "
[data]
path = \"judged.jsonl\"
max_seq_len = 96
[[slice]]
by = \"lang\"
[[task]]
name = \"same\"
kind = \"exact\"
max_records = 2
";

#[test]
fn a_result_has_layers_slices_and_tasks_and_fits_its_schema() {
    let run = Run::with_suite(SUITE);
    let call = [
        "coverage",
        "checkpoints/tiny",
        "--config",
        "eval.toml",
        "--out",
        "a.json",
        "--page",
        "a.html",
    ];
    let table = run.succeeds(&call);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "|  | units | units, top 3 | heads | heads, 4 entropies |");
    assert!(lines[2].starts_with("| model.layers.0 | "), "{table}");
    assert!(lines[4].starts_with("| all layers | "), "{table}");
    assert!(lines[8].starts_with("| lang = `en`: 3 | "), "{table}");
    assert!(lines[10].starts_with("| task `same`: 2 | "), "{table}");
    let result: Value = serde_json::from_str(&run.read("a.json")).unwrap();
    let schema = crate::common::repository("docs/coverage.schema.json");
    let schema: Value = serde_json::from_str(&std::fs::read_to_string(schema).unwrap()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let wrong: Vec<String> = validator.iter_errors(&result).map(|it| it.to_string()).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(!validator.is_valid(&json!({"version": 1})));

    let covered = |part: &Value, name: &str| part["totals"][name]["covered"].as_u64().unwrap();
    let slices = result["slices"][0]["slices"].as_array().unwrap();
    assert_eq!([&slices[0]["name"], &slices[1]["name"]], ["en", "fr"]);
    assert_eq!(result["tasks"][0]["records"], 2);
    let all = covered(&result, "units");
    for part in slices.iter().chain(result["tasks"].as_array().unwrap()) {
        assert!(covered(part, "units") <= all && covered(part, "units") > 0);
    }
    assert!(covered(&slices[0], "units") + covered(&slices[1], "units") >= all);
    let page = run.read("a.html");
    assert_eq!(page.matches("<svg").count(), 2, "a picture of every layer");
    assert!(page.contains("lang: en") && page.contains("task: same"), "{page}");

    // The same as a file without a suite, and as JSON on stdout.
    let call = ["coverage", "checkpoints/tiny", "--data", "judged.jsonl", "--json"];
    let plain = [&call[..], &["--max-seq-len", "96"]].concat();
    let plain: Value = serde_json::from_str(&run.succeeds(&plain)).unwrap();
    assert_eq!(plain["layers"], result["layers"]);
    let fewer = [&call[..], &["--max-records", "1"]].concat();
    let fewer: Value = serde_json::from_str(&run.succeeds(&fewer)).unwrap();
    assert_eq!(fewer["data"]["records"], 1);
    let shorter = [&call[..], &["--max-seq-len", "40"]].concat();
    let shorter: Value = serde_json::from_str(&run.succeeds(&shorter)).unwrap();
    let tokens = |result: &Value| result["data"]["tokens"].as_u64().unwrap();
    assert!(tokens(&shorter) < tokens(&plain), "{}", tokens(&shorter));
    assert!(shorter["data"]["truncated"].as_u64().unwrap() > 0);
}

#[test]
fn results_are_the_same_bytes_for_any_threads_and_groups_of_rows() {
    let run = Run::with_suite(SUITE);
    run.write(
        "wide.toml",
        &SUITE.replace("max_seq_len = 96", "max_seq_len = 96\nmicro_batch_size = 4"),
    );
    let of = |threads: &str, suite: &str| -> Value {
        let call = ["coverage", "checkpoints/tiny", "--config", suite, "--json"];
        let output = run.command(&call).env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let one = of("1", "eval.toml");
    assert_eq!(one, of("3", "eval.toml"));
    let wide = of("2", "wide.toml");
    let sets = |result: &Value| -> Vec<Value> {
        let layers = result["layers"].as_array().unwrap().iter();
        layers.map(|layer| json!([layer["criteria"], layer["units"]])).collect()
    };
    assert_eq!(sets(&one), sets(&wide));
}

#[test]
fn two_results_are_compared_path_by_path() {
    let run = Run::with_suite(SUITE);
    run.write("one.jsonl", run.read("judged.jsonl").lines().next().unwrap());
    let measure = |data: &str, out: &str, more: &[&str]| {
        let call = [&["coverage", "checkpoints/tiny", "--data", data, "--out", out], more].concat();
        run.succeeds(&call);
    };
    measure("judged.jsonl", "all.json", &[]);
    measure("one.jsonl", "one.json", &[]);
    let difference = run.succeeds(&["coverage", "diff", "one.json", "all.json", "--json"]);
    let difference: Value = serde_json::from_str(&difference).unwrap();
    let all: Value = serde_json::from_str(&run.read("all.json")).unwrap();
    let one: Value = serde_json::from_str(&run.read("one.json")).unwrap();
    let units = &difference["totals"]["units"];
    let covered = |result: &Value| result["totals"]["units"]["covered"].as_u64().unwrap();
    assert_eq!(units["only_a"], 0, "the record is one of all");
    assert_eq!(units["both"].as_u64().unwrap(), covered(&one));
    assert_eq!(units["only_b"].as_u64().unwrap(), covered(&all) - covered(&one));
    let layer = &difference["layers"][0]["criteria"]["units"];
    let paths = layer["paths_only_b"].as_array().unwrap();
    assert_eq!(paths.len() as u64, layer["only_b"].as_u64().unwrap());
    let table = run.succeeds(&["coverage", "diff", "one.json", "all.json"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[4].starts_with("| all layers | 0, "), "{table}");
    assert!(
        lines[5].starts_with("| B exercises of A | ") && lines[5].contains("(100.0 %)"),
        "{table}"
    );
    assert!(lines[6].starts_with("| A exercises of B | "), "{table}");

    measure("judged.jsonl", "other.json", &["--unit-threshold", "0.25"]);
    run.fails_with(
        2,
        &["coverage", "diff", "all.json", "other.json"],
        str![[r#"
error[evaluation]: the results count different things
  because they were measured with different thresholds or references

hint: measure both with the same options

"#]],
    );
    run.write("bad.json", "{\"version\": 7}");
    run.fails_with(
        2,
        &["coverage", "diff", "bad.json", "all.json"],
        str![[r#"
error[evaluation]: the result is of another version of `coverage`
  at bad.json
  because it has version 7, and this program reads 1

hint: measure it again

"#]],
    );
    let text = run.read("all.json");
    run.write("bad.json", &text.replacen("\"covered\":", "\"covered\":1", 1));
    run.fails_with(
        2,
        &["coverage", "diff", "all.json", "bad.json"],
        str![[r#"
error[evaluation]: the result contradicts itself
  at bad.json
  because its totals are not the sums of its layers

"#]],
    );
    let last = text.rfind("\"covered\":").unwrap() + "\"covered\":".len();
    run.write("bad.json", &format!("{}1{}", &text[..last], &text[last..]));
    run.fails_with(
        2,
        &["coverage", "diff", "all.json", "bad.json"],
        str![[r#"
error[evaluation]: the result contradicts itself
  at bad.json
  because `units_top_k` of model.layers.1 counts other paths than it names

"#]],
    );
}

#[test]
fn results_are_told_in_the_order_of_their_days() {
    let run = Run::with_suite(SUITE);
    let lines = run.read("judged.jsonl");
    let first = |count: usize| -> String {
        lines.lines().take(count).flat_map(|line| [line, "\n"]).collect()
    };
    std::fs::create_dir(run.path("results")).unwrap();
    // The newest is written first: the day in the name counts.
    for (count, name) in [(6, "2026-11-30"), (1, "weekly-2026-11-16"), (3, "2026-11-23")] {
        run.write("some.jsonl", &first(count));
        let out = format!("results/{name}.json");
        run.succeeds(&["coverage", "checkpoints/tiny", "--data", "some.jsonl", "--out", &out]);
    }
    let table = run.succeeds(&["coverage", "history", "results", "--page", "history.html"]);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines.len(), 5, "{table}");
    assert!(lines[0].starts_with("| result | model | records | units | units, top 3 |"), "{table}");
    assert!(lines[2].starts_with("| `weekly-2026-11-16` | "), "{table}");
    assert!(lines[3].starts_with("| `2026-11-23` | ") && lines[3].contains(" | 3 | "), "{table}");
    assert!(lines[4].starts_with("| `2026-11-30` | ") && lines[4].contains(" −0 |"), "{table}");

    let json = run.succeeds(&["coverage", "history", "results", "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let points = json["points"].as_array().unwrap();
    let units = |point: &Value| point["totals"]["units"]["covered"].as_u64().unwrap();
    let since = &points[1]["since"]["units"];
    assert_eq!(points[0]["since"], Value::Null);
    assert_eq!(points[0]["date"], "2026-11-16");
    assert_eq!(since["only_b"].as_u64().unwrap(), units(&points[1]) - units(&points[0]));
    assert_eq!(since["only_a"], 0, "the records of the one are among those of the other");

    let page = run.read("history.html");
    assert!(page.contains("days since 2026-11-16"), "{page}");
    assert_eq!(page.matches("<polyline").count(), 4, "a line for each criterion");

    // Without days they stay as they are named.
    for (from, to) in [("2026-11-30", "b"), ("2026-11-23", "a")] {
        std::fs::copy(run.path(&format!("results/{from}.json")), run.path(to)).unwrap();
    }
    let table = run.succeeds(&["coverage", "history", "b", "a"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines[2].starts_with("| `b` | ") && lines[3].starts_with("| `a` | "), "{table}");
    let call =
        ["coverage", "checkpoints/tiny", "--data", "some.jsonl", "--out", "results/other.json"];
    run.succeeds(&[&call[..], &["--unit-threshold", "0.25"]].concat());
    run.fails_with(
        2,
        &["coverage", "history", "results"],
        str![[r#"
error[evaluation]: the results count different things
  at results/other.json
  because they were measured with different thresholds or references

hint: measure both with the same options

"#]],
    );
    run.fails_with(
        2,
        &["coverage", "history", "a"],
        str![[r#"
error[usage]: a history needs at least two results
  because 1 are there

hint: name files that `firebrand coverage --out` wrote, or a folder of them

"#]],
    );
}

#[test]
fn sections_are_of_the_ranges_of_a_reference_on_the_same_model() {
    let run = Run::with_suite(SUITE);
    let measure = |model: &str, data: &str, more: &[&str]| -> Value {
        let call = [&["coverage", model, "--data", data, "--json"], more].concat();
        serde_json::from_str(&run.succeeds(&call)).unwrap()
    };
    measure("checkpoints/tiny", "judged.jsonl", &["--out", "own.json"]);
    let own = measure("checkpoints/tiny", "judged.jsonl", &["--reference", "own.json"]);
    assert_eq!(own["totals"]["unit_boundary"]["covered"], 0, "nothing is beyond its own range");
    assert!(
        own["totals"]["unit_sections"]["covered"].as_u64().unwrap() > 128,
        "both ends at least"
    );
    let other = measure("checkpoints/tiny", "data.jsonl", &["--reference", "own.json"]);
    assert!(other["totals"]["unit_boundary"]["covered"].as_u64().unwrap() > 0);

    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let call = ["coverage", "checkpoints/lora", "--data", "data.jsonl", "--reference", "own.json"];
    run.fails_with(
        2,
        &call,
        str![[r#"
error[evaluation]: the reference is of another model
  because it was measured on `checkpoints/tiny`

hint: units of different models are not the same: measure it with this one

"#]],
    );
    let adapted = measure("checkpoints/lora", "judged.jsonl", &[]);
    assert_ne!(adapted["layers"], own["layers"], "the adapter is part of the model");
}

#[test]
fn what_cannot_be_measured_is_refused() {
    let run = Run::with_suite(SUITE);
    let data = ["coverage", "checkpoints/tiny", "--data", "data.jsonl"];
    let with = |more: &[&str]| -> Vec<String> {
        data.iter().chain(more).map(|word| (*word).to_owned()).collect()
    };
    let fails = |more: &[&str], errors| {
        let call = with(more);
        run.fails_with(2, &call.iter().map(String::as_str).collect::<Vec<_>>(), errors);
    };
    fails(
        &["--device", "gpu"],
        str![[r#"
error[usage]: coverage is measured on the CPU only
  because what units and heads did is read from the kernels of the CPU

hint: leave `--device` out

"#]],
    );
    fails(
        &["--unit-threshold", "0"],
        str![[r#"
error[usage]: `--unit-threshold` must be above 0 and at most 1

"#]],
    );
    fails(
        &["--head-share", "nan"],
        str![[r#"
error[usage]: `--head-share` must be above 0

"#]],
    );
    fails(
        &["--unit-sections", "0"],
        str![[r#"
error[usage]: `--unit-sections` must be from 1 to 1000

"#]],
    );
    fails(
        &["--entropy-buckets", "1001"],
        str![[r#"
error[usage]: `--entropy-buckets` must be at most 1000

"#]],
    );
    run.fails_with(
        2,
        &["coverage", "checkpoints/tiny"],
        str![[r#"
error: the following required arguments were not provided:
  --config <EVAL>

Usage: firebrand coverage --config <EVAL> <MODEL>

For more information, try '--help'.

"#]],
    );
    run.fails_with(
        2,
        &["coverage", "checkpoints/tiny", "--config", "eval.toml", "--data", "a"],
        str![[r#"
error: the argument '--config <EVAL>' cannot be used with '--data <DATA>'

Usage: firebrand coverage --config <EVAL> <MODEL>

For more information, try '--help'.

"#]],
    );
}

#[test]
fn suggestions_add_what_they_say_and_are_the_same_every_time() {
    let run = Run::with_suite(SUITE);
    run.write("one.jsonl", run.read("judged.jsonl").lines().next().unwrap());
    let base = ["coverage", "checkpoints/tiny", "--data", "one.jsonl", "--json"];
    let call =
        [&base[..], &["--pool", "data.jsonl", "--suggest", "3", "--write", "more.jsonl"]].concat();
    let text = run.succeeds(&call);
    assert_eq!(text, run.succeeds(&call));
    let found: Value = serde_json::from_str(&text).unwrap();
    let suggestions = found["suggestions"].as_array().unwrap();
    assert_eq!(suggestions.len(), 3);
    let gains: Vec<u64> = suggestions.iter().map(|it| it["gain"].as_u64().unwrap()).collect();
    assert!(gains.is_sorted_by(|a, b| a >= b) && gains[0] > 0, "{gains:?}");
    let before = found["before"]["covered"].as_u64().unwrap();
    let after = before + gains.iter().sum::<u64>();
    assert_eq!(suggestions[2]["covered"], after);

    // With them, the data exercises what was foretold; and no other record would have come first.
    let more = run.read("more.jsonl");
    assert_eq!(more.lines().count(), 3);
    run.write("both.jsonl", &format!("{}\n{more}", run.read("one.jsonl").trim_end()));
    let paths = |data: &str| -> u64 {
        let text = run.succeeds(&["coverage", "checkpoints/tiny", "--data", data, "--json"]);
        let result: Value = serde_json::from_str(&text).unwrap();
        result["totals"]
            .as_object()
            .unwrap()
            .values()
            .map(|it| it["covered"].as_u64().unwrap())
            .sum()
    };
    assert_eq!(paths("one.jsonl"), before);
    assert_eq!(paths("both.jsonl"), after);
    let first = run.read("one.jsonl").trim_end().to_owned();
    for line in run.read("data.jsonl").lines().take(8) {
        run.write("pair.jsonl", &format!("{first}\n{line}\n"));
        assert!(paths("pair.jsonl") <= before + gains[0], "{line}");
    }

    let fewer = [&call[..], &["--pool-records", "2"]].concat();
    let fewer: Value = serde_json::from_str(&run.succeeds(&fewer)).unwrap();
    assert_eq!(fewer["candidates"], 2);
    let table = [&call[..4], &["--pool", "data.jsonl", "--suggest", "2"]].concat();
    let table = run.succeeds(&table);
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[0], "| | record | variation | new paths | exercised |");
    let (record, gain) = (suggestions[0]["record"].as_str().unwrap(), gains[0]);
    assert!(lines[3].starts_with(&format!("| 1 | `{record}` |  | {gain} | ")), "{table}");
}

#[test]
fn variations_are_made_of_records_and_chosen_like_them() {
    let run = Run::with_suite(SUITE);
    let base =
        ["coverage", "checkpoints/tiny", "--data", "judged.jsonl", "--json", "--suggest", "4"];
    let call = [&base[..], &["--variations", "2", "--write", "more.jsonl"]].concat();
    let text = run.succeeds(&call);
    assert_eq!(text, run.succeeds(&call));
    let found: Value = serde_json::from_str(&text).unwrap();
    let suggestions = found["suggestions"].as_array().unwrap();
    let kinds = ["paraphrase", "entity_swap", "noise"];
    for it in suggestions {
        assert!(kinds.contains(&it["variation"].as_str().unwrap()), "{it}");
        assert!(it["record"].as_str().unwrap().starts_with("judged.jsonl:"), "{it}");
        assert_eq!(it["fields"]["messages"].as_array().unwrap().len(), 2);
    }
    assert!(!suggestions.is_empty());
    let candidates = found["candidates"].as_u64().unwrap();
    assert!((12..=36).contains(&candidates), "{candidates} of at most 6 records x 3 kinds x 2");
    let other = run.succeeds(&[&call[..], &["--seed", "7"]].concat());
    let other: Value = serde_json::from_str(&other).unwrap();
    assert_ne!(found["suggestions"], other["suggestions"], "the seed decides how records change");
    run.fails_with(
        2,
        &base,
        str![[r#"
error[usage]: `--suggest` has nothing to choose from

hint: name records with `--pool`, or make some with `--variations`

"#]],
    );
}

#[test]
fn a_gate_demands_that_the_evaluation_goes_where_the_training_goes() {
    let run = Run::with_suite(SUITE);
    let measure = |model: &str, data: &str, out: &str| {
        run.succeeds(&["coverage", model, "--data", data, "--out", out]);
    };
    measure("checkpoints/tiny", "judged.jsonl", "same.json");
    measure("checkpoints/tiny", "data.jsonl", "training.json");
    let judge = |section: &str, code: i32| -> Value {
        let checks = [
            "signature",
            "lineage",
            "model_pinned",
            "data_pinned",
            "source_clean",
            "output_schema",
            "tokenizer",
            "evaluation_apart",
        ];
        let checks: String = checks.iter().map(|name| format!("{name} = false\n")).collect();
        let policy =
            format!("[eval]\nsuite = \"plain.toml\"\n[coverage]\n{section}\n[checks]\n{checks}");
        run.write("gate.toml", &policy);
        let call = [
            "gate",
            "--policy",
            "gate.toml",
            "--candidate",
            "checkpoints/tiny",
            "--json",
            "-",
            "--no-attest",
            "--device",
            "cpu",
            "--quiet",
        ];
        let output = run.command(&call).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        let tests = report["tests"].as_array().unwrap();
        tests.iter().find(|test| test["name"] == "check:coverage").unwrap().clone()
    };
    run.write("plain.toml", "[data]\npath = \"judged.jsonl\"\nmax_seq_len = 96\n");
    let same = judge("training = \"same.json\"", 0);
    assert_eq!((&same["outcome"], &same["numbers"]["candidate"]), (&json!("passed"), &json!(1.0)));
    let all = judge("training = \"training.json\"\nmin_share = 1.0", 1);
    assert_eq!((&all["outcome"], &all["line"]), (&json!("failed"), &json!(3)));
    let share = all["numbers"]["candidate"].as_f64().unwrap();
    assert!(0.0 < share && share < 1.0, "{share}");
    let less = judge(&format!("training = \"training.json\"\nmin_share = {share}"), 0);
    assert_eq!(less["outcome"], "passed");

    run.succeeds(&["train", "lora.toml", "--quiet"]);
    measure("checkpoints/lora", "data.jsonl", "other.json");
    let other = judge("training = \"other.json\"", 2);
    assert_eq!(other["outcome"], "undecided");
    says(
        other["detail"].as_str().unwrap().to_owned(),
        str!["`other.json` is of another model than the candidate and the baseline"],
    );
    let call =
        ["gate", "--policy", "gate.toml", "--candidate", "checkpoints/tiny", "--device", "cpu"];
    run.write(
        "gate.toml",
        "[eval]\nsuite = \"plain.toml\"\n[coverage]\ntraining = \"gone.json\"\n",
    );
    let gone = run.fails(2, &call);
    assert!(gone.starts_with("error[config]: cannot read the file\n  at gate.toml:4:12"), "{gone}");
    run.succeeds(&[
        "coverage",
        "checkpoints/tiny",
        "--data",
        "data.jsonl",
        "--reference",
        "same.json",
        "--out",
        "sections.json",
    ]);
    let policy = "[eval]\nsuite = \"plain.toml\"\n[coverage]\ntraining = \"sections.json\"\n";
    run.write("gate.toml", policy);
    run.fails_with(
        2,
        &call,
        str![[r#"
error[config]: the coverage of the training data has a reference of its own
  at gate.toml:4:12

hint: measure it without `--reference`

"#]],
    );
}
