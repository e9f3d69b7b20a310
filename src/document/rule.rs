//! Rules for strings, and ranges of numbers.

/// What makes a string a valid value.
#[derive(Debug)]
pub struct TextRule {
    /// What it must be, to be read after "must be".
    pub describe: fn() -> String,
    /// Words that the template lists; none where the description says enough.
    pub names: &'static [&'static str],
    /// A regular expression for editors.
    pub pattern: Option<&'static str>,
    /// Whether a date or time of TOML is accepted as the text that it is written as.
    pub dates: bool,
    /// Why a string is not accepted: an empty text where the description says it all.
    pub check: fn(&str) -> Result<(), String>,
    /// What to write instead.
    pub hint: fn(&str) -> Option<String>,
}

/// What makes a name in a table of names a valid one.
#[derive(Debug)]
pub struct NameRule {
    /// What they are, in the plural.
    pub names: &'static str,
    /// Why one is not accepted.
    pub check: fn(&str) -> Result<(), String>,
}

/// A range of numbers whose ends may be excluded, and may be infinite.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The lower end.
    pub min: f64,
    /// The upper end.
    pub max: f64,
    /// The lower end itself is not allowed.
    pub min_excluded: bool,
    /// The upper end itself is not allowed.
    pub max_excluded: bool,
}

impl Range {
    /// Every finite number.
    pub const FINITE: Self =
        Self { min: f64::NEG_INFINITY, max: f64::INFINITY, min_excluded: true, max_excluded: true };

    /// Both ends belong to it.
    pub const fn closed(min: f64, max: f64) -> Self {
        Self { min, max, min_excluded: false, max_excluded: false }
    }

    /// The lower end does not belong to it.
    pub const fn above(min: f64, max: f64) -> Self {
        Self { min, max, min_excluded: true, max_excluded: false }
    }

    /// The upper end does not belong to it.
    pub const fn below(min: f64, max: f64) -> Self {
        Self { min, max, min_excluded: false, max_excluded: true }
    }

    /// Whether a value lies in it; NaN never does.
    pub fn contains(&self, value: f64) -> bool {
        let low = if self.min_excluded { value > self.min } else { value >= self.min };
        let high = if self.max_excluded { value < self.max } else { value <= self.max };
        low && high
    }

    /// To be read after "must be".
    pub fn describe(&self) -> String {
        let Self { min, max, min_excluded, max_excluded } = *self;
        let low = if min_excluded { "above" } else { "of at least" };
        let high = if max_excluded { "below" } else { "at most" };
        match (min.is_finite(), max.is_finite()) {
            (true, true) => format!("a number {low} {min} and {high} {max}"),
            (true, false) => format!("a finite number {low} {min}"),
            (false, true) => format!("a finite number {high} {max}"),
            (false, false) if max_excluded => "a finite number".to_owned(),
            (false, false) => "a number, or `inf`".to_owned(),
        }
    }
}
