//! How a model is used, for its card.

use std::fmt::Write as _;

use super::card::Card;
use super::markup::code;
use super::score_head;
use crate::config::{ProblemType, ScoreHead};
use crate::objectives::LABELLING_TASK;

/// transformers takes the last token that is not the padding one, which may be the end of a text.
const BATCHES: &str = "
Several texts at once require a `pad_token_id`; the score of each is then that of its last token
that is not the padding one.
";
const CONVERSATIONS: &str = "
A conversation is written out by the chat template, where the model has one:

```python
inputs = tokenizer.apply_chat_template(messages, return_dict=True, return_tensors=\"pt\")
```
";
const REWARDS: &str = "
The better an answer, the higher its score; only scores of answers to the same prompt can be
compared.
";
/// More labels than these are only counted.
const LABELS_SHOWN: usize = 100;
const OLLAMA: &str = "With Ollama: `ollama create NAME -f Modelfile` in this directory.";

impl Card {
    /// Writes it.
    pub(super) fn write_usage(&self, out: &mut String) -> std::fmt::Result {
        if self.is_adapter() && !self.base_adapters.is_empty() {
            return self.write_stacked_usage(out);
        }
        match &self.exported {
            Some(file) if self.is_adapter() && file.ends_with(".gguf") => {
                return write_lora_usage(file, out);
            }
            Some(_) if self.is_adapter() => return self.write_serving_usage(out),
            Some(_) if self.is_decision_model() => return write_decision_usage(out),
            Some(file) => return write_export_usage(file, out),
            None => {}
        }
        if let Some(head) = &self.head {
            return self.write_scoring_usage(head, out);
        }
        let class =
            if self.is_adapter() { "AutoPeftModelForCausalLM" } else { "AutoModelForCausalLM" };
        let library = if self.is_adapter() { "peft" } else { "transformers" };
        writeln!(out, "\n## Use\n\n```\nfirebrand generate . --prompt \"...\"\n```\n")?;
        write!(
            out,
            "```python\nfrom {library} import {class}\nfrom transformers import AutoTokenizer\n\n\
             model = {class}.from_pretrained(\".\")\n\
             tokenizer = AutoTokenizer.from_pretrained(\".\")\n```\n"
        )?;
        if self.is_adapter() {
            writeln!(out, "\nPEFT looks for the base model where `adapter_config.json` says.")?;
        }
        Ok(())
    }

    fn write_scoring_usage(&self, head: &ScoreHead, out: &mut String) -> std::fmt::Result {
        let file = score_head::FILE;
        writeln!(out, "\n## Use\n\n```\nfirebrand classify . texts.txt\n```\n\n```python")?;
        self.write_scoring(head, out)?;
        writeln!(out, "```")?;
        if self.is_adapter() {
            writeln!(
                out,
                "\nPEFT looks for the base model where `adapter_config.json` says. transformers \
                 warns of a new `score.weight`:\nthe adapter brings it."
            )?;
        }
        out.push_str(BATCHES);
        if head.problem_type.is_none() {
            out.push_str(REWARDS);
            out.push_str(CONVERSATIONS);
            return Ok(());
        }
        out.push_str(CONVERSATIONS);
        if let Some(temperature) = fitted(head) {
            writeln!(
                out,
                "\nScores are divided by the temperature `{temperature}`, which was fitted on\n\
                 held-out texts (`{file}`). The pipeline `{LABELLING_TASK}` of transformers \
                 does not know it."
            )?;
        }
        write_labels(head, out)
    }

