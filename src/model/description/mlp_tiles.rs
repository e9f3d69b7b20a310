//! MLPs that are computed a tile of tokens at a time: what that takes, and what it costs.

use super::pass_memory::{CpuPass, F32, PassMemory};
use super::{BlockDescription, Description, GatedMlpDescription, LayerDescription};

impl BlockDescription {
    /// The MLPs for all tokens in it.
    fn mlps(&self) -> Vec<&GatedMlpDescription> {
        match self {
            Self::GatedMlp(mlp) => vec![mlp],
            Self::Sum(terms) => terms.iter().flat_map(|term| term.block.mlps()).collect(),
            _ => Vec::new(),
        }
    }
}

impl GatedMlpDescription {
    /// What a pass through it takes, in tiles where there are more tokens than one has.
    pub(super) fn pass_memory(&self, layer: &str, hidden: usize, pass: &CpuPass) -> PassMemory {
        let tile = pass.mlp_tile.filter(|tile| pass.tokens() > *tile as u64);
        let Some(tile) = tile else { return self.whole_pass_memory(layer, hidden, pass) };
        let of_tile = CpuPass { rows: (1, tile), ..*pass };
        let PassMemory { kept, backward } = self.whole_pass_memory(layer, hidden, &of_tile);
        // Gradients of the tile beside those of the tiles before it.
        let linears = [self.gate_up.linears(), &[self.down]].concat();
        let gradients = linears.iter().map(|linear| {
            let ([outputs, inputs], path) = (linear.dims, format!("{layer}.{}", linear.name));
            let trained = (pass.trained)(&path);
            let whole = if trained.whole { outputs * inputs } else { 0 };
            (whole + trained.rank * (outputs + inputs)) as u64 * F32
        });
        // The input and its gradient, of the tile as well.
        let beside = pass.factors(hidden) + pass.wide(hidden) + of_tile.factors(hidden);
        PassMemory {
            kept: pass.factors(hidden),
            backward: beside + kept + backward + gradients.sum::<u64>(),
        }
    }
}

impl LayerDescription {
    /// Whether an MLP in it may be computed a tile of tokens at a time.
    pub fn has_mlp(&self) -> bool {
        self.residuals.iter().any(|residual| !residual.block.mlps().is_empty())
    }

    /// Of the numbers of a token that tapes keep, those of parts that tensor operations compute in
    /// tiles.
    pub fn taped_in_tiles(&self, hidden: usize) -> usize {
        let parts = self.residuals.iter().map(|residual| &residual.block);
        let mlps = parts.filter(|block| matches!(block, BlockDescription::GatedMlp(_)));
        mlps.map(|block| block.taped(hidden)).sum()
    }
}

impl Description {
    /// Products of a token that tiles compute once more than a layer that is computed again does.
    /// Where an MLP is the last part, its output is known by then, and the layer leaves it out.
    pub fn mlp_products_again(&self) -> u64 {
        let of_layer = |layer: &LayerDescription| {
            let last = layer.residuals.last().filter(|part| {
                let is_mlp = matches!(part.block, BlockDescription::GatedMlp(_));
                is_mlp && part.after.is_none() && part.multiplier == 1.0
            });
            let known = usize::from(last.is_some());
            let parts = layer.residuals.iter().rev().skip(known);
            let mlps = parts.flat_map(|part| part.block.mlps());
            let linears = mlps.flat_map(|mlp| [mlp.gate_up.linears(), &[mlp.down]].concat());
            linears.map(|linear| (linear.dims[0] * linear.dims[1]) as u64).sum::<u64>()
        };
        self.layers.iter().map(of_layer).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::description::TrainedLinear;
    use crate::model::fixture::small_llama;

    const RANK: usize = 4;

    /// Of a layer with adapters, for so many thousand tokens.
    fn memory(rows: usize, mlp_tile: Option<usize>) -> PassMemory {
        let description = small_llama();
        let trained = |_: &str| TrainedLinear { rank: RANK, ..TrainedLinear::default() };
        let (read, rows) = (|_: [usize; 2]| 0, (rows, 1000));
        let (trained, read) = (&trained, &read);
        let pass = CpuPass { rows, factor: F32, mlp_tile, threads: 2, trained, read };
        description.layers[0].pass_memory(description.hidden, &pass)
    }

    #[test]
    fn an_mlp_in_tiles_keeps_nothing_between_its_linear_layers() {
        assert_eq!(memory(2, Some(2000)), memory(2, None), "there is one tile");
        let (whole, tiled) = (memory(16, None), memory(16, Some(2000)));
        // Gate and up, and what three additions keep, in place of the input.
        let of_token = F32 * (2 * 256 + 3 * RANK - small_llama().hidden) as u64;
        assert_eq!(whole.kept - tiled.kept, 16_000 * of_token);
        assert!(tiled.kept + tiled.backward < whole.kept + whole.backward);
    }
}
