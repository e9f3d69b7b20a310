//! Groups of parameters with a learning rate and a weight decay of their own, as the optimizers of
//! PyTorch take them.

use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::adapters::module_pattern;
use crate::document::Values;
use crate::document::key::{DefaultValue, Key, OwnedKeys, Range, TextRule, ValueKind};
use crate::engine::optimizer_state::{ParameterRule, ParameterRules};
use crate::engine::optimizers::UpdatedParameter;
use crate::error::{Error, Result, nearest};
use crate::model::{Model, Parameter, Visitor, piece_of};

const NAME: &str = "train.param_groups";

const PATTERN: TextRule = TextRule {
    describe: || "a name or a regular expression of modules".to_owned(),
    names: &[],
    pattern: None,
    dates: false,
    check: |text| module_pattern(text).map(drop),
    hint: |_| None,
};

/// The settings of groups.
pub fn keys() -> Vec<OwnedKeys> {
    vec![OwnedKeys::last("train", KEYS)]
}

/// The groups; the last key of `[train]`.
const KEYS: &[Key] = &[Key::new(
    NAME,
    ValueKind::Tables { keys: GROUP, may_be_empty: true },
    DefaultValue::Absent("all parameters have the rate and the weight decay of the run"),
    "Parameters with a learning rate or a weight decay of their own, one `[[train.param_groups]]` \
     each, as the groups of PyTorch's optimizers. The first that fits a parameter counts.",
)
.example("[{ modules = [\"embed_tokens\"], learning_rate = 1e-5 }]")
.names(&[("axolotl", "lr_groups")])];

const GROUP: &[Key] = &[
    Key::new(
        "modules",
        ValueKind::TextsOf(&PATTERN),
        DefaultValue::Required,
        "Which parameters: names or regular expressions that fit whole parts of a path up to the \
         end of a parameter, or of a module that has it.",
    )
    .example("[\"embed_tokens\", \"layers\\\\.[01]\", \"q_proj.lora_B\"]"),
    Key::new(
        "learning_rate",
        ValueKind::Number(Range::above(0.0, 1.0)),
        DefaultValue::Absent("that of the run"),
        "The highest learning rate of these parameters. It rises and falls as that of the run \
         does, and `lora.loraplus_lr_ratio` does not multiply it.",
    )
    .example("1e-5"),
    Key::new(
        "weight_decay",
        ValueKind::Number(Range::closed(0.0, 10.0)),
        DefaultValue::Absent("that of the run"),
        "The weight decay of these parameters in place of `train.weight_decay`.",
    )
    .example("0.0"),
];

/// One group.
#[derive(Debug)]
struct Group {
    patterns: Vec<(String, Regex)>,
    learning_rate: Option<f64>,
    weight_decay: Option<f64>,
}

/// The groups of a run, in their order.
#[derive(Debug)]
pub struct ParameterGroups {
    groups: Vec<Group>,
    /// Whether norms, biases and other vectors have weight decay.
    decays_vectors: bool,
}

/// Whether a pattern fits a parameter, or a module that has it.
fn fits(pattern: &Regex, path: &str) -> bool {
    let (path, _) = piece_of(path);
    let mut ends = path.match_indices('.').map(|(at, _)| at).chain([path.len()]);
    ends.any(|end| pattern.is_match(&path[..end]))
}

impl Group {
    fn read(values: &Values) -> Self {
        let compiled = |text: &String| {
            let pattern = module_pattern(text).expect("the patterns of the table were checked");
            (text.clone(), pattern)
        };
        Self {
            patterns: values.texts("modules").iter().map(compiled).collect(),
            learning_rate: values.optional_number("learning_rate"),
            weight_decay: values.optional_number("weight_decay"),
        }
    }

    fn describe(&self) -> String {
        let patterns: Vec<&str> = self.patterns.iter().map(|(text, _)| text.as_str()).collect();
        let rate = self.learning_rate.map(|rate| format!("learning rate {rate:?}"));
        let decay = self.weight_decay.map(|decay| format!("weight decay {decay:?}"));
        let own: Vec<String> = rate.into_iter().chain(decay).collect();
        format!("{}: {}", patterns.join(", "), own.join(", "))
    }

    fn fits(&self, path: &str) -> bool {
        self.patterns.iter().any(|(_, pattern)| fits(pattern, path))
    }
}

impl ParameterGroups {
    /// Those of a config.
    pub fn read(values: &Values) -> Self {
        Self {
            groups: values.tables(NAME).iter().map(Group::read).collect(),
            decays_vectors: values.boolean("train.decay_norms_and_biases"),
        }
    }

