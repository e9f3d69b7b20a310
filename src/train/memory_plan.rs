//! What a step holds at once.

use serde::{Serialize, Serializer};

use crate::config::Recompute;
use crate::model::Streamed;

/// What is held in memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct MemoryPlan {
    /// What is computed again in the backward pass.
    #[serde(serialize_with = "by_name")]
    pub recompute: Recompute,
    /// Target tokens whose logits are held at once.
    pub loss_chunk_tokens: usize,
    /// Rows of a micro-batch that are computed at once.
    pub rows: usize,
    /// Which frozen matrices are left on disk, and are in memory while they are multiplied with.
    #[serde(serialize_with = "which")]
    pub streamed: Option<Streamed>,
}

fn by_name<S: Serializer>(recompute: &Recompute, to: S) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(recompute.name())
}

#[expect(clippy::ref_option)] // serde hands a field over so
fn which<S: Serializer>(
    streamed: &Option<Streamed>,
    to: S,
) -> std::result::Result<S::Ok, S::Error> {
    to.serialize_str(match streamed {
        None => "none",
        Some(Streamed::Tables) => "tables",
        Some(Streamed::All) => "all",
    })
}

impl MemoryPlan {
    /// In words.
    pub fn about(&self) -> String {
        let layers = match self.recompute {
            Recompute::None => "nothing computed again",
            Recompute::Layers => "layers computed again",
        };
        let rows = match self.rows {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        };
        let chunk = self.loss_chunk_tokens;
        let streamed = match self.streamed {
            None => "",
            Some(Streamed::Tables) => ", embedding and output head on disk",
            Some(Streamed::All) => ", frozen weights on disk",
        };
        format!("{layers}, logits of {chunk} target tokens and {rows} at once{streamed}")
    }
}
