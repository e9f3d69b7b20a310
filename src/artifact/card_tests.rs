//! Tests of the model card: front matter, body, hostile names.

use super::*;
use crate::adapters::ADAPTERS;
use crate::config::ProblemType;
use crate::hub::InputTrust;
use crate::snapshots::says;

pub(crate) fn card() -> Card {
    let digest = Digest::of(b"x");
    Card {
        name: "quickstart".into(),
        relation: Relation::Adapter(ADAPTERS[0].label()),
        base: "acme/base-tiny".into(),
        base_id: Some("acme/base-tiny".into()),
        revision: None,
        base_files: vec![FileEntry { path: "model.safetensors".into(), size: 3, sha256: digest }],
        base_adapters: Vec::new(),
        license: Some("Apache-2.0".into()),
        datasets: vec![CardDataset {
            name: "datasets/facts.jsonl".into(),
            split: "train".into(),
            rows: 120,
            sha256: digest,
            uri: None,
        }],
        settings: vec![("lora.r".into(), "16".into())],
        loss: Some(LossChange {
            dataset: "facts".into(),
            before: 3.0,
            after: 1.0,
            of_tokens: true,
        }),
        judged: Some(Evaluated {
            suite: "nightly".into(),
            datasets: vec!["datasets/judged.jsonl".into()],
            sha256: Digest::of(b"suite"),
            metrics: vec![("loss".into(), 1.25), ("json".into(), f64::NAN)],
            table: "| | records | loss |\n| --- | ---: | ---: |\n| all | 3 | 1.2500 |\n".into(),
        }),
        samples: vec![Sample { prompt: "Hi?".into(), before: "?".into(), after: "Hello.".into() }],
        logit_diff: None,
        beside: Vec::new(),
        head: None,
        exported: None,
        inputs: digest,
        signer: Some(digest.to_string()),
        versions: vec![("firebrand".into(), "0.1.0".into())],
    }
}

fn head(problem_type: Option<ProblemType>, labels: &[&str], temperature: f64) -> ScoreHead {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    ScoreHead { problem_type, labels, temperature }
}

/// What the card says of the model's use.
fn used(text: &str) -> &str {
    text.split("## Use\n").nth(1).unwrap()
}

fn front_matter(text: &str) -> &str {
    let rest = text.strip_prefix("---\n").unwrap();
    &rest[..rest.find("\n---\n").unwrap() + 1]
}

#[test]
fn the_front_matter_is_what_the_hub_reads() {
    let expected = "license: apache-2.0
base_model: acme/base-tiny
base_model_relation: adapter
metrics:
- loss
- perplexity
library_name: peft
pipeline_tag: text-generation
tags:
- firebrand
- \"base_model:adapter:acme/base-tiny\"
- lora
model-index:
- name: quickstart
  results:
  - task:
      type: text-generation
    dataset:
      type: facts
      name: facts
      split: validation
    metrics:
    - type: loss
      value: 1.000000
    - type: perplexity
      value: 2.718282
  - task:
      type: text-generation
    dataset:
      type: datasets/judged.jsonl
      name: nightly
    metrics:
    - type: loss
      value: 1.250000
";
    assert_eq!(front_matter(&card().to_markdown()), expected);
}

#[test]
fn a_model_from_scratch_claims_no_base() {
    let card = Card { relation: Relation::Scratch, license: None, loss: None, ..card() };
    let text = card.to_markdown();
    let front = front_matter(&text);
    assert!(!front.contains("base_model") && !front.contains("license"), "{front}");
    assert!(front.contains("library_name: transformers"), "{front}");
    assert!(text.contains("from transformers import AutoModelForCausalLM"), "{text}");
}

#[test]
fn front_matter_names_a_base_model_as_the_hub_does_or_not_at_all() {
    let path = "checkpoints/base".to_owned();
    let directory = ModelDirectory { id: path, path: "x".into(), adapter: false, locked: None };
    assert_eq!(id_of(None, &directory), None);
    assert_eq!(id_of(Some("acme/base"), &directory).as_deref(), Some("acme/base"));
    let text = Card { base_id: None, ..card() }.to_markdown();
    let front = text.split("---").nth(1).unwrap();
    assert!(!front.contains("base_model"), "{front}");
    let text = Card { base: "checkpoints/base".into(), ..card() }.to_markdown();
    assert!(text.contains("\nbase_model: acme/base-tiny\n"), "{text}");
}

