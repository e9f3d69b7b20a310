//! Safetensors, by the strict reading that `verify` has.

use super::kinds;
use super::report::Report;
use super::rules::{DISGUISED, SAFETENSORS, SAFETENSORS_FORMAT};
use super::sample::Sample;
use crate::verify::safetensors::{self, NO_FORMAT};

/// Looks at files that are safetensors, or are called so; gives the rows of the token embedding.
pub(super) fn look(sample: &Sample, report: &mut Report) -> Option<u64> {
    let extension = sample.extension();
    let called_so = extension == "safetensors";
    if !called_so && !sample.is_safetensors() {
        return None;
    }
    if !called_so && kinds::promises_plain(&extension) {
        report.add(&DISGUISED, &sample.name, "it is safetensors, which its name does not say");
    }
    match safetensors::lint(&sample.path) {
        Ok(lint) => {
            for problem in lint.problems {
                let rule = if problem == NO_FORMAT { &SAFETENSORS_FORMAT } else { &SAFETENSORS };
                report.add(rule, &sample.name, problem);
            }
            lint.embedding_rows
        }
        Err(error) => {
            report.unread(&sample.name, error.into_what());
            None
        }
    }
}
