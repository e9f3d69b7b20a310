//! One entry of a table of keys: everything the program knows about a key, said once.

use super::effect::Effect;
pub use super::rule::{NameRule, Range, TextRule};

/// A key of a document. Reading, checking, the JSON Schema, the template and the texts for people
/// are all made from this.
#[derive(Debug)]
pub struct Key {
    /// Dotted path, such as `train.learning_rate`; inside an array of tables, the bare name.
    pub path: &'static str,
    /// Which values it takes.
    pub kind: ValueKind,
    /// What holds when the key is not written.
    pub default: DefaultValue,
    /// A valid value other than the default, as TOML.
    pub example: &'static str,
    /// One paragraph for people.
    pub doc: &'static str,
    /// What other tools call it: (tool, name).
    pub names: &'static [(&'static str, &'static str)],
    /// Keys that may not be given together with this one.
    pub excludes: &'static [&'static str],
    /// The key means something only while another key has one of these values.
    pub only_with: Option<(&'static str, &'static [&'static str])>,
    /// What a change of it does to a run that has begun; that of its section where it has none.
    pub effect: Option<Effect>,
    /// It is not rendered at its default, so that configs from before it was added keep their
    /// canonical text and their digest.
    pub silent_default: bool,
    /// It is a switch of the program's own tests: nothing shows it, and without
    /// [`INTERNAL_KEYS`] any value but the default is refused.
    pub internal: bool,
}

/// The environment variable that, set to 1, lets configs have switches of the program's own tests.
pub const INTERNAL_KEYS: &str = "FIREBRAND_INTERNAL_KEYS";

/// Which values a key takes.
#[derive(Debug)]
pub enum ValueKind {
    /// A string on one line: a path, a name.
    Line,
    /// Any string.
    Text,
    /// A name that is safe as one component of a path.
    Name,
    /// One of a few words.
    Choice(&'static [&'static str]),
    /// A string that a rule accepts, such as a device or a time.
    Rule(&'static TextRule),
    /// A whole number, ends included.
    Integer {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A number; integers are accepted.
    Number(Range),
    /// `true` or `false`.
    Boolean,
    /// An array of strings, none of them empty.
    Texts,
    /// An array of any strings.
    AnyTexts,
    /// An array of strings that a rule accepts.
    TextsOf(&'static TextRule),
    /// An array of words, each one of a few, none twice, and at least one.
    Choices(&'static [&'static str]),
    /// An array of whole numbers, each above the one before, ends included.
    Rising {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// `all-linear`, or an array of module names.
    Modules,
    /// Nothing (0), a share between 0 and 1, or a number of records.
    Share,
    /// A number of bytes, or a string with a unit such as `64 MiB`.
    Bytes {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
    },
    /// A table of names: ours, which are these, and those of the data.
    Columns(&'static [&'static str]),
    /// A table of names, each with a string, a number or a boolean.
    Arguments,
    /// A number, or a table of names, each with a number.
    NumberOrEach(Range),
    /// A table of names, each with one of a few words.
    ChoiceOfEach(&'static [&'static str]),
    /// A table of names that a rule accepts, each with a number.
    NumberOfEach(Range, &'static NameRule),
    /// A table of names that a rule accepts, each with a whole number, ends included.
    IntegerOfEach {
        /// The least.
        min: u64,
        /// The greatest.
        max: u64,
        /// What the names must be.
        names: &'static NameRule,
    },
    /// An array of values of any type, at least one, for another document.
    Literals,
    /// A table of keys of another document, by dotted path, with their values.
    Settings,
    /// An array of tables with these keys.
    Tables {
        /// The keys of each table.
        keys: &'static [Key],
        /// Whether the array may be empty.
        may_be_empty: bool,
    },
}

/// What holds when a key is not written.
#[derive(Debug)]
pub enum DefaultValue {
    /// The key must be given.
    Required,
    /// Nothing; the text says what that means.
    Absent(&'static str),
    /// This value, as TOML.
    Value(&'static str),
    /// A value that other keys decide; the text says how.
    Depends(&'static str),
}

/// A group of keys under one `[name]`.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// The name in brackets; empty for the keys above the first section.
    pub name: &'static str,
    /// One paragraph for people.
    pub doc: &'static str,
    /// Its keys, in the order in which they are shown and rendered.
    pub keys: &'static [Key],
    /// Whether leaving the whole section out means something else than its defaults.
    pub optional: bool,
    /// Whether the template has an optional section, be it with its defaults alone.
    pub suggested: bool,
    /// What is meant by a plain value in place of the section: a key of it, and a hint.
    pub plain_value: Option<(&'static str, &'static str)>,
    /// What a change of its keys does to a run that has begun, where they do not say it themselves.
    pub effect: Option<Effect>,
    /// The section means something only while a key has one of these values.
    pub only_with: Option<(&'static str, &'static [&'static str])>,
    /// Defaults of other keys while this section is written: path, and value as TOML.
    pub defaults: &'static [(&'static str, &'static str)],
}

impl Section {
    /// What a section consists of.
    pub const fn new(name: &'static str, doc: &'static str, keys: &'static [Key]) -> Self {
        Self {
            name,
            doc,
            keys,
            optional: false,
            suggested: false,
            plain_value: None,
            effect: None,
            only_with: None,
            defaults: &[],
        }
    }

    /// Adds what a change of its keys does to a run that has begun.
    #[must_use]
    pub const fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Says what is meant by a plain value in place of the section.
    #[must_use]
    pub const fn plain_value(mut self, key: &'static str, hint: &'static str) -> Self {
        self.plain_value = Some((key, hint));
        self
    }

    /// Leaving it out means something else than its defaults.
    #[must_use]
    pub const fn optional(mut self) -> Self {
        self.optional = true;
        self
    }
}

/// Keys of the config that belong to a part of the program that `config` does not know: an entry of
/// one of its tables, or the table itself. They are handed to [`super::KeyTable::new`].
#[derive(Debug, Clone, Copy)]
pub struct OwnedKeys {
    /// A section of their own, or the name of one that exists, to which these keys are added.
    pub section: Section,
    /// What they are shown and rendered before: a key of the section, or a section for a section of
    /// their own. It is one that is always rendered. Empty for the last ones of a section.
    pub before: &'static str,
    /// Settings of other tools that have no key here: tool, name, what takes their place.
    pub notes: &'static [(&'static str, &'static str, &'static str)],
}

impl OwnedKeys {
    /// Keys that are added to the section `section`, which exists, before the key `before`.
    pub const fn within(section: &'static str, before: &'static str, keys: &'static [Key]) -> Self {
        Self { section: Section::new(section, "", keys), before, notes: &[] }
    }

    /// Keys that are added at the end of the section `section`, as arrays of tables must be: what
    /// follows them would be theirs.
    pub const fn last(section: &'static str, keys: &'static [Key]) -> Self {
        Self::within(section, "", keys)
    }

    /// A section of its own before the section `before`.
    pub const fn section(section: Section, before: &'static str) -> Self {
        Self { section, before, notes: &[] }
    }
}

impl Key {
    /// The parts that every key has.
    pub const fn new(
        path: &'static str,
        kind: ValueKind,
        default: DefaultValue,
        doc: &'static str,
    ) -> Self {
        Self {
            path,
            kind,
            default,
            example: "",
            doc,
            names: &[],
            excludes: &[],
            only_with: None,
            effect: None,
            silent_default: false,
            internal: false,
        }
    }

    /// Adds a valid value other than the default.
    #[must_use]
    pub const fn example(mut self, toml: &'static str) -> Self {
        self.example = toml;
        self
    }

    /// Adds what other tools call it.
    #[must_use]
    pub const fn names(mut self, names: &'static [(&'static str, &'static str)]) -> Self {
        self.names = names;
        self
    }

    /// Adds the keys that may not be given beside it.
    #[must_use]
    pub const fn excludes(mut self, paths: &'static [&'static str]) -> Self {
        self.excludes = paths;
        self
    }

    /// Adds the values of another key without which it means nothing.
    #[must_use]
    pub const fn only_with(mut self, path: &'static str, values: &'static [&'static str]) -> Self {
        self.only_with = Some((path, values));
        self
    }

    /// Adds what a change of it does to a run that has begun.
    #[must_use]
    pub const fn effect(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    /// Leaves it out of the canonical text at its default: for keys that are new.
    #[must_use]
    pub const fn silent_default(mut self) -> Self {
        self.silent_default = true;
        self
    }

    /// Makes it a switch of the program's own tests.
    #[must_use]
    pub const fn internal(mut self) -> Self {
        self.internal = true;
        self
    }

    /// The last part of the path.
    pub fn name(&self) -> &'static str {
        self.path.rsplit('.').next().unwrap_or(self.path)
    }
}

impl ValueKind {
    /// Whether it is a table whose names are not keys.
    pub(super) fn is_table_of_names(&self) -> bool {
        matches!(
            self,
            Self::Columns(_)
                | Self::Arguments
                | Self::NumberOrEach(_)
                | Self::ChoiceOfEach(_)
                | Self::NumberOfEach(..)
                | Self::IntegerOfEach { .. }
        )
    }

    /// What a value must be, to be read after "must be".
    pub fn describe(&self) -> String {
        match self {
            Self::Line => "a string on one line".to_owned(),
            Self::Text => "a string".to_owned(),
            Self::Name => {
                "a name of letters, digits, `.`, `_` and `-` that starts with a letter, a digit or \
                 `_` and has at most 128 characters"
                    .to_owned()
            }
            Self::Choice([only]) => format!("`{only}`, the only choice"),
            Self::Choice(names) => format!("one of {}", quoted_list(names)),
            Self::Rule(rule) => (rule.describe)(),
            Self::Integer { min, max } => format!("an integer from {min} to {max}"),
            Self::Number(range) => range.describe(),
            Self::Boolean => "`true` or `false`".to_owned(),
            Self::Texts | Self::AnyTexts => "an array of strings".to_owned(),
            Self::TextsOf(rule) => format!("an array, each {}", (rule.describe)()),
            Self::Choices(names) => {
                format!("an array of at least one of {}", quoted_list(names))
            }
            Self::Rising { min, max } => {
                format!("an array of rising integers from {min} to {max}")
            }
            Self::Modules => "`all-linear` or an array of module names".to_owned(),
            Self::Share => {
                format!("0, a share between 0 and 1, or a number of records up to {MANY}")
            }
            Self::Bytes { min, max } => {
                let (min, max) = (crate::event::bytes(*min), crate::event::bytes(*max));
                format!("a number of bytes or a size such as `\"64 MiB\"`, from {min} to {max}")
            }
            Self::Columns(_) => {
                "a table of column names such as `{ prompt = \"question\" }`".to_owned()
            }
            Self::Arguments => {
                "a table of names and values such as `{ enable_thinking = false }`".to_owned()
            }
            Self::NumberOrEach(range) => {
                format!("{}, or a table of names with such numbers", range.describe())
            }
            Self::ChoiceOfEach(names) => {
                format!("a table of names, each with one of {}", quoted_list(names))
            }
            Self::NumberOfEach(range, rule) => {
                format!("a table of {}, each with {}", rule.names, range.describe())
            }
            Self::IntegerOfEach { min, max, names } => {
                format!("a table of {}, each with an integer from {min} to {max}", names.names)
            }
            Self::Literals => "an array of at least one value".to_owned(),
            Self::Settings => "a table of settings such as `{ \"train.epochs\" = 1 }`".to_owned(),
            Self::Tables { .. } => "an array of tables".to_owned(),
        }
    }
}

/// The value of [`ValueKind::Modules`] that is no array.
pub const ALL_LINEAR: &str = "all-linear";

/// More steps, rows or records than one machine finishes; products of two still fit in 64 bits.
pub const MANY: u64 = 1_000_000_000;

/// Names in backticks with commas between them.
pub(crate) fn quoted_list(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}