    /// Looks whether each group has something to do among the trained parameters, of which these
    /// are paths and shapes.
    ///
    /// # Errors
    /// All groups and patterns that have not.
    pub fn check(&self, trained: &[(String, Vec<usize>)]) -> Result<()> {
        let mut problems = Vec::new();
        let of: Vec<Option<usize>> = trained.iter().map(|(path, _)| self.group_of(path)).collect();
        for (number, group) in self.groups.iter().enumerate() {
            let name = format!("{NAME}.{number}");
            if group.patterns.is_empty() {
                problems.push(Error::config(format!("`{name}.modules` names nothing")));
                continue;
            }
            if group.learning_rate.or(group.weight_decay).is_none() {
                let what = format!("`{name}` has neither `learning_rate` nor `weight_decay`");
                problems.push(Error::config(what));
            }
            let unknown: Vec<Error> = unknown(group, &name, trained).collect();
            let all_known = unknown.is_empty();
            problems.extend(unknown);
            let mine = trained.iter().zip(&of).filter(|(_, of)| **of == Some(number));
            let mine: Vec<_> = mine.map(|(parameter, _)| parameter).collect();
            problems.extend(self.idle(number, &name, &mine).filter(|_| all_known));
        }
        Error::all(problems).map_or(Ok(()), Err)
    }

    /// What is wrong with a group whose patterns all fit something, if it changes nothing of the
    /// parameters that it decides for.
    fn idle(&self, number: usize, name: &str, mine: &[&(String, Vec<usize>)]) -> Option<Error> {
        if mine.is_empty() {
            let what = format!("`{name}` decides for no parameter");
            return Some(Error::config(what).because("all that it fits are of a group before it"));
        }
        let is_vector =
            |(path, dims): &&(String, Vec<usize>)| UpdatedParameter::new(path, dims).is_vector();
        let vectors_alone = mine.iter().all(is_vector);
        let Group { learning_rate, weight_decay, .. } = &self.groups[number];
        // Beside a rate, 0 says what is so.
        let decay = weight_decay.filter(|decay| *decay > 0.0 || learning_rate.is_none());
        (vectors_alone && !self.decays_vectors && decay.is_some()).then(|| {
            Error::config(format!("`{name}.weight_decay` means nothing"))
                .because("`train.decay_norms_and_biases` is `false`, and all are such")
        })
    }

    /// What each group has, in words, and how many numbers are of it.
    pub fn describe(&self, trained: &[(String, Vec<usize>)]) -> Vec<(String, u64)> {
        let mut counts = vec![0; self.groups.len()];
        for (path, dims) in trained {
            if let Some(number) = self.group_of(path) {
                counts[number] += dims.iter().product::<usize>() as u64;
            }
        }
        self.groups.iter().map(Group::describe).zip(counts).collect()
    }

    /// The number of the first group that fits a parameter.
    fn group_of(&self, path: &str) -> Option<usize> {
        self.groups.iter().position(|group| group.fits(path))
    }

    /// What trained parameters of a model have for themselves under a run with this highest
    /// learning rate; `ratios` are those that an adapter gives some, which a group's rate replaces.
    pub fn rules(
        &self,
        model: &mut Model,
        peak: f64,
        ratios: BTreeMap<String, f64>,
    ) -> ParameterRules {
        let ratios = ratios.into_iter();
        let mut rules: ParameterRules = ratios
            .map(|(path, rate_ratio)| (path, ParameterRule { rate_ratio, weight_decay: None }))
            .collect();
        if self.groups.is_empty() {
            return rules;
        }
        let mut trained = TrainedPaths(Vec::new());
        model.visit(&mut trained);
        for path in trained.0 {
            let Some(group) = self.group_of(&path).map(|number| &self.groups[number]) else {
                continue;
            };
            let rule = rules.entry(path).or_default();
            rule.rate_ratio = group.learning_rate.map_or(rule.rate_ratio, |rate| rate / peak);
            rule.weight_decay = group.weight_decay;
        }
        rules
    }
}

/// The patterns of a group that fit no trained parameter.
fn unknown<'a>(
    group: &'a Group,
    name: &'a str,
    trained: &'a [(String, Vec<usize>)],
) -> impl Iterator<Item = Error> + 'a {
    let unknown =
        |(_, pattern): &&(String, Regex)| !trained.iter().any(|(path, _)| fits(pattern, path));
    group.patterns.iter().filter(unknown).map(move |(text, _)| {
        let known: BTreeSet<&str> = trained
            .iter()
            .flat_map(|(path, _)| path.split('.'))
            .filter(|part| *part != "weight" && part.parse::<usize>().is_err())
            .collect();
        let what = format!("`{text}` in `{name}.modules` fits no parameter that is trained");
        match nearest(text, known.iter().copied()) {
            Some(near) => Error::config(what).hint(format!("did you mean `{near}`?")),
            None => {
                let known: Vec<&str> = known.into_iter().collect();
                Error::config(what).hint(format!("there are: {}", known.join(", ")))
            }
        }
    })
}

/// Paths of everything that learns, in the pieces that the model has.
struct TrainedPaths(Vec<String>);

impl TrainedPaths {
    fn add<const D: usize>(&mut self, path: &str, parameter: &Parameter<D>) {
        if parameter.trainable {
            self.0.push(path.to_owned());
        }
    }
}

