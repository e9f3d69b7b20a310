//! What a model changes, carried along: for a few rows of tokens, the scores with it and without
//! it. Whoever loads the model elsewhere sees whether it does there what it did here; an adapter
//! that loads and does nothing is caught.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::logit_diff::Rows;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::{Digest, read_bytes, write_synced};

/// The file's name.
pub const FILE: &str = "effect.json";
/// Version of the format; another one is refused by name.
const FORMAT: u32 = 1;
/// The largest such file that is read.
const BYTES_MAX: u64 = 1 << 20;
/// More tokens than these are none of ours.
const TOKENS_MAX: usize = 1024;
/// So many of the best tokens are kept of a row's last position.
const TOP: usize = 5;
/// The arithmetic in which scores of the same model differ by little more than rounding of 32 bits.
pub const EXACT: &str = "f32";
/// That of scores in 32 bits of weights that were rounded to 16 when they were written.
pub const ROUNDED: &str = "f32, weights then rounded";
/// How far scores may be apart, relative to the largest: in 32 bits, and in 16.
const TOLERANCE: [f64; 2] = [1e-3, 3e-2];
/// How far the size of the change may be from what it was, as a share of it.
const CHANGE_TOLERANCE: f64 = 0.1;

/// The scores of one model for one row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scores {
    /// SHA-256 over all of them, as 32-bit numbers in little-endian order.
    pub sha256: Digest,
    /// The best tokens after the whole row, best first, with their scores.
    pub top: Vec<(u32, f32)>,
}

/// One row of tokens, and what a model makes of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowEffect {
    /// The tokens.
    pub tokens: Vec<u32>,
    /// With what was trained.
    pub with: Scores,
    /// Without it: the base alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without: Option<Scores>,
    /// The 2-norm of the difference of all scores by that of those without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<f64>,
}

/// What a model changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEffect {
    format: u32,
    /// What the rows are, for people.
    pub what: String,
    /// In which arithmetic it was computed.
    pub arithmetic: String,
    /// The rows.
    pub rows: Vec<RowEffect>,
}

/// How a model that was loaded compares with what is stated of it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum EffectMatch {
    /// Every score is the same to the last bit.
    Bits,
    /// They are the same within rounding; the largest difference, relative to the largest score.
    Rounding(f64),
}

impl ModelEffect {
    /// Of the scores for rows, position after position, with a model and without it.
    pub fn new(
        rows: &Rows,
        with: &[Vec<f32>],
        without: Option<&[Vec<f32>]>,
        arithmetic: &str,
    ) -> Self {
        let one = |(number, tokens): (usize, &Vec<u32>)| RowEffect {
            tokens: tokens.clone(),
            with: Scores::of(&with[number], tokens.len()),
            without: without.map(|scores| Scores::of(&scores[number], tokens.len())),
            change: without.map(|scores| change(&with[number], &scores[number])),
        };
        Self {
            format: FORMAT,
            what: rows.what.clone(),
            arithmetic: arithmetic.to_owned(),
            rows: rows.tokens().iter().enumerate().map(one).collect(),
        }
    }

    /// With the rows of another behind its own.
    #[must_use]
    pub fn and(mut self, mut other: Self) -> Self {
        self.rows.append(&mut other.rows);
        self
    }

    /// Reads it from an artifact; `None` where there is none.
    ///
    /// # Errors
    /// When it is damaged, or of another format.
    pub fn read(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(FILE);
        if path.symlink_metadata().is_err() {
            return Ok(None);
        }
        let bytes = read_bytes(&path, BYTES_MAX)?;
        let json = crate::files::parse_json(&bytes).map_err(|error| error.at(&path))?;
        if json["format"] != FORMAT {
            let what = format!("the format {} of the effect is not known", json["format"]);
            return Err(Error::lineage(what).at(&path));
        }
        let found: Self =
            serde_json::from_value(json).context_at("this is not the effect of a model", &path)?;
        match found.rows.iter().all(|row| !row.tokens.is_empty()) && !found.rows.is_empty() {
            true => Ok(Some(found)),
            false => Err(Error::lineage("the effect has no tokens").at(&path)),
        }
    }