    /// Python that scores a text.
    fn write_scoring(&self, head: &ScoreHead, out: &mut String) -> std::fmt::Result {
        const CLASS: &str = "AutoModelForSequenceClassification";
        // An adapter's settings do not say how many labels there are.
        let count = match (self.is_adapter(), head.problem_type) {
            (false, _) => "",
            (true, None) => ", num_labels=1",
            (true, Some(_)) => ", id2label=id2label",
        };
        let reads_labels = count.ends_with("id2label");
        if reads_labels {
            writeln!(out, "import json\n")?;
        }
        let (class, import) = match self.is_adapter() {
            true => (CLASS.replace("Auto", "AutoPeft"), "AutoTokenizer".to_owned()),
            false => (CLASS.to_owned(), format!("{CLASS}, AutoTokenizer")),
        };
        writeln!(out, "import torch")?;
        if self.is_adapter() {
            writeln!(out, "from peft import {class}")?;
        }
        writeln!(out, "from transformers import {import}\n")?;
        if reads_labels {
            let file = score_head::FILE;
            write!(
                out,
                "with open(\"{file}\", encoding=\"utf-8\") as file:\n    \
                 id2label = dict(enumerate(json.load(file)[\"labels\"]))\n"
            )?;
        }
        write!(
            out,
            "model = {class}.from_pretrained(\".\"{count})\n\
             model.config.get_text_config().pad_token_id = None  # the last token counts\n\
             tokenizer = AutoTokenizer.from_pretrained(\".\")\n\
             inputs = tokenizer(\"...\", return_tensors=\"pt\")\nwith torch.no_grad():\n    \
             scores = model(**inputs).logits[0].float()\n"
        )?;
        let scaled = fitted(head).map_or("scores".to_owned(), |it| format!("(scores / {it})"));
        let values = match head.problem_type {
            None => return writeln!(out, "print(scores.item())"),
            Some(ProblemType::SingleLabel) => scaled + ".softmax(-1)",
            Some(ProblemType::MultiLabel) => scaled + ".sigmoid()",
            Some(ProblemType::Regression) => "scores".to_owned(),
        };
        write!(
            out,
            "values = {values}.tolist()\n\
             print({{name: values[number] for number, name in model.config.id2label.items()}})\n"
        )
    }

    fn write_serving_usage(&self, out: &mut String) -> std::fmt::Result {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
        let base = if self.base.chars().all(is_plain) { &self.base } else { "BASE" };
        write!(
            out,
            "\n## Use\n\nWith vLLM, which has a tensor for each matrix of each expert:\n\n```\n\
             vllm serve {base} --enable-lora --lora-modules tuned=.\n```\n\n\
             `vllm serve --max-lora-rank` must be at least `r` in `adapter_config.json`. Models \
             whose experts vLLM keeps in\none tensor (gpt-oss, Qwen3.5) require \
             `vllm serve --enable-mixed-moe-lora-format` besides.\n"
        )
    }
}

/// The temperature, if there is one to divide by.
#[expect(clippy::float_cmp)] // what is not fitted is 1 itself
fn fitted(head: &ScoreHead) -> Option<f64> {
    (head.temperature != 1.0).then_some(head.temperature)
}

/// The names of the labels, where they have any.
fn write_labels(head: &ScoreHead, out: &mut String) -> std::fmt::Result {
    if head.labels.iter().enumerate().all(|(id, name)| *name == ScoreHead::generic(id)) {
        return Ok(());
    }
    writeln!(out, "\n| `id2label` | |\n|---:|---|")?;
    for (id, name) in head.labels.iter().enumerate().take(LABELS_SHOWN) {
        writeln!(out, "| {id} | {} |", code(name))?;
    }
    match head.labels.len().checked_sub(LABELS_SHOWN) {
        Some(more) if more > 0 => writeln!(out, "| | and {more} more |"),
        _ => Ok(()),
    }
}

/// `file` is a name that the exporter made: letters, digits, `-`, `.` and `_`.
fn write_export_usage(file: &str, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "\n## Use\n\nWith llama.cpp, and all that is built on it:\n\n```\n\
         llama-cli -m {file} -p \"...\"\n```\n\n{OLLAMA}\n\nWith transformers (package `gguf`), \
         which widens it to f32:\n\n```python\nfrom transformers import AutoModelForCausalLM, \
         AutoTokenizer\n\nmodel = AutoModelForCausalLM.from_pretrained(\".\", \
         gguf_file=\"{file}\")\ntokenizer = AutoTokenizer.from_pretrained(\".\", \
         gguf_file=\"{file}\")\n```\n"
    )
}

/// The same for an adapter.
fn write_lora_usage(file: &str, out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "\n## Use\n\nWith llama.cpp, beside a GGUF file of the base model:\n\n```\n\
         llama-cli -m BASE.gguf --lora {file} -p \"...\"\n```\n\n{OLLAMA} Its line `FROM` names \
         the base model.\n"
    )
}

fn write_decision_usage(out: &mut String) -> std::fmt::Result {
    write!(
        out,
        "\n## Use\n\nWith transformers from 5.24 on, as a decision model (`JevForDecision`):\n\n\
         ```python\nfrom transformers import pipeline\n\n\
         decide = pipeline(\"decision\", model=\".\")\n\
         labels = decide.decision_config.labels[\"choice\"]\n\
         question = {{\"type\": \"choice\", \"criteria\": dict.fromkeys(labels)}}\n\
         print(decide({{\"state\": \"...\", \"questions\": {{\"label\": question}}}}))\n```\n\n\
         `state` is a text, or a list of messages where the model has a chat template. The options \
         are all labels,\nin their order; others are refused. What a question says besides is not \
         read.\n"
    )
}
