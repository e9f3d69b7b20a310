//! The keys of `config` itself, one file per section: its plain data, its keys, how they are read
//! and shown.

use crate::document::key::Section;

pub mod checkpoint;
pub mod data;
pub mod data_set;
pub mod device;
pub mod eval;
pub mod model;
pub mod output;
pub mod run;
pub mod train;
pub mod trust;

/// Every section of `config`, in the order in which they are shown and rendered.
pub(super) const SECTIONS: &[Section] = &[
    run::SECTION,
    model::SECTION,
    data::SECTION,
    train::SECTION,
    eval::SECTION,
    checkpoint::SECTION,
    output::SECTION,
    trust::SECTION,
    device::SECTION,
];