    /// Writes it into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).context("cannot encode the effect")?;
        write_synced(&folder.join(FILE), format!("{json}\n").as_bytes())
    }

    /// The rows, to be run again by a model with so many tokens.
    ///
    /// # Errors
    /// When they are not of such a model.
    pub fn rows(&self, vocabulary: usize) -> Result<Rows> {
        let tokens: Vec<Vec<u32>> = self.rows.iter().map(|row| row.tokens.clone()).collect();
        let count: usize = tokens.iter().map(Vec::len).sum();
        let known = tokens.iter().flatten().all(|token| (*token as usize) < vocabulary);
        match known && count <= TOKENS_MAX {
            true => Ok(Rows::of_tokens(tokens, &self.what)),
            false => Err(Error::lineage(format!("`{FILE}` is not of this model"))
                .because("it has tokens that the model does not have, or too many")),
        }
    }

    /// Whether it changes nothing at all.
    pub fn is_inert(&self) -> bool {
        self.rows.iter().all(|row| row.change == Some(0.0))
    }

    /// Whether it tells what the base makes of the rows.
    pub fn has_base(&self) -> bool {
        self.rows.iter().all(|row| row.without.is_some())
    }

    /// Compares with the scores of a model that was loaded, in 32 bits, `with` what was trained and
    /// `without` it, where the base is at hand.
    ///
    /// # Errors
    /// What is not as it was, in words.
    pub fn compare(
        &self,
        with: &[Vec<f32>],
        without: Option<&[Vec<f32>]>,
    ) -> Result<EffectMatch, String> {
        let tolerance = TOLERANCE[usize::from(self.arithmetic != EXACT)];
        if self.is_inert() {
            return Err("it states no effect: the scores are those of the base".to_owned());
        }
        let (mut bits, mut greatest) = (true, 0.0_f64);
        for (number, row) in self.rows.iter().enumerate() {
            let near = |what: &str, stated: &Scores, found: &[f32]| {
                let far = stated.compare(found, row.tokens.len());
                match far.is_none_or(|far| far <= tolerance) {
                    true => Ok(far),
                    false => Err(format!(
                        "row {}: the scores {what} are not those that are stated",
                        number + 1
                    )),
                }
            };
            let mut seen = vec![near("with it", &row.with, &with[number])?];
            if let (Some(stated), Some(found)) = (&row.without, without) {
                seen.push(near("of the base", stated, &found[number])?);
                row.compare_change(number, &with[number], &found[number], tolerance)?;
            }
            for far in seen {
                bits &= far.is_none();
                greatest = greatest.max(far.unwrap_or(0.0));
            }
        }
        Ok(if bits { EffectMatch::Bits } else { EffectMatch::Rounding(greatest) })
    }
}

impl ModelEffect {
    /// Refuses to make something else of an adapter that does not do here what it did where it was
    /// made. One that never did anything loses nothing.
    ///
    /// # Errors
    /// When it does something else.
    pub fn refuse_other(
        &self,
        with: &[Vec<f32>],
        without: Option<&[Vec<f32>]>,
        adapter: &Path,
    ) -> Result<()> {
        match self.compare(with, without) {
            Err(why) if !self.is_inert() => {
                let what = "the adapter does something else here than where it was made";
                let hint = "its base is another one, or a file of it was changed; `--no-check` \
                            does not look";
                let error = Error::refused(ErrorCode::Adapter, what).at(adapter.join(FILE));
                Err(error.because(why).hint(hint))
            }
            _ => Ok(()),
        }
    }
}

impl RowEffect {
    /// A change that is lost in rounding proves nothing, and is not held against it.
    fn compare_change(
        &self,
        number: usize,
        with: &[f32],
        without: &[f32],
        tolerance: f64,
    ) -> Result<(), String> {
        let Some(stated) = self.change else { return Ok(()) };
        let found = change(with, without);
        // Norms over thousands of scores average rounding out.
        let rounding = tolerance / 10.0;
        let far = (found - stated).abs() > CHANGE_TOLERANCE * stated + rounding;
        let nothing = found == 0.0 && stated > 0.0;
        match far || nothing {
            false => Ok(()),
            true => Err(format!(
                "row {}: it changes the scores by {:.2e} of their size, and {:.2e} is stated",
                number + 1,
                found,
                stated
            )),
        }
    }
}

impl Scores {
    fn of(scores: &[f32], positions: usize) -> Self {
        let last = last_of(scores, positions);
        let mut order: Vec<usize> = (0..last.len()).collect();
        order.sort_by(|a, b| last[*b].total_cmp(&last[*a]).then(a.cmp(b)));
        #[expect(clippy::cast_possible_truncation)] // vocabularies stay below 2^32
        let top = order.iter().take(TOP).map(|token| (*token as u32, last[*token])).collect();
        Self { sha256: digest(scores), top }
    }

    /// The largest difference of the best tokens' scores, relative to the largest of them; nothing
    /// where all bits of all scores are the same.
    fn compare(&self, scores: &[f32], positions: usize) -> Option<f64> {
        if digest(scores) == self.sha256 {
            return None;
        }
        let last = last_of(scores, positions);
        let largest = last.iter().fold(0.0_f64, |most, x| most.max(f64::from(x.abs())));
        let mut far = 0.0_f64;
        for (token, stated) in &self.top {
            let found = last.get(*token as usize).map_or(f64::NAN, |found| f64::from(*found));
            let apart = (found - f64::from(*stated)).abs() / largest;
            far = far.max(if apart.is_finite() { apart } else { f64::INFINITY });
        }
        Some(far)
    }
}