#[test]
fn hostile_names_stay_where_they_are_put() {
    let evil = "x\n---\nlicense: mit\n# `y` | <script>\u{1b}[2J";
    let card = Card {
        name: evil.into(),
        base: evil.into(),
        base_id: Some(evil.into()),
        license: Some(evil.into()),
        loss: Some(LossChange { dataset: evil.into(), before: 1.0, after: 1.0, of_tokens: true }),
        judged: Some(Evaluated {
            suite: evil.into(),
            datasets: vec![evil.into()],
            sha256: Digest::of(b"suite"),
            metrics: vec![(evil.into(), 1.0)],
            table: String::new(),
        }),
        samples: vec![Sample { prompt: evil.into(), before: evil.into(), after: evil.into() }],
        ..card()
    };
    let text = card.to_markdown();
    assert_eq!(text.lines().filter(|line| *line == "---").count(), 2, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("license:")).count(), 1, "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("# ")).count(), 1, "{text}");
    assert!(!text.contains('\u{1b}'));
    for line in text.lines().filter(|line| line.contains("<script>")) {
        assert!(line.contains('`') || line.contains('"'), "{line}");
    }
}

#[test]
fn the_body_says_what_from_what_and_how_to_verify() {
    let text = card().to_markdown();
    for part in [
        "# `quickstart`",
        "A LoRA adapter for `acme/base-tiny`",
        "| base model | `model.safetensors` | `2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db0",
        "| `lora.r` | `16` |",
        "| validation loss | 3.0000 | 1.0000 |",
        "| `Hi?` | `?` | `Hello.` |",
        "By the suite `nightly` on `datasets/judged.jsonl`:\n\n| | records | loss |",
        "model_signing verify key . --signature model.sig --public_key key.pem",
        "from peft import AutoPeftModelForCausalLM",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let unsigned = Card { signer: None, ..card() }.to_markdown();
    assert!(unsigned.contains("Not signed") && !unsigned.contains("model_signing verify"));
}

#[test]
fn data_of_the_hub_is_named_with_its_commit_and_local_files_are_not() {
    let mut card = card();
    card.loss.as_mut().unwrap().dataset = "acme/sft/data/validation.parquet".into();
    card.datasets.push(CardDataset {
        name: "acme/sft/data/validation.parquet".into(),
        split: "validation".into(),
        rows: 7,
        sha256: card.inputs,
        uri: Some("hf://datasets/acme/sft@5503434d/data/v.parquet".into()),
    });
    // What was only measured on is no data that the model was trained on.
    let front = front_matter(&card.to_markdown()).to_owned();
    assert!(!front.contains("datasets:\n"), "{front}");
    card.datasets.push(CardDataset {
        name: "acme/chat/data/train.parquet".into(),
        split: "train".into(),
        rows: 70,
        sha256: card.inputs,
        uri: Some("hf://datasets/acme/chat@5503434d/data/t.parquet".into()),
    });
    let text = card.to_markdown();
    let front = front_matter(&text);
    assert!(front.contains("datasets:\n- acme/chat\nmetrics:"), "{front}");
    assert!(front.contains("      type: acme/sft\n"), "{front}");
    assert!(front.contains("      revision: \"5503434d\"\n"), "{front}");
}

#[test]
fn a_merge_says_how_far_it_is_from_its_adapter() {
    let logit_diff = LogitDiff {
        what: "two rows".into(),
        difference: 0.125,
        largest: 16.0,
        agreeing: 7,
        positions: 8,
    };
    let beside = vec![("validation loss of the adapter".to_owned(), "2.5000".to_owned())];
    let relation = Relation::Merge(ADAPTERS[0].label());
    let card = Card { relation, logit_diff: Some(logit_diff), beside, ..card() };
    let text = card.to_markdown();
    let row = "| validation loss of the adapter | `2.5000` |";
    for part in ["base_model_relation: merge", "Compared on two rows", "1.250e-1", "7 of 8", row] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn an_export_says_how_others_open_it() {
    let file = Some("quickstart-F16.gguf".to_owned());
    let text = Card { relation: Relation::Export, exported: file, ..card() }.to_markdown();
    for part in ["library_name: gguf", "- gguf\n", "base_model_relation: quantized"] {
        assert!(front_matter(&text).contains(part), "{part}\n{text}");
    }
    assert!(text.contains("llama-cli -m quickstart-F16.gguf"), "{text}");
    assert!(text.contains("gguf_file=\"quickstart-F16.gguf\""), "{text}");
}

#[test]
fn an_adapter_of_experts_for_vllm_says_how_it_is_served() {
    let exported = Some("adapter_model.safetensors".to_owned());
    for (base, shown) in [("owner/name-1.5", "owner/name-1.5"), ("a\n```", "BASE")] {
        let card = Card { exported: exported.clone(), base: base.to_owned(), ..card() };
        let text = card.to_markdown();
        let serve = format!("vllm serve {shown} --enable-lora --lora-modules tuned=.");
        assert!(text.contains(&serve), "{text}");
        assert!(!text.contains("AutoPeftModel"), "{text}");
    }
}

#[test]
fn what_scores_labels_is_a_classifier_to_the_hub() {
    let loss = LossChange { dataset: "x".into(), before: 3.0, after: 1.0, of_tokens: false };
    let kinds = [
        head(Some(ProblemType::SingleLabel), &["no", "yes"], 1.0),
        head(Some(ProblemType::Regression), &["LABEL_0"], 1.0),
        ScoreHead::single_score(),
    ];
    for (relation, library) in [
        (Relation::Adapter(ADAPTERS[0].label()), "peft"),
        (Relation::Finetune, "transformers"),
        (Relation::Merge(ADAPTERS[0].label()), "transformers"),
    ] {
        for head in kinds.clone() {
            let (head, loss) = (Some(head), Some(loss.clone()));
            let text = Card { relation, head, loss, ..card() }.to_markdown();
            let front = front_matter(&text);
            let task = format!("library_name: {library}\npipeline_tag: text-classification\n");
            assert!(front.contains(&task), "{text}");
            assert_eq!(front.matches("type: text-classification\n").count(), 2, "{text}");
            for other in ["text-generation", "CausalLM", "firebrand generate", "perplexity"] {
                assert!(!text.contains(other), "{other}\n{text}");
            }
        }
    }
}

#[test]
fn an_adapter_that_scores_labels_says_how_it_is_used() {
    let head = Some(head(Some(ProblemType::SingleLabel), &["`no` | \n", "yes"], 1.5));
    says(
        used(&Card { head, ..card() }.to_markdown()),
        snapbox::str![[r#"

```
firebrand classify . texts.txt
```

```python
import json

import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

with open("score_head.json", encoding="utf-8") as file:
    id2label = dict(enumerate(json.load(file)["labels"]))
model = AutoPeftModelForSequenceClassification.from_pretrained(".", id2label=id2label)
model.config.get_text_config().pad_token_id = None  # the last token counts
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("...", return_tensors="pt")
with torch.no_grad():
    scores = model(**inputs).logits[0].float()
values = (scores / 1.5).softmax(-1).tolist()
print({name: values[number] for number, name in model.config.id2label.items()})
```

PEFT looks for the base model where `adapter_config.json` says. transformers warns of a new `score.weight`:
the adapter brings it.

Several texts at once require a `pad_token_id`; the score of each is then that of its last token
that is not the padding one.

A conversation is written out by the chat template, where the model has one:

```python
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
```

Scores are divided by the temperature `1.5`, which was fitted on
held-out texts (`score_head.json`). The pipeline `text-classification` of transformers does not know it.

| `id2label` | |
|---:|---|
| 0 | `` `no` \| ⏎ `` |
| 1 | `yes` |

"#]],
    );
    let head = Some(ScoreHead::single_score());
    says(
        used(&Card { head, ..card() }.to_markdown()),
        snapbox::str![[r#"

```
firebrand classify . texts.txt
```

```python
import torch
from peft import AutoPeftModelForSequenceClassification
from transformers import AutoTokenizer

model = AutoPeftModelForSequenceClassification.from_pretrained(".", num_labels=1)
model.config.get_text_config().pad_token_id = None  # the last token counts
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("...", return_tensors="pt")
with torch.no_grad():
    scores = model(**inputs).logits[0].float()
print(scores.item())
```

PEFT looks for the base model where `adapter_config.json` says. transformers warns of a new `score.weight`:
the adapter brings it.

Several texts at once require a `pad_token_id`; the score of each is then that of its last token
that is not the padding one.

The better an answer, the higher its score; only scores of answers to the same prompt can be
compared.

A conversation is written out by the chat template, where the model has one:

```python
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
```

"#]],
    );
}

#[test]
fn a_whole_model_that_scores_labels_says_how_it_is_used() {
    let of = |problem_type, labels: &[&str], temperature| {
        let head = Some(head(Some(problem_type), labels, temperature));
        Card { relation: Relation::Finetune, head, ..card() }.to_markdown()
    };
    says(
        used(&of(ProblemType::MultiLabel, &["red", "round"], 0.75)),
        snapbox::str![[r#"

```
firebrand classify . texts.txt
```

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".")
model.config.get_text_config().pad_token_id = None  # the last token counts
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("...", return_tensors="pt")
with torch.no_grad():
    scores = model(**inputs).logits[0].float()
values = (scores / 0.75).sigmoid().tolist()
print({name: values[number] for number, name in model.config.id2label.items()})
```

Several texts at once require a `pad_token_id`; the score of each is then that of its last token
that is not the padding one.

A conversation is written out by the chat template, where the model has one:

```python
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
```

Scores are divided by the temperature `0.75`, which was fitted on
held-out texts (`score_head.json`). The pipeline `text-classification` of transformers does not know it.

| `id2label` | |
|---:|---|
| 0 | `red` |
| 1 | `round` |

"#]],
    );
    says(
        used(&of(ProblemType::Regression, &["LABEL_0"], 1.0)),
        snapbox::str![[r#"

```
firebrand classify . texts.txt
```

```python
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(".")
model.config.get_text_config().pad_token_id = None  # the last token counts
tokenizer = AutoTokenizer.from_pretrained(".")
inputs = tokenizer("...", return_tensors="pt")
with torch.no_grad():
    scores = model(**inputs).logits[0].float()
values = scores.tolist()
print({name: values[number] for number, name in model.config.id2label.items()})
```

Several texts at once require a `pad_token_id`; the score of each is then that of its last token
that is not the padding one.

A conversation is written out by the chat template, where the model has one:

```python
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors="pt")
```

"#]],
    );
    let many: Vec<String> = (0..103).map(|number| format!("label {number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let text = of(ProblemType::SingleLabel, &many, 1.0);
    assert!(text.contains("values = scores.softmax(-1).tolist()\n"), "{text}");
    assert!(text.ends_with("| 99 | `label 99` |\n| | and 3 more |\n"), "{text}");
}

#[test]
fn a_decision_model_says_how_it_is_asked() {
    let (relation, exported) = (Relation::Merge(ADAPTERS[0].label()), DECISION_FILE.to_owned());
    let head = Some(head(Some(ProblemType::SingleLabel), &["no", "yes"], 1.5));
    let text = Card { relation, exported: Some(exported), head, ..card() }.to_markdown();
    let front = front_matter(&text);
    for part in ["library_name: transformers\npipeline_tag: text-classification", "model:merge:"] {
        assert!(front.contains(part), "{part}\n{text}");
    }
    says(
        used(&text),
        snapbox::str![[r#"

With transformers from 5.24 on, as a decision model (`JevForDecision`):

```python
from transformers import pipeline

decide = pipeline("decision", model=".")
labels = decide.decision_config.labels["choice"]
question = {"type": "choice", "criteria": dict.fromkeys(labels)}
print(decide({"state": "...", "questions": {"label": question}}))
```

`state` is a text, or a list of messages where the model has a chat template. The options are all labels,
in their order; others are refused. What a question says besides is not read.

"#]],
    );
}

/// A name from a lineage is anyone's: one that could be more than a name is not written as code.
#[test]
fn an_adapter_on_others_says_how_all_of_them_are_loaded() {
    let below = |id: &str, revision: Option<&str>| BaseRecord {
        id: id.into(),
        revision: revision.map(str::to_owned),
        files: vec![FileEntry {
            path: "adapter_model.safetensors".into(),
            size: 3,
            sha256: Digest::of(b"x"),
        }],
        gguf: None,
        trust: InputTrust::Tofu,
        parent: None,
    };
    let first = below("/models/first/artifact", None);
    let base_adapters = vec![first, below("acme/second", Some("0123abc")), below("a\")\nb", None)];
    let text = Card { base_adapters, ..card() }.to_markdown();
    says(
        used(&text),
        snapbox::str![[r#"

```
firebrand generate . --prompt "..."
```

The adapters below it are merged into the base first, in the order of the table. Alone, the base is not what this adapter was
trained on, and `AutoPeftModel` loads it so. With those 3 adapters:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("acme/base-tiny")
model = PeftModel.from_pretrained(model, "first/artifact").merge_and_unload()
model = PeftModel.from_pretrained(model, "acme/second", revision="0123abc").merge_and_unload()
model = PeftModel.from_pretrained(model, "ADAPTER-3").merge_and_unload()
model = PeftModel.from_pretrained(model, ".")
tokenizer = AutoTokenizer.from_pretrained(".")
```

"#]],
    );
    let rows: Vec<&str> = text.lines().filter(|line| line.starts_with("| adapter ")).collect();
    says(
        rows.join("\n"),
        snapbox::str![[r#"
| adapter 1 below | `first/artifact`, `adapter_model.safetensors` | `[SHA256]` |
| adapter 2 below, commit | `acme/second`, `0123abc` | |
| adapter 2 below | `acme/second`, `adapter_model.safetensors` | `[SHA256]` |
| adapter 3 below | `a")⏎b`, `adapter_model.safetensors` | `[SHA256]` |
"#]],
    );
}
