//! What determined the steps of a run, as one digest that grows with them: the rows of each step,
//! as the model sees them, and its learning rate. Two runs with the same settings otherwise and
//! the same chain after a step have the same weights there, whatever comes later.

use serde::{Deserialize, Serialize};

use crate::data::Batch;
use crate::files::Digest;

/// The digest of all steps so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// After the first step: whoever has another one there has nothing in common.
    pub first: Option<Digest>,
    /// After the last step.
    pub last: Option<Digest>,
}

impl Chain {
    /// After one more step: SHA-256 over the digest so far (32 zero bytes before the first step),
    /// the bits of the learning rate (little-endian), and [`batches_digest`].
    #[must_use]
    pub fn after(self, learning_rate: f64, batches: &[Batch]) -> Self {
        let mut bytes = self.last.map_or([0; 32], |digest| digest.0).to_vec();
        bytes.extend_from_slice(&learning_rate.to_bits().to_le_bytes());
        bytes.extend_from_slice(&batches_digest(batches).0);
        let last = Digest::of(&bytes);
        Self { first: self.first.or(Some(last)), last: Some(last) }
    }
}

/// The digest of the micro-batches of a step: SHA-256 over theirs, in order.
pub fn batches_digest(batches: &[Batch]) -> Digest {
    let digests: Vec<u8> = batches.iter().flat_map(|batch| batch.digest().0).collect();
    Digest::of(&digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_rows_and_order_count() {
        let batch = |token| Batch { rows: 1, length: 1, tokens: vec![token], ..Batch::default() };
        let start = Chain::default();
        let one = start.after(1e-3, &[batch(1)]);
        assert_eq!(one, start.after(1e-3, &[batch(1)]));
        assert_ne!(one, start.after(1e-4, &[batch(1)]));
        assert_ne!(one, start.after(1e-3, &[batch(2)]));
        assert_ne!(one, start.after(1e-3, &[batch(1), batch(2)]));
        assert_ne!(
            one.after(1e-3, &[batch(2)]),
            start.after(1e-3, &[batch(2)]).after(1e-3, &[batch(1)])
        );
    }
}
