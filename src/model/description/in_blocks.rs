//! What of a checkpoint is in blocks of ggml, and may be kept so.

use super::{Description, LM_HEAD, StoredTensors};
use crate::weights::ggml::TensorType;

impl Description {
    /// Numbers that the checkpoint has in blocks, and the bytes of these; those that `without`
    /// names are left out.
    pub fn in_blocks(&self, without: impl Fn(&str) -> bool) -> (u64, u64) {
        let all = self.in_blocks.iter().filter(|(path, _)| !without(path));
        let size = |(kind, numbers): &(&TensorType, u64)| (*numbers, kind.bytes_of(*numbers));
        all.map(|(_, of)| size(of)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// The types of these blocks, each once.
    pub fn block_types(&self) -> Vec<&'static TensorType> {
        let mut types: Vec<_> = self.in_blocks.values().map(|(kind, _)| *kind).collect();
        types.sort_by_key(|kind| kind.name);
        types.dedup();
        types
    }

    /// Whether a tensor of the checkpoint may be kept in blocks by what it is: a matrix of linear
    /// layers or experts, or one with a row for each token. Routers are not: they are kept in 32
    /// bits.
    pub fn keeps_blocks_of(&self, path: &str) -> bool {
        let module = path.strip_suffix(".weight").unwrap_or_default();
        let is_linear = || self.linears.iter().any(|(linear, _)| linear == module);
        let is_table = [self.names.embedding, LM_HEAD].contains(&path)
            || self.layer_inputs.is_some_and(|inputs| inputs.table == path);
        is_table
            || is_linear() && !self.routers().any(|router| router == module)
            || StoredTensors::of(self).get(path).is_some()
    }
}
