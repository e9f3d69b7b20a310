//! The table of what is checked of each family is what the results say, and the results are of tests
//! that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::common::repository;

const COLUMNS: [&str; 12] = [
    "logits",
    "gradients",
    "steps",
    "packed",
    "texts",
    "resume",
    "wgpu",
    "PEFT",
    "merge",
    "GGUF",
    "speed",
    "memory",
];

fn results() -> Value {
    serde_json::from_str(&fs::read_to_string(repository("docs/models.json")).unwrap()).unwrap()
}

/// Families with stored cases.
fn families() -> BTreeSet<String> {
    let entries = fs::read_dir(repository("tests/reference/families")).unwrap();
    let family = |entry: std::io::Result<fs::DirEntry>| {
        let case: Value =
            serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        case["config"]["model_type"].as_str().unwrap().to_owned()
    };
    entries.map(family).collect()
}

/// The dictionaries of the script: tests by column, with the families that they are of.
fn claims() -> BTreeMap<&'static str, Vec<(&'static str, Option<Vec<&'static str>>)>> {
    let all = |test| vec![(test, None)];
    let some = |test, families: &[&'static str]| (test, Some(families.to_vec()));
    BTreeMap::from([
        ("logits", all("families::logits_losses_and_gradients_are_those_of_transformers_and_peft")),
        ("gradients", all("families::fast_portable_and_recomputed_gradients_are_the_same")),
        ("packed", all("families::packed_documents_have_the_logits_of_documents_alone")),
        (
            "texts",
            all("families::texts_written_with_a_cache_are_those_of_transformers_and_those_without"),
        ),
        (
            "wgpu",
            all("families::devices::each_family_on_another_device_has_the_gradients_of_the_cpu"),
        ),
        ("steps", all("families::steps::twenty_steps_have_the_losses_of_pytorch_and_peft")),
        (
            "resume",
            vec![
                some("resume::a_stop_at_every_step_changes_no_byte", &["llama"]),
                some(
                    "recurrent::full_training_changes_all_of_the_text_model_and_goes_on_after_a_stop",
                    &["qwen3_5"],
                ),
                some(
                    "experts::full_training_writes_the_tensors_of_the_base_and_goes_on_where_it_stopped",
                    &["gemma4_text", "gpt_oss", "lfm2_moe", "qwen3_5_moe_text", "qwen3_moe"],
                ),
            ],
        ),
    ])
}

fn cell(column: &str, family: &str, results: &Value) -> String {
    let passed = |test: &str| {
        let tests = results["tests"].as_array().into_iter().flatten();
        tests.filter_map(Value::as_str).any(|one| one == test)
    };
    let yes = |is: bool| if is { "yes".to_owned() } else { String::new() };
    if let Some(tests) = claims().get(column) {
        let of_family = |families: &Option<Vec<&str>>| {
            families.as_ref().is_none_or(|all| all.contains(&family))
        };
        return yes(tests.iter().any(|(test, families)| of_family(families) && passed(test)));
    }
    let found = |of: &str| Some(&results[of][family]).filter(|it| !it.is_null());
    let number = |value: &Value| format!("{:.2}", value.as_f64().unwrap());
    match column {
        "PEFT" | "merge" => {
            let artifacts = results["artifacts"].as_array();
            yes(artifacts.is_some_and(|all| all.iter().any(|one| one == family)))
        }
        "GGUF" => found("gguf")
            .filter(|it| it["same"] == true)
            .map_or(String::new(), |it| format!("{} texts", it["texts"])),
        "speed" => found("speed").map_or(String::new(), |it| number(&it["ratio"])),
        _ => found("memory")
            .map_or(String::new(), |it| format!("{} to {}", number(&it[0]), number(&it[1]))),
    }
}

#[test]
fn the_table_of_families_is_what_the_results_say() {
    let results = results();
    let mut table = format!("| `model_type` | {} |\n", COLUMNS.join(" | "));
    table += &format!("{}|\n", "|---".repeat(COLUMNS.len() + 1));
    for family in families() {
        let cells: Vec<_> = COLUMNS.iter().map(|column| cell(column, &family, &results)).collect();
        table += &format!("| `{family}` | {} |\n", cells.join(" | "));
    }
    let page = fs::read_to_string(repository("docs/models.md")).unwrap();
    let (_, rest) = page.split_once("<!-- table -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- end of table -->\n").unwrap();
    assert!(written == table, "run tests/reference/models_table.py; the table must be\n{table}");
}

#[test]
fn tests_that_the_table_relies_on_are_there() {
    for (column, tests) in claims() {
        for (test, _) in tests {
            let (module, name) = test.rsplit_once("::").unwrap();
            let file = repository(&format!("tests/it/{}.rs", module.replace("::", "/")));
            let text = fs::read_to_string(&file).unwrap();
            let there = text.contains(&format!("#[test]\nfn {name}()"));
            assert!(there, "{column}: {test}");
        }
    }
}
