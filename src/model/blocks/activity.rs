//! What a forward pass went through: the units of MLPs, heads of attention and experts that
//! answered a token, and how strongly. It is read from what the forward pass keeps for the backward
//! pass, so that nothing is computed otherwise while somebody looks.

use std::collections::BTreeMap;

use super::{Block, BlockOnCpu, HeadActivity, HeadWeights, SavedBlock, Setting};
use crate::ops::cpu::AsLhs;

/// What a block has of paths that answer a token, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PathKind {
    /// Units of an MLP.
    Units(usize),
    /// Heads of attention.
    Heads(usize),
    /// Experts of a mixture, and the units that each of them has.
    Experts {
        /// Experts.
        count: usize,
        /// Units of each.
        units: usize,
    },
    /// A block whose paths are not told apart, by its name.
    Whole(&'static str),
}

/// What one block did in a forward pass; lists go token after token.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockActivity {
    /// What the last linear layer of an MLP got, `[tokens, units]`.
    Units(Vec<f32>, usize),
    /// What each head gave.
    Heads(HeadActivity),
    /// The experts that were chosen.
    Experts(ChosenExperts),
    /// Of a block whose paths are not told apart.
    Whole,
}

/// The experts of tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct ChosenExperts {
    /// `[tokens, top_k]`.
    pub chosen: Vec<u32>,
    /// Experts of a token.
    pub top_k: usize,
    /// How many experts there are.
    pub count: usize,
    /// What the last linear layer of the chosen experts got, before the weight of the choice,
    /// `[tokens, top_k, units]`.
    pub values: Vec<f32>,
    /// Units of an expert.
    pub units: usize,
}

/// What is known of the heads of a layer, by the number of the block.
pub type LayerHeads = BTreeMap<usize, HeadWeights>;

impl Block {
    /// Adds what it has of paths, in the order of its activities.
    pub fn paths(&self, found: &mut Vec<PathKind>) {
        found.push(match self {
            Self::Attention(block) => PathKind::Heads(block.heads()),
            Self::GatedMlp(block) => PathKind::Units(block.units()),
            Self::Experts(block) => {
                PathKind::Experts { count: block.count(), units: block.units() }
            }
            Self::Sum(block) => return block.blocks().for_each(|block| block.paths(found)),
            Self::LayerInput(_) => PathKind::Whole("layer_input"),
            Self::DeltaNet(_) => PathKind::Whole("delta_net"),
            Self::ShortConv(_) => PathKind::Whole("short_conv"),
        });
    }
}

impl BlockOnCpu<'_> {
    /// Adds what it did in a forward pass, of which `saved` is left.
    pub fn activity<F: AsLhs>(
        &self,
        saved: &SavedBlock<F>,
        setting: Setting,
        heads: &mut LayerHeads,
        found: &mut Vec<BlockActivity>,
    ) {
        let number = found.len();
        found.push(match (self, saved) {
            (Self::Attention(block), SavedBlock::Attention(saved)) => {
                let weights = heads.entry(number).or_insert_with(|| block.head_weights::<F>());
                BlockActivity::Heads(block.activity(saved, weights, setting))
            }
            (Self::GatedMlp(block), SavedBlock::GatedMlp(saved)) => {
                BlockActivity::Units(block.units(saved), block.width())
            }
            (Self::Experts(block), SavedBlock::Experts(saved)) => {
                let ((chosen, top_k), count) = (saved.chosen(), block.experts.len());
                let (chosen, (values, units)) = (chosen.to_vec(), block.units(saved));
                BlockActivity::Experts(ChosenExperts { chosen, top_k, count, values, units })
            }
            (Self::Sum(block), SavedBlock::Sum(saved)) => {
                for (block, saved) in block.blocks(saved) {
                    block.activity(saved, setting, heads, found);
                }
                return;
            }
            _ => BlockActivity::Whole,
        });
    }
}
