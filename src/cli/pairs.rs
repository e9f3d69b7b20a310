//! Preference pairs as `firebrand data` shows them: they can be looked at before they can be
//! trained on.

use std::sync::Arc;

use serde_json::json;

use crate::artifact::stack;
use crate::cli::output::data_pieces;
use crate::cli::{data_json, data_line, talk};
use crate::config::Loaded;
use crate::data::{AddedTokens, Codec, ExampleSpan, preference_pairs};
use crate::error::Result;
use crate::hub::Supply;

/// Shows the first pairs of the training data.
pub fn show(loaded: &Loaded, supply: &Arc<Supply>, json: bool, rows: usize) -> Result<()> {
    let config = &loaded.config;
    let template = config.data.chat_template.as_deref().map(std::path::Path::new);
    let codec = || -> Result<Codec> {
        let added = AddedTokens::of(&config.model)?;
        let base = supply.base(&config.model)?;
        let base = stack::on_named(base, &config.model.base_adapters, supply)?;
        Codec::load_with(&added, &base.path, template)
    };
    let (pairs, warnings) = preference_pairs(&config.data, supply, codec, rows)?;
    warnings.iter().for_each(|text| talk(&format!("warning: {text}")));
    for pair in pairs {
        if json {
            let line = json!({
                "source": pair.record.to_string(),
                "chosen": pair.chosen,
                "rejected": pair.rejected,
            });
            data_json(&line.to_string())?;
            continue;
        }
        data_line(&format!("{}:", pair.record))?;
        for (name, text) in [("chosen", &pair.chosen), ("rejected", &pair.rejected)] {
            data_line(&format!("  {name}"))?;
            let piece = ExampleSpan { text: text.clone(), target: false, tokens: 0 };
            data_pieces(&[piece])?;
        }
    }
    Ok(())
}
