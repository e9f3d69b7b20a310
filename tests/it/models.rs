//! The table of what is checked of each family is what the results say, and the results are of tests
//! that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use crate::common::repository;

const COLUMNS: [&str; 13] = [
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
    "GGUF LoRA",
    "speed",
    "memory",
];

fn results() -> Value {
    serde_json::from_str(&fs::read_to_string(repository("docs/models.json")).unwrap()).unwrap()
}

/// Families with stored cases, and the text models of those that are nested: these alone are
/// trained.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::<_, BTreeSet<_>>::new();
    for entry in fs::read_dir(repository("tests/reference/families")).unwrap() {
        let case: Value =
            serde_json::from_str(&fs::read_to_string(entry.unwrap().path()).unwrap()).unwrap();
        let kind = |config: &Value| config["model_type"].as_str().map(str::to_owned);
        let texts = families.entry(kind(&case["config"]).unwrap()).or_default();
        texts.extend(kind(&case["config"]["text_config"]));
    }
    families
}

/// The dictionary of the script: the test of each column, which goes through every stored case.
fn tests_of_columns() -> BTreeMap<&'static str, &'static str> {
    BTreeMap::from([
        ("logits", "families::logits_losses_and_gradients_are_those_of_transformers_and_peft"),
        ("gradients", "families::fast_portable_and_recomputed_gradients_are_the_same"),
        ("packed", "families::packed_documents_have_the_logits_of_documents_alone"),
        (
            "texts",
            "families::texts_written_with_a_cache_are_those_of_transformers_and_those_without",
        ),
        ("wgpu", "families::devices::each_family_on_another_device_has_the_gradients_of_the_cpu"),
        ("steps", "families::steps::twenty_steps_have_the_losses_of_pytorch_and_peft"),
        (
            "resume",
            "families::resume::a_run_of_each_family_that_was_stopped_ends_in_the_same_bytes",
        ),
    ])
}

fn cell(column: &str, family: &str, texts: &BTreeSet<String>, results: &Value) -> String {
    let named = |families: &Value| {
        let families = families.as_array().into_iter().flatten();
        let named = families.filter_map(Value::as_str).any(|one| one == family);
        if named { "yes".to_owned() } else { String::new() }
    };
    if let Some(test) = tests_of_columns().get(column) {
        return named(&results["tests"][test]);
    }
    let found = |of: &str| Some(&results[of][family]).filter(|it| !it.is_null());
    let number = |value: &Value| format!("{:.2}", value.as_f64().unwrap());
    let as_texts = |of: &str| {
        let measured = texts.iter().filter(|text| !results[of][text].is_null());
        let named: Vec<_> = measured.map(|text| format!("`{text}`")).collect();
        if named.is_empty() { String::new() } else { format!("as {}", named.join(", ")) }
    };
    match column {
        "PEFT" | "merge" => named(&results["artifacts"]),
        "GGUF" => found("gguf")
            .filter(|it| it["same"] == true)
            .map_or(String::new(), |it| format!("{} texts", it["texts"])),
        "GGUF LoRA" => found("gguf_lora")
            .filter(|it| it["same"] == true && it["models"] != 0)
            .map_or(String::new(), |it| match (it["models"].as_u64(), it["refused"].as_u64()) {
                (Some(same), Some(refused)) => format!("{same} of {} models", same + refused),
                _ => "yes".to_owned(),
            }),
        "speed" => found("speed").map_or_else(|| as_texts("speed"), |it| number(&it["ratio"])),
        _ => found("memory").map_or_else(
            || as_texts("memory"),
            |it| format!("{} to {}", number(&it[0]), number(&it[1])),
        ),
    }
}

#[test]
fn the_table_of_families_is_what_the_results_say() {
    let results = results();
    let mut table = format!("| `model_type` | {} |\n", COLUMNS.join(" | "));
    table += &format!("{}|\n", "|---".repeat(COLUMNS.len() + 1));
    for (family, texts) in families() {
        let cell = |column: &&str| cell(column, &family, &texts, &results);
        let cells: Vec<_> = COLUMNS.iter().map(cell).collect();
        table += &format!("| `{family}` | {} |\n", cells.join(" | "));
    }
    let page = fs::read_to_string(repository("docs/models.md")).unwrap();
    let (_, rest) = page.split_once("<!-- table -->\n").unwrap();
    let (written, _) = rest.split_once("<!-- end of table -->\n").unwrap();
    assert!(written == table, "run tests/reference/models_table.py; the table must be\n{table}");
}

#[test]
fn tests_that_the_table_relies_on_are_there() {
    for (column, test) in tests_of_columns() {
        let (module, name) = test.rsplit_once("::").unwrap();
        let file = repository(&format!("tests/it/{}.rs", module.replace("::", "/")));
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.contains(&format!("#[test]\nfn {name}()")), "{column}: {test}");
    }
}
