//! Short configurations to start from, for what people do most.

use crate::document::{quoted, value_of};
use crate::error::{Error, Result};
use crate::settings;

/// A configuration of some twenty lines.
pub struct Preset {
    /// What `--preset` calls it.
    pub name: &'static str,
    /// What it trains, for people.
    pub about: &'static str,
    /// What stands in `[model]` besides the base.
    model: &'static str,
    /// Keys of its data set besides the path.
    data_set: &'static str,
    /// What stands in `[data]`.
    data: &'static str,
    /// The sections after that.
    rest: &'static str,
}

/// The data of pairs of answers: of the set, and in `[data]`.
const PAIRS: [&str; 2] = ["format = \"preference\"\n", "max_seq_len = 1024\nval_size = 0.05\n"];

/// All of them.
const PRESETS: [Preset; 7] = [
    Preset {
        name: "chat-lora",
        about: "a chat model gets a LoRA adapter of conversations",
        model: "",
        data_set: "",
        data: "max_seq_len = 2048\nval_size = 0.02 # held out for the validation loss\n",
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nepochs = 2\nlearning_rate = 2e-4\n\
               micro_batch_size = 2\ngradient_accumulation_steps = 8\nwarmup_ratio = 0.03\n\
               recompute = \"layers\" # saves memory, takes a third more time\n\n[eval]\n\
               every_steps = 50\n",
    },
    Preset {
        name: "qlora",
        about: "a chat model frozen in four bits (NF4) gets a LoRA adapter of conversations",
        model: "weight_format = \"nf4\" # the base in four bits\n",
        data_set: "",
        data: "max_seq_len = 2048\nval_size = 0.02 # held out for the validation loss\n",
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nepochs = 2\nlearning_rate = 2e-4\n\
               micro_batch_size = 1\ngradient_accumulation_steps = 16\nwarmup_ratio = 0.03\n\
               optimizer = \"adamw-8bit\" # a quarter of the optimizer's memory\n\
               recompute = \"layers\" # saves memory, takes a third more time\n\n[eval]\n\
               every_steps = 50\n",
    },
    Preset {
        name: "cpt",
        about: "a base model goes on reading plain text, all its weights",
        model: "",
        data_set: "format = \"text\"\n",
        data: "max_seq_len = 2048\nval_size = 0.01\ntrain_on = \"all\"\n",
        rest: "[train]\nepochs = 1\nlearning_rate = 2e-5\nmicro_batch_size = 1\n\
               gradient_accumulation_steps = 16\nwarmup_ratio = 0.05\nweight_decay = 0.1\n\
               recompute = \"layers\" # saves memory, takes a third more time\n\n[eval]\n\
               every_steps = 100\n",
    },
    Preset {
        name: "dpo",
        about: "a chat model learns which of two answers is preferred, with a LoRA adapter",
        model: "",
        data_set: PAIRS[0],
        data: PAIRS[1],
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nobjective = \"dpo\"\nepochs = 1\n\
               learning_rate = 5e-6\nmicro_batch_size = 1\ngradient_accumulation_steps = 16\n\
               warmup_ratio = 0.1\nrecompute = \"layers\" # saves memory, takes more time\n",
    },
    Preset {
        name: "orpo",
        about: "a chat model learns answers and which of two is preferred, with a LoRA adapter",
        model: "",
        data_set: PAIRS[0],
        data: PAIRS[1],
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nobjective = \"orpo\"\nepochs = 1\n\
               learning_rate = 8e-6\nmicro_batch_size = 1\ngradient_accumulation_steps = 16\n\
               warmup_ratio = 0.1\nrecompute = \"layers\" # saves memory, takes more time\n",
    },
    Preset {
        name: "classifier",
        about: "a model learns to label texts, with a LoRA adapter and a head for the labels",
        model: "",
        data_set: "",
        data: "max_seq_len = 512\nval_size = 0.1\n",
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nobjective = \"classification\"\n\
               epochs = 3\nlearning_rate = 2e-4\nmicro_batch_size = 8\n\
               gradient_accumulation_steps = 2\nwarmup_ratio = 0.1\n\n[classification]\n\
               calibrate = true # what the probabilities are worth is measured and stated\n\n\
               [eval]\nevery_steps = 50\n",
    },
    Preset {
        name: "tools",
        about: "a chat model learns to call tools, with a LoRA adapter",
        model: "",
        data_set: "format = \"messages\"\n",
        data: "max_seq_len = 4096\nval_size = 0.05\non_unused = \"error\" # all of a record \
               reaches the model\noverlong = \"drop\" # half a call teaches the wrong thing\n",
        rest: "[lora]\nr = 16\nlora_alpha = 32\n\n[train]\nepochs = 3\nlearning_rate = 2e-4\n\
               micro_batch_size = 1\ngradient_accumulation_steps = 8\nwarmup_ratio = 0.03\n\
               recompute = \"layers\" # saves memory, takes a third more time\n\n[eval]\n\
               every_steps = 50\nmax_tokens = 128\n",
    },
];

/// Names of the presets whose objective there is.
pub fn names() -> Vec<&'static str> {
    let known = |preset: &&Preset| {
        let objective = preset.rest.split("objective = ").nth(1).and_then(|of| of.lines().next());
        objective.is_none_or(|of| value_of(&settings::KEYS, "train.objective", of).is_some())
    };
    PRESETS.iter().filter(known).map(|preset| preset.name).collect()
}

impl Preset {
    /// The preset of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PRESETS.iter().find(|preset| preset.name == name)
    }

    /// The configuration that trains `model` on `data`.
    ///
    /// # Errors
    /// When the values are none that a configuration can have.
    pub fn write(&self, model: &str, data: &str) -> Result<String> {
        let (base, path) = (quoted(model), quoted(data));
        let text = format!(
            "# {}.\n# `firebrand plan` says what it takes, `firebrand init` alone writes every \
             key.\n\n[model]\nbase = {base}\n{}\n[data]\n{}\n[[data.train]]\npath = {path}\n{}\n{}",
            capitalised(self.about),
            self.model,
            self.data,
            self.data_set,
            self.rest
        );
        match settings::parse("preset.toml".as_ref(), text.as_bytes(), &[]) {
            Ok(_) => Ok(text),
            Err(error) => Err(Error::config("this configuration cannot be written").because(error)),
        }
    }
}

fn capitalised(text: &str) -> String {
    let (first, rest) = text.split_at(1);
    first.to_uppercase() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn every_preset_is_a_configuration_of_some_twenty_lines() {
        for name in names() {
            let preset = Preset::find(name).unwrap();
            let text = preset.write("owner/name", "chats.jsonl").unwrap();
            assert!((18..36).contains(&text.lines().count()), "{text}");
        }
        assert!(names().contains(&"orpo") && Preset::find("x").is_none());
    }

    #[test]
    fn a_preset_reads_like_this() {
        says(
            PRESETS[0].write("owner/name", "chats.jsonl").unwrap(),
            snapbox::str![[r#"
# A chat model gets a LoRA adapter of conversations.
# `firebrand plan` says what it takes, `firebrand init` alone writes every key.

[model]
base = "owner/name"

[data]
max_seq_len = 2048
val_size = 0.02 # held out for the validation loss

[[data.train]]
path = "chats.jsonl"

[lora]
r = 16
lora_alpha = 32

[train]
epochs = 2
learning_rate = 2e-4
micro_batch_size = 2
gradient_accumulation_steps = 8
warmup_ratio = 0.03
recompute = "layers" # saves memory, takes a third more time

[eval]
every_steps = 50

"#]],
        );
    }
}
