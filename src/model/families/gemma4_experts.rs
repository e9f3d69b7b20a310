//! Mixtures of experts of Gemma 4: each layer has one beside its MLP, of the same input, with norms
//! about both; the router has a norm of its own.

use super::experts::Counts;
use crate::error::Result;
use crate::model::ModelJson;
use crate::model::description::{
    BlockDescription, Description, ExpertStorage, ExpertsDescription, LinearDescription,
    NormDescription, NormGain, ResidualDescription, RouterDescription, RouterWeights,
    TermDescription,
};

const SIZE_MAX: usize = 1 << 20;

/// Puts experts beside the MLPs, if the configuration asks for them.
///
/// # Errors
/// When it does not say how many there are.
pub(super) fn add(config: &ModelJson, description: &mut Description) -> Result<()> {
    let sizes = ["num_experts", "top_k_experts", "moe_intermediate_size"];
    if !config.flag("enable_moe_block", false)? {
        for key in sizes {
            config.get(key); // of experts, which are off
        }
        return Ok(());
    }
    let [all, top_k, width] = sizes.map(|key| config.size(key, SIZE_MAX));
    let counts = Counts::checked(config, (sizes[0], all?), (sizes[1], top_k?))?;
    let (hidden, width) = (description.hidden, width?);
    for layer in &mut description.layers {
        let is_mlp =
            |part: &&mut ResidualDescription| matches!(part.block, BlockDescription::GatedMlp(_));
        let Some(part) = layer.residuals.iter_mut().find(is_mlp) else { continue };
        let BlockDescription::GatedMlp(mlp) = part.block.clone() else { continue };
        let Some(before) = part.before.take() else { continue };
        let norm = |name| NormDescription { name, ..before };
        let experts = experts(&counts, [hidden, width], mlp.activation, before);
        let mlp = TermDescription {
            before: Some(before),
            after: Some(norm("post_feedforward_layernorm_1")),
            ..TermDescription::plain(BlockDescription::GatedMlp(mlp))
        };
        let experts = TermDescription {
            after: Some(norm("post_feedforward_layernorm_2")),
            ..TermDescription::plain(BlockDescription::Experts(experts))
        };
        part.block = BlockDescription::Sum(vec![mlp, experts]);
    }
    Ok(())
}

fn experts(
    counts: &Counts,
    [hidden, width]: [usize; 2],
    activation: crate::ops::Activation,
    norm: NormDescription,
) -> ExpertsDescription {
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // widths are small
    let root = (hidden as f64).powf(-0.5) as f32;
    let gain = NormGain::Scaled(root);
    let scores = LinearDescription::new("router.proj", [counts.all, hidden], false);
    ExpertsDescription {
        router: RouterDescription {
            is_linear: true,
            input: Some(NormDescription { name: "router.scale", gain, ..norm }),
            expert_scale: Some("router.per_expert_scale"),
            ..RouterDescription::new(scores, RouterWeights::OfChosen)
        },
        top_k: counts.top_k,
        before: Some(NormDescription { name: "pre_feedforward_layernorm_2", ..norm }),
        module: "experts",
        count: counts.all,
        hidden,
        width,
        bias: false,
        activation,
        storage: ExpertStorage::Stacked,
        served_as: "moe.experts",
        takes_mlp_names: false,
    }
}
