//! Whole commands about judging a model: numbers, slices, tasks, and what is kept of them.

use crate::common::{Run, says};
use serde_json::{Value, json};
use snapbox::str;

const SUITE: &str = "
[data]
path = \"judged.jsonl\"
max_seq_len = 96
[[slice]]
by = \"lang\"
values = [\"en\", \"fr\", \"de\"]
[[slice]]
by = \"length\"
bands = [30]
";

fn eval(run: &Run, model: &str, more: &[&str]) -> Value {
    let call =
        [&["eval", model, "--config", "eval.toml", "--json", "--device", "cpu"], more].concat();
    serde_json::from_str(&run.succeeds(&call)).unwrap()
}

#[test]
fn the_loss_is_the_one_that_training_reports_and_slices_add_up_to_it() {
    let run = Run::with_suite(SUITE);
    // An adapter: a whole model is rounded to bf16 when it is written.
    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let report = eval(&run, "checkpoints/lora", &["--records"]);
    let statement: Value =
        serde_json::from_str(&run.read("checkpoints/lora/artifact/lineage.statement.json"))
            .unwrap();
    let byproducts = &statement["predicate"]["runDetails"]["byproducts"];
    let trained = byproducts[0]["annotations"]["eval_loss"].as_f64().unwrap();
    let loss = report["metrics"]["loss"]["value"].as_f64().unwrap();
    assert!((loss - trained).abs() < 1e-6 * trained, "{loss} and {trained}");
    let perplexity = report["metrics"]["perplexity"]["value"].as_f64().unwrap();
    assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity);

    let records = report["records"].as_array().unwrap();
    assert_eq!(records.len(), 6);
    let sum = |key: &str| records.iter().map(|r| r[key].as_f64().unwrap()).sum::<f64>();
    assert!((sum("loss_sum") / sum("targets") - loss).abs() < 1e-12);
    let accuracy = report["metrics"]["accuracy"]["value"].as_f64().unwrap();
    assert!((sum("correct") / sum("targets") - accuracy).abs() < 1e-12);

    let languages = &report["slices"][0]["slices"];
    let of = |place: usize| (languages[place]["name"].clone(), languages[place]["records"].clone());
    assert_eq!(
        [of(0), of(1), of(2)],
        [(json!("en"), json!(3)), (json!("fr"), json!(3)), (json!("de"), json!(0))]
    );
    let weighted: f64 = records
        .iter()
        .enumerate()
        .filter(|(number, _)| number % 2 == 0)
        .map(|(_, record)| record["loss_sum"].as_f64().unwrap())
        .sum();
    let tokens: f64 =
        records.iter().step_by(2).map(|record| record["targets"].as_f64().unwrap()).sum();
    let english = languages[0]["metrics"]["loss"]["value"].as_f64().unwrap();
    assert!((english - weighted / tokens).abs() < 1e-12);
    let interval = &report["metrics"]["loss"]["interval"];
    assert!(interval["low"].as_f64().unwrap() < loss && loss < interval["high"].as_f64().unwrap());

    let table =
        run.succeeds(&["eval", "checkpoints/tiny", "--config", "eval.toml", "--markdown", "t.md"]);
    assert_eq!(table.trim_end(), run.read("t.md").trim_end());
    says(
        &table,
        str![[r#"
|  | records | accuracy | loss | perplexity |
| --- | ---: | ---: | ---: | ---: |
| all | 6 | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) |
| lang = `en` | 3 | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) |
| lang = `fr` | 3 | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) |
| lang = `de` | 0 | – | – | – |
| length = `0-30` | 0 | – | – | – |
| length = `31+` | 6 | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) | [NUMBER] ([NUMBER] … [NUMBER]) |

"#]],
    );
}

