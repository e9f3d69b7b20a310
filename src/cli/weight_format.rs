//! `--weight-format`, which commands have that read the base of an adapter.

use clap::builder::PossibleValuesParser;

use crate::weights::formats::{self, WeightFormat};

/// How linear layers are kept.
#[derive(Debug, clap::Args)]
pub struct WeightFormatArgs {
    /// Take the linear layers of the base as this `model.weight_format` has them, and not as its
    /// files do
    #[arg(long, value_name = "FORMAT", value_parser = choices())]
    weight_format: Option<String>,
}

fn choices() -> PossibleValuesParser {
    PossibleValuesParser::new(formats::choices())
}

impl WeightFormatArgs {
    /// The format that was asked for.
    pub fn format(&self) -> Option<&'static dyn WeightFormat> {
        self.weight_format.as_deref().and_then(formats::named)
    }
}
