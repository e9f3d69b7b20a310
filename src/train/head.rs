//! The head that scores labels, before and after a run.

use std::sync::Arc;

use crate::artifact::score_head::Calibration;
use crate::config::{DataConfig, RunConfig, ScoreHead};
use crate::data;
use crate::error::Result;
use crate::hub::Supply;
use crate::model::NewHead;
use crate::objectives;
use crate::random::Stream;

/// What a run scores in the place of tokens.
#[derive(Debug, Clone)]
pub struct RunHead {
    /// Its labels.
    pub head: ScoreHead,
    /// How good its probabilities are, where that was asked; known at the end of the run.
    pub(super) calibration: Option<Calibration>,
}

impl From<ScoreHead> for RunHead {
    fn from(head: ScoreHead) -> Self {
        Self { head, calibration: None }
    }
}

/// The settings of the data with all labels in them, and what the run scores in the place of
/// tokens, if it does.
pub(super) fn of_run(
    config: &RunConfig,
    supply: &Arc<Supply>,
) -> Result<(DataConfig, Option<ScoreHead>)> {
    let data = data::with_labels(&config.data, supply)?;
    let own = || objectives::chosen(&config.owned).score_head();
    let head = data.score_head.clone().or_else(own);
    Ok((data, head))
}

/// How it begins where the base has none.
pub(super) fn new_head(head: Option<&RunHead>, seed: Stream) -> Option<NewHead> {
    head.map(|of| NewHead { labels: of.head.labels.len(), stream: seed.site("init") })
}
