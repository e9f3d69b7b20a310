//! What lies inside an archive: the same questions as of files, on the first bytes of each.

use super::kinds::{self, Class};
use super::report::Report;
use super::rules::{EXECUTABLE, KERAS_LAMBDA, NUMPY_OBJECT, PATH_TRICK, PYTHON};
use super::{arrays, pickle, sample};
use crate::hub::path_fault;

/// How much of each is unpacked.
pub(super) const HEAD: usize = 64 << 10;

/// The beginning of something in an archive.
pub(super) struct Member<'a> {
    /// What the archive calls it.
    pub name: &'a str,
    /// Its first bytes.
    pub bytes: &'a [u8],
    /// Whether that is all of it.
    pub complete: bool,
}

/// Looks at one member of the archive `file`.
pub(super) fn look(file: &str, member: &Member, report: &mut Report) {
    look_at_name(file, member.name, report);
    look_at_bytes(file, member, report);
}

/// Its name alone.
pub(super) fn look_at_name(file: &str, name: &str, report: &mut Report) {
    let plain = name.strip_prefix("./").unwrap_or(name).trim_end_matches('/');
    if let Some(fault) = path_fault(plain).filter(|_| !plain.is_empty()) {
        report.add(&PATH_TRICK, file, format!("it holds `{name}`: {fault}"));
    }
}

/// Its content alone.
pub(super) fn look_at_bytes(file: &str, member: &Member, report: &mut Report) {
    let Member { name, bytes, complete } = member;
    if let Some(pickle) = pickle::recognise(bytes, *complete) {
        let detail = format!("in the archive, `{name}`: {}", pickle.describe());
        return report.add(pickle.rule(), file, detail);
    }
    match kinds::kind(bytes) {
        Some(kind) if kind.class == Class::Program => {
            report.add(&EXECUTABLE, file, format!("in the archive, `{name}` is {}", kind.name));
        }
        Some(kind) if kind.class == Class::Archive => {
            let detail = format!("in the archive, `{name}` is {}", kind.name);
            report.unread(file, detail);
        }
        Some(kind) if kind.class == Class::Numpy && arrays::holds_objects(bytes) => {
            let detail = format!("in the archive, `{name}` is an array of objects");
            report.add(&NUMPY_OBJECT, file, detail);
        }
        Some(kind) if kind.class == Class::Hdf5 => {
            report.unread(file, format!("in the archive, `{name}` is HDF5"));
        }
        _ => {}
    }
    let extension = sample::extension(name);
    if extension == "json" && arrays::names_lambda(bytes) {
        let detail = format!("in the archive, `{name}` describes a Lambda layer");
        report.add(&KERAS_LAMBDA, file, detail);
    }
    if ["py", "pyw", "pyc"].contains(&extension.as_str()) {
        report.add(&PYTHON, file, format!("in the archive, `{name}` is Python code"));
    }
}