impl Visitor for TrainedPaths {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.add(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.add(path, parameter);
    }
    fn changes(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;
    use snapbox::str;

    fn groups(
        decays_vectors: bool,
        all: &[(&[&str], Option<f64>, Option<f64>)],
    ) -> ParameterGroups {
        let group = |(texts, learning_rate, weight_decay): &(&[&str], Option<f64>, Option<f64>)| {
            let compiled = |text: &&str| ((*text).to_owned(), module_pattern(text).unwrap());
            let patterns = texts.iter().map(compiled).collect();
            Group { patterns, learning_rate: *learning_rate, weight_decay: *weight_decay }
        };
        ParameterGroups { groups: all.iter().map(group).collect(), decays_vectors }
    }

    fn trained() -> Vec<(String, Vec<usize>)> {
        let all: [(&str, &[usize]); 6] = [
            ("model.embed_tokens.weight", &[10, 4]),
            ("model.layers.1.self_attn.q_proj.weight", &[4, 4]),
            ("model.layers.1.self_attn.q_proj.bias", &[4]),
            ("model.layers.11.self_attn.q_proj.weight", &[4, 4]),
            ("model.layers.11.input_layernorm.weight", &[4]),
            ("model.norm.weight", &[4]),
        ];
        all.map(|(path, dims)| (path.to_owned(), dims.to_vec())).into()
    }

    #[test]
    fn names_and_expressions_fit_parameters_and_modules_that_have_them() {
        let fitting = |text: &str| -> Vec<usize> {
            let pattern = module_pattern(text).unwrap();
            let all = trained();
            (0..all.len()).filter(|number| fits(&pattern, &all[*number].0)).collect()
        };
        assert_eq!(fitting("embed_tokens"), [0]);
        assert_eq!(fitting("q_proj"), [1, 2, 3]);
        assert_eq!(fitting("q_proj.weight"), [1, 3]);
        assert_eq!(fitting("bias"), [2]);
        // Whole parts: another layer begins with the same digit.
        assert_eq!(fitting("layers.1"), [1, 2]);
        assert_eq!(fitting(r"layers\.1\d"), [3, 4]);
        assert_eq!(fitting(".*norm"), [4, 5]);
        assert_eq!(fitting("model"), [0, 1, 2, 3, 4, 5]);
        assert_eq!(fitting("proj"), [0; 0]);
        let factors = module_pattern("q_proj.lora_B").unwrap();
        assert!(fits(&factors, "model.layers.0.self_attn.q_proj.lora_B.weight"));
        assert!(!fits(&factors, "model.layers.0.self_attn.q_proj.lora_A.weight"));
        // A large matrix is trained in pieces.
        let embedding = module_pattern("embed_tokens.weight").unwrap();
        assert!(fits(&embedding, "model.embed_tokens.weight#12"));
    }

    #[test]
    fn the_first_group_that_fits_counts_and_all_are_looked_at() {
        let found = groups(
            true,
            &[(&["layers.1.*"], Some(1e-3), None), (&["q_proj", ".*norm"], None, Some(0.0))],
        );
        found.check(&trained()).unwrap();
        let of = |path: &str| found.group_of(path);
        assert_eq!(of("model.layers.1.self_attn.q_proj.weight"), Some(0));
        assert_eq!(of("model.norm.weight"), Some(1));
        assert_eq!(of("model.embed_tokens.weight"), None);
        let told = found.describe(&trained());
        assert_eq!(told[0], ("layers.1.*: learning rate 0.001".to_owned(), 40));
        assert_eq!(told[1], ("q_proj, .*norm: weight decay 0.0".to_owned(), 4));
    }

    #[test]
    fn groups_without_anything_to_do_are_refused() {
        let found = groups(
            false,
            &[
                (&[], Some(1e-3), None),
                (&["embed_token", "q_proj", "mlp"], None, None),
                (&["model"], Some(1e-3), None),
                (&["norm"], Some(1e-3), None),
            ],
        );
        let error = found.check(&trained()).unwrap_err().to_string();
        says(
            &error,
            str![[r#"
error[config]: `train.param_groups.0.modules` names nothing

error[config]: `train.param_groups.1` has neither `learning_rate` nor `weight_decay`

error[config]: `embed_token` in `train.param_groups.1.modules` fits no parameter that is trained

hint: did you mean `embed_tokens`?

error[config]: `mlp` in `train.param_groups.1.modules` fits no parameter that is trained

hint: there are: bias, embed_tokens, input_layernorm, layers, model, norm, q_proj, self_attn

error[config]: `train.param_groups.3` decides for no parameter
  because all that it fits are of a group before it
"#]],
        );
        for decay in [0.1, 0.0] {
            let vectors = groups(false, &[(&[".*norm", "bias"], None, Some(decay))]);
            let error = vectors.check(&trained()).unwrap_err().to_string();
            says(
                &error,
                str![[r#"
error[config]: `train.param_groups.0.weight_decay` means nothing
  because `train.decay_norms_and_biases` is `false`, and all are such
"#]],
            );
        }
        groups(false, &[(&[".*norm"], Some(1e-3), Some(0.0))]).check(&trained()).unwrap();
        groups(true, &[(&[".*norm", "bias"], None, Some(0.1))]).check(&trained()).unwrap();
    }
}
