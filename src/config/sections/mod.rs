//! The keys of `config` itself, one file per section: its plain data, its keys, how they are read
//! and shown.

use crate::config::key::Section;

/// Declares an enum whose variants have names in the config.
macro_rules! choices {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// The names in the config, in the order of the variants.
            pub const NAMES: &'static [&'static str] = &[$($text,)+];

            /// The name in the config.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The variant of this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}

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
