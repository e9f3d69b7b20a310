//! How a model is used, for its card.

use std::fmt::Write as _;

use super::card::Card;

const OLLAMA: &str = "With Ollama: `ollama create NAME -f Modelfile` in this directory.";

impl Card {
    /// Writes it.
    pub(super) fn write_usage(&self, out: &mut String) -> std::fmt::Result {
        match &self.exported {
            Some(file) if self.is_adapter() && file.ends_with(".gguf") => {
                return write_lora_usage(file, out);
            }
            Some(_) if self.is_adapter() => return self.write_serving_usage(out),
            Some(_) if self.is_decision_model() => return write_decision_usage(out),
            Some(file) => return write_export_usage(file, out),
            None => {}
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
