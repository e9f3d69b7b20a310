//! What a change of a setting does to a run that has begun: one table, in which every key stands.

/// What a setting decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// How many steps there are.
    Length,
    /// Which tokens are trained on, in which order.
    Data,
    /// Where it is computed, and how numbers are rounded there.
    Device,
    /// Any other number of the weights.
    Weights,
    /// What is measured and asked beside training: no weight.
    Measures,
    /// How fast or how large it is: no weight.
    Speed,
    /// Its name, what is saved and when, where the result goes, who signs it, who vouches for what
    /// goes in: no weight.
    Aside,
}

use Effect::{Aside, Data, Device, Length, Measures, Speed, Weights};

/// Every key, and every section of which all keys have the same effect (it ends with a point).
/// Keys of the tables of an array stand without their number.
const EFFECTS: &[(&str, Effect)] = &[
    ("name", Aside),
    ("seed", Weights),
    ("model.base", Weights),
    ("model.revision", Weights),
    ("model.trusted_keys", Aside),
    ("model.init", Weights),
    ("data.prefetch_windows", Speed),
    ("data.cache_limit", Speed),
    ("data.", Data),
    ("lora.", Weights),
    ("train.epochs", Length),
    ("train.max_steps", Length),
    ("train.", Weights),
    ("eval.every_steps", Measures),
    ("eval.prompts", Measures),
    ("eval.max_tokens", Measures),
    ("eval.temperature", Measures),
    ("eval.max_records", Measures),
    ("eval.suite", Measures),
    ("checkpoint.", Aside),
    ("output.", Aside),
    ("trust.", Aside),
    ("device.name", Device),
    ("device.kernels", Device),
    ("device.threads", Speed),
    ("device.parallel_micro_batches", Speed),
    ("device.pin_kernels", Speed),
];

impl Effect {
    /// That of a key, such as `train.max_steps` or `data.train.0.path`; of one that is not known,
    /// as old checkpoints may have them, the safe one.
    pub fn of(path: &str) -> Self {
        Self::known(path).unwrap_or(Weights)
    }

    fn known(path: &str) -> Option<Self> {
        let fits = |name: &str| path == name || (name.ends_with('.') && path.starts_with(name));
        EFFECTS.iter().find(|(name, _)| fits(name)).map(|(_, effect)| *effect)
    }

    /// Whether it decides the numbers of a run: one that has begun does not go on under another
    /// value unless that is allowed.
    pub fn decides(self) -> bool {
        matches!(self, Length | Data | Device | Weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::KEYS;

    #[test]
    fn every_key_is_in_the_table_and_the_table_has_no_other() {
        for key in KEYS.iter() {
            assert!(Effect::known(key.path).is_some(), "what does a change of `{}` do?", key.path);
        }
        for (name, _) in EFFECTS {
            let known = KEYS.iter().any(|key| match name.ends_with('.') {
                true => key.path.starts_with(name),
                false => key.path == *name,
            });
            assert!(known, "there is no `{name}`");
        }
    }

    #[test]
    fn sections_with_exceptions_name_them_first() {
        assert_eq!(Effect::of("data.train.0.path"), Data);
        assert_eq!(Effect::of("data.cache_limit"), Speed);
        assert_eq!(Effect::of("train.max_steps"), Length);
        assert_eq!(Effect::of("train.learning_rate"), Weights);
        assert_eq!(Effect::of("eval.prompts"), Measures);
        assert_eq!(Effect::of("eval.what_is_new"), Weights, "nobody said that it changes nothing");
        assert!(Effect::of("gone.key").decides() && !Effect::of("eval.max_tokens").decides());
    }
}