#[test]
fn results_are_kept_for_the_same_bytes_and_measured_for_others() {
    let run = Run::with_suite(SUITE);
    let first = eval(&run, "checkpoints/tiny", &[]);
    let again = eval(&run, "checkpoints/tiny/artifact", &[]);
    let speed = |report: &Value| report["performance"]["tokens_per_second"].clone();
    assert_eq!(speed(&first), speed(&again), "the same model by another name");
    assert_eq!(again["model"]["name"], "checkpoints/tiny/artifact");
    let fresh = eval(&run, "checkpoints/tiny", &["--fresh"]);
    assert_eq!(fresh["metrics"], first["metrics"], "the same numbers when measured again");
    assert_ne!(speed(&fresh), speed(&first));

    run.write("eval.toml", &format!("seed = 8\n{SUITE}"));
    let other = eval(&run, "checkpoints/tiny", &[]);
    assert_eq!(other["metrics"]["loss"]["value"], first["metrics"]["loss"]["value"]);
    assert_ne!(other["metrics"]["loss"]["interval"], first["metrics"]["loss"]["interval"]);
    assert_ne!(other["suite"]["sha256"], first["suite"]["sha256"]);

    run.succeeds(&["train", "lora.toml", "--quiet"]);
    let adapted = eval(&run, "checkpoints/lora", &[]);
    assert_ne!(adapted["model"]["sha256"], other["model"]["sha256"]);
    assert_ne!(adapted["metrics"]["loss"]["value"], other["metrics"]["loss"]["value"]);
    let names: Vec<&str> = adapted["model"]["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| file["path"].as_str().unwrap())
        .collect();
    assert!(names.contains(&"base/model.safetensors"), "{names:?}");
    assert!(names.contains(&"adapter_model.safetensors"), "{names:?}");

    let history = run.read("checkpoints/tiny/evaluations.jsonl");
    assert_eq!(history.lines().count(), 4, "{history}");
    let line: Value = serde_json::from_str(history.lines().next().unwrap()).unwrap();
    assert_eq!(line["metrics"], first["metrics"]);
}

#[test]
fn numbers_do_not_depend_on_threads_or_on_how_rows_are_grouped() {
    let run = Run::with_suite(SUITE);
    let of_threads = |threads: &str, folder: &str| -> Value {
        let call =
            ["eval", "checkpoints/tiny", "--config", "eval.toml", "--json", "--device", "cpu"];
        let output = run
            .command(&call)
            .env("RAYON_NUM_THREADS", threads)
            .env("FIREBRAND_CACHE", run.path(folder))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let (one, three) = (of_threads("1", "one"), of_threads("3", "three"));
    assert_eq!(one["metrics"], three["metrics"]);
    assert_eq!(one["slices"], three["slices"]);
    let grouped = SUITE.replace("max_seq_len = 96", "max_seq_len = 96\nmicro_batch_size = 3");
    run.write("eval.toml", &grouped);
    let grouped = eval(&run, "checkpoints/tiny", &[]);
    let loss = |report: &Value| report["metrics"]["loss"]["value"].as_f64().unwrap();
    assert!((loss(&grouped) - loss(&one)).abs() < 1e-6 * loss(&one));
}

#[cfg(unix)]
#[test]
fn tasks_look_at_answers_and_a_program_may_score_them() {
    let run = Run::with_suite(SUITE);
    run.write("any.json", "{}");
    run.write(
        "eval.toml",
        "[data]\npath = \"judged.jsonl\"\nmax_seq_len = 96\n\
         [[task]]\nname = \"anything\"\nkind = \"regex\"\npattern = \"\"\nmax_tokens = 4\n\
         [[task]]\nname = \"never\"\nkind = \"regex\"\npattern = 'qqq$'\nmax_tokens = 4\n\
         [[task]]\nname = \"same\"\nkind = \"exact\"\nmax_tokens = 4\nmax_records = 2\n\
         [[task]]\nname = \"form\"\nkind = \"json_schema\"\nschema = \"any.json\"\nmax_tokens = 4\n\
         [[task]]\nname = \"ours\"\nkind = \"command\"\nmax_tokens = 4\n\
         command = [\"sh\", \"-c\", \"tee seen.jsonl | sed 's/.*/0.25/'\"]\n",
    );
    let report = eval(&run, "checkpoints/tiny", &["--records"]);
    let value = |name: &str| report["metrics"][name]["value"].as_f64().unwrap();
    assert_eq!((value("anything"), value("never"), value("ours")), (1.0, 0.0, 0.25));
    assert_eq!(report["metrics"]["same"]["records"], 2);
    assert_eq!(report["metrics"]["anything"]["records"], 6);
    assert!(report["performance"]["first_token_seconds"].as_f64().unwrap() > 0.0);

    let seen = run.read("seen.jsonl");
    let lines: Vec<Value> = seen.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    let turns = lines[0]["record"]["messages"].as_array().unwrap();
    assert_eq!(lines[0]["reference"], turns[1]["content"]);
    let prompt = lines[0]["prompt"].as_str().unwrap();
    assert!(prompt.contains(turns[0]["content"].as_str().unwrap()), "{prompt}");
    assert!(!prompt.contains(turns[1]["content"].as_str().unwrap()), "{prompt}");
    let ids: Vec<&Value> = report["records"].as_array().unwrap().iter().map(|r| &r["id"]).collect();
    assert_eq!(lines.iter().map(|line| &line["id"]).collect::<Vec<_>>(), ids);

    // Answers are the model's own: those that `generate` gives for the same prompt.
    let question = turns[0]["content"].as_str().unwrap();
    let call =
        ["generate", "checkpoints/tiny", "--chat", "--prompt", question, "--max-tokens", "4"];
    let alone = run.succeeds(&call);
    let answer = lines[0]["answer"].as_str().unwrap();
    assert!(
        answer.contains(alone.trim_end()) || alone.trim_end().contains(answer),
        "{answer}: {alone}"
    );
}

#[test]
fn what_cannot_be_judged_is_an_error_with_its_place() {
    let run = Run::with_suite(SUITE);
    let call = ["eval", "checkpoints/tiny", "--config", "eval.toml"];
    let lines = run.read("judged.jsonl");
    run.write("judged.jsonl", &format!("{lines}no json\n"));
    run.fails_with(
        2,
        &call,
        str![[r#"
error[data]: a record of the evaluation cannot be used
  at judged.jsonl:7:1
  because not valid JSON: expected ident at column 2

hint: correct or remove it: a model must not be evaluated on some of the records only

"#]],
    );
    run.write("judged.jsonl", &lines);
    run.write(
        "eval.toml",
        &SUITE.replace("by = \"lang\"\nvalues = [\"en\", \"fr\", \"de\"]", "by = \"language\""),
    );
    run.fails_with(
        2,
        &call,
        str![[r#"
error[evaluation]: no record has the column `language`
  at eval.toml

hint: columns are named as they stand in the records, e.g. `meta.lang`

"#]],
    );
    run.write("text.jsonl", "{\"text\": \"two and two\"}\n");
    run.write(
        "eval.toml",
        "[data]\npath = \"text.jsonl\"\n[[task]]\nname = \"a\"\nkind = \"exact\"\n",
    );
    run.fails_with(
        2,
        &call,
        str![[r#"
error[evaluation]: the task `a` has nothing to ask
  at eval.toml
  because no record has an answer of its own: they are plain text

hint: tasks are for conversations, and for prompts with completions

"#]],
    );
    run.fails_with(
        2,
        &["eval", "checkpoints/none", "--config", "eval.toml"],
        str![[r#"
error[model]: there is no model `checkpoints/none`

hint: name a model directory, an artifact, a finished run, or `owner/name` on a hub

"#]],
    );
    run.write("eval.toml", "[data]\npath = \"missing.jsonl\"\n");
    run.fails_with(
        2,
        &call,
        str![[r#"
error[file]: there is no such file
  at missing.jsonl

"#]],
    );
}

#[test]
fn a_suite_in_the_configuration_judges_the_finished_model() {
    let run = Run::with_suite(SUITE);
    run.succeeds(&["train", "lora.toml", "--quiet", "--set", "eval.suite=eval.toml"]);
    let report = eval(&run, "checkpoints/lora", &[]);
    let loss = report["metrics"]["loss"]["value"].as_f64().unwrap();
    let statement: Value =
        serde_json::from_str(&run.read("checkpoints/lora/artifact/lineage.statement.json"))
            .unwrap();
    let byproducts = &statement["predicate"]["runDetails"]["byproducts"];
    assert_eq!(byproducts[0]["annotations"]["eval/loss"], report["metrics"]["loss"]["value"]);
    let card = run.read("checkpoints/lora/artifact/README.md");
    assert!(card.contains("By the suite `eval` on `judged.jsonl`"), "{card}");
    assert!(card.contains("| all | 6 |") && card.contains("| lang = `fr` | 3 |"), "{card}");
    assert!(card.contains(&format!("value: {loss:.6}")), "{card}");
    assert_eq!(run.read("checkpoints/lora/evaluations.jsonl").lines().count(), 2);
    run.succeeds(&["verify", "checkpoints/lora"]);
    // A suite that cannot be used is told before the first step.
    let missing = ["train", "lora.toml", "--set", "eval.suite=no.toml", "--set", "name=other"];
    run.fails_with(
        2,
        &missing,
        str![[r#"
error[file]: cannot read the evaluation
  at no.toml
  because No such file or directory (os error 2)

"#]],
    );
    assert!(!run.path("checkpoints/other/metrics.jsonl").exists());

    let page = run.read("checkpoints/lora/report.html");
    for part in
        ["<h2>Loss</h2>", "<polyline", "<h2>Lineage</h2>", "learning_rate", "eval", "finished"]
    {
        assert!(page.contains(part), "{part}");
    }
    assert!(!page.contains("<script") && !page.contains("http://") || page.contains("w3.org"));
    run.succeeds(&["runs", "report", "checkpoints/tiny", "--out", "page.html"]);
    assert!(run.read("page.html").contains("What is 3 plus 4?"));
}