fn last_of(scores: &[f32], positions: usize) -> &[f32] {
    &scores[scores.len() - scores.len() / positions..]
}

fn digest(scores: &[f32]) -> Digest {
    let bytes: Vec<u8> = scores.iter().flat_map(|score| score.to_le_bytes()).collect();
    Digest::of(&bytes)
}

/// ‖with − without‖ / ‖without‖.
fn change(with: &[f32], without: &[f32]) -> f64 {
    let square = |x: f64| x * x;
    let pairs = with.iter().zip(without);
    let apart: f64 = pairs.map(|(a, b)| square(f64::from(*a) - f64::from(*b))).sum();
    let size: f64 = without.iter().map(|x| square(f64::from(*x))).sum();
    if apart == 0.0 { 0.0 } else { (apart / size).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn rows() -> Rows {
        Rows::of_tokens(vec![vec![1, 2], vec![3]], "two rows")
    }

    /// Scores of three tokens for two rows of two and of one position.
    fn scores(by: f32) -> Vec<Vec<f32>> {
        vec![vec![0.5, -1.0, 2.0, 3.0 + by, 1.0, -2.0], vec![1.0, 4.0 - by, 2.0]]
    }

    #[test]
    fn the_best_tokens_and_the_change_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(ModelEffect::read(folder.path()).unwrap(), None);
        let (with, without) = (scores(0.5), scores(0.0));
        let effect = ModelEffect::new(&rows(), &with, Some(&without), EXACT);
        assert_eq!(effect.rows[0].with.top, [(0, 3.5), (1, 1.0), (2, -2.0)]);
        assert_eq!(effect.rows[1].without.as_ref().unwrap().top, [(1, 4.0), (2, 2.0), (0, 1.0)]);
        let size = (0.25_f64 + 1.0 + 4.0 + 9.0 + 1.0 + 4.0).sqrt();
        assert!((effect.rows[0].change.unwrap() - 0.5 / size).abs() < 1e-9);
        effect.write(folder.path()).unwrap();
        assert_eq!(ModelEffect::read(folder.path()).unwrap(), Some(effect));
        for broken in ["{}", "{\"format\": 2}", "[1", "{\"format\":1,\"what\":\"\"}"] {
            std::fs::write(folder.path().join(FILE), broken).unwrap();
            assert!(ModelEffect::read(folder.path()).is_err(), "{broken}");
        }
    }

    #[test]
    fn a_model_that_does_nothing_or_something_else_is_caught() {
        let (with, without) = (scores(0.5), scores(0.0));
        let effect = ModelEffect::new(&rows(), &with, Some(&without), EXACT);
        let compare = |with: &[Vec<f32>], without: &[Vec<f32>]| effect.compare(with, Some(without));
        assert_eq!(compare(&with, &without), Ok(EffectMatch::Bits));
        assert!(matches!(
            compare(&scores(0.5001), &scores(0.0001)),
            Ok(EffectMatch::Rounding(far)) if far > 0.0 && far < 1e-3
        ));
        let mut said = compare(&without, &without).unwrap_err() + "\n";
        said += &(compare(&with, &scores(0.2)).unwrap_err() + "\n");
        // So little that single scores do not tell: the change as a whole does.
        let little = ModelEffect::new(&rows(), &scores(0.002), Some(&without), EXACT);
        said += &(little.compare(&without, Some(&without)).unwrap_err() + "\n");
        // Without the base, what is there is compared.
        assert_eq!(effect.compare(&with, None), Ok(EffectMatch::Bits));
        // In 16 bits more is rounding.
        let coarse = ModelEffect::new(&rows(), &with, Some(&without), "mixed-bf16");
        assert!(coarse.compare(&scores(0.54), Some(&scores(0.04))).is_ok());
        assert!(compare(&scores(0.54), &scores(0.04)).is_err());
        let inert = ModelEffect::new(&rows(), &without, Some(&without), EXACT);
        assert!(inert.is_inert());
        said += &inert.compare(&without, Some(&without)).unwrap_err();
        says(
            said,
            snapbox::str![[r#"
row 1: the scores with it are not those that are stated
row 1: the scores of the base are not those that are stated
row 1: it changes the scores by 0.00e0 of their size, and 4.56e-4 is stated
it states no effect: the scores are those of the base
"#]],
        );
    }
}
