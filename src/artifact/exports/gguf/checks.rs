//! What of a model llama.cpp would compute otherwise.

use super::architecture::{Architecture, Mixture};
use super::shape::{attention, near, residuals, root, ropes};
use crate::model::description::{
    AttentionDescription, BlockDescription, Description, ExpertsDescription, LayerDescription,
    NormDescription, QkvDescription, ResidualDescription, Rope, RouterDescription, RouterWeights,
};
use crate::ops::{Activation, AttentionConfig, RopeScaling};

impl Architecture {
    /// What of a model llama.cpp would not compute, if there is something.
    pub(super) fn refused(&self, facts: &Description) -> Option<&'static str> {
        let usual = facts.layer_inputs.is_none()
            && facts.layers.iter().all(|layer| layer.scalar.is_none() && self.is_layer(layer));
        let Some(first) = facts.layers.iter().find_map(attention).filter(|_| usual) else {
            return Some("layers of another kind");
        };
        let heads = first.config.heads;
        let attentions = || facts.layers.iter().filter_map(attention);
        let same = |of: &AttentionDescription| {
            let config = AttentionConfig { window: None, ..of.config };
            let first_config = AttentionConfig { window: None, ..first.config };
            let alike = AttentionDescription { rope: None, config, ..of.clone() };
            alike == AttentionDescription { rope: None, config: first_config, ..first.clone() }
        };
        let scale = match self.wide_scale_at == Some(facts.layers.len()) {
            true => 1.0 / root(facts.hidden / heads.queries),
            false => 1.0 / root(heads.width),
        };
        let parts = || facts.layers.iter().flat_map(|layer| &layer.residuals);
        let embedding = if self.scales_embedding { root(facts.hidden) } else { 1.0 };
        let multiplied = !near(facts.embedding_scale, embedding, 1.0 / 128.0)
            || facts.logits.scale != 1.0
            || !near(first.config.scale, scale, 1e-6)
            || parts().any(|part| part.multiplier != 1.0);
        let one_multiplier =
            parts().all(|part| part.multiplier == facts.layers[0].residuals[0].multiplier);
        let biased = parts().any(|part| part.block.linears().iter().any(|of| of.bias));
        let clamped = self.mixture == Mixture::Clamped;
        let caps = [first.config.soft_cap, facts.logits.soft_cap].map(|cap| cap.is_some());
        let wide = heads.queries * heads.width == facts.hidden;
        let wrong: &[(bool, &str)] = &[
            (
                !attentions().all(same) || !self.same_mlps(facts) || !one_multiplier,
                "layers of several kinds",
            ),
            (!self.has_windows(facts), "such sliding windows"),
            (first.sinks.is_some() && !self.sinks, "sinks of attention"),
            (clamped && !(biased && first.output.bias), "attention without biases"),
            (caps != [self.capped; 2], "such caps of scores"),
            (multiplied && !self.multipliers, "such multipliers"),
            (biased && !self.biases, "biases"),
            (!self.turns(facts), "such rotations of positions"),
            (self.name == "olmo2" && !wide, "heads of such a width"),
            (
                self.tied.is_some_and(|tied| tied != facts.tied),
                match facts.tied {
                    true => "an output projection that is the embedding",
                    false => "an output projection of its own",
                },
            ),
        ];
        wrong.iter().find_map(|(wrong, what)| wrong.then_some(*what))
    }

    /// Whether a layer is made of what those of the family are made of.
    fn is_layer(&self, layer: &LayerDescription) -> bool {
        let Some([mixer, mlp]) = residuals(layer) else { return false };
        let gains = |part: &ResidualDescription| {
            let norms = part.before.into_iter().chain(part.after).chain(part.block.norms());
            norms.into_iter().all(|norm: NormDescription| norm.gain == self.gain)
        };
        let stand = |part: &ResidualDescription| {
            [part.before.is_some(), part.after.is_some()] == self.norms && gains(part)
        };
        let mixes = match &mixer.block {
            BlockDescription::Attention(of) => {
                matches!(of.qkv, QkvDescription::Joint(_))
                    && of.value_norm.is_none()
                    && of.shares.is_none()
                    && !of.gated
            }
            BlockDescription::ShortConv(conv) => self.convolutions && !conv.convolution.bias,
            _ => false,
        };
        let thinks = match &mlp.block {
            BlockDescription::GatedMlp(of) => {
                matches!(self.mixture, Mixture::None | Mixture::Sigmoid)
                    && of.activation == self.activation
            }
            BlockDescription::Experts(of) => self.is_mixture(of),
            _ => false,
        };
        stand(mixer) && stand(mlp) && mixes && thinks
    }

    /// Whether a mixture of experts is one that the family has.
    fn is_mixture(&self, of: &ExpertsDescription) -> bool {
        let router = RouterDescription { scores: of.router.scores, ..of.router };
        let plain = |weights| RouterDescription::new(of.router.scores, weights);
        let known = match self.mixture {
            Mixture::None => false,
            Mixture::Softmax => {
                router == plain(RouterWeights::OfChosen) && of.activation == self.activation
            }
            Mixture::Sigmoid => {
                let weights = RouterWeights::Sigmoid { normalised: true, factor: 1.0 };
                router == RouterDescription { choice_bias: router.choice_bias, ..plain(weights) }
                    && router.choice_bias.is_some()
                    && of.activation == self.activation
            }
            // llama.cpp has these two numbers built in.
            Mixture::Clamped => {
                router == plain(RouterWeights::OfChosen)
                    && of.activation == Activation::Clamped { alpha: 1.702, limit: 7.0 }
            }
        };
        let clamped = self.mixture == Mixture::Clamped;
        let biases = of.bias == clamped && of.router.scores.bias == clamped;
        known && of.before.is_none() && biases && of.storage.alternates() == clamped
    }

    /// Whether MLPs are all the same, and experts, the layers of which come last.
    fn same_mlps(&self, facts: &Description) -> bool {
        let blocks = || facts.layers.iter().filter_map(|of| Some(&residuals(of)?[1].block));
        let is_mlp = |block: &&BlockDescription| matches!(block, BlockDescription::GatedMlp(_));
        let mlps = blocks().take_while(is_mlp).count();
        let same = |from, count| {
            let mut some = blocks().skip(from).take(count);
            some.next().is_none_or(|first| some.all(|other| other == first))
        };
        same(0, mlps) && same(mlps, usize::MAX)
    }

    /// Whether windows are where llama.cpp has them.
    fn has_windows(&self, facts: &Description) -> bool {
        // One that does not end within the contexts of a model is none.
        let within = |window: &usize| *window < facts.positions_max;
        let windows: Vec<_> =
            facts.layers.iter().filter_map(attention).map(|of| of.config.window).collect();
        let Some(period) = self.windows else {
            return windows.iter().all(|window| window.filter(within).is_none());
        };
        let mut widths = windows.iter().flatten();
        let one = widths.next();
        let regular =
            (1..).zip(&windows).all(|(number, window)| window.is_some() == (number % period != 0));
        match one {
            None => self.name == "olmo2", // those of the second generation have none
            Some(one) => widths.all(|width| width == one) && (regular || self.any_pattern),
        }
    }

    /// Whether llama.cpp rotates so.
    fn turns(&self, facts: &Description) -> bool {
        let [far, near] = ropes(facts);
        let (Some(far), near) = (far.or(near), near) else { return false };
        let layers = facts.layers.iter().enumerate();
        let mut layers = layers.filter_map(|(index, layer)| Some((index, attention(layer)?)));
        let all = layers.all(|(index, of)| {
            let turned = self.unturned_every.is_none_or(|every| !(index + 1).is_multiple_of(every));
            let wanted = match (of.config.window.is_some() && self.windows.is_some(), near) {
                (true, Some(near)) => near,
                _ => far,
            };
            of.rope.as_ref() == turned.then_some(wanted) || self.any_turning && of.rope.is_none()
        });
        let two = self.windows.is_none()
            || near.is_none_or(|near| {
                let plain = near.scaling == RopeScaling::None;
                match self.name {
                    "gpt-oss" | "granite_swa" => near == far,
                    "gemma2" => near == far && plain,
                    "gemma3" => plain,
                    _ => plain && near.theta == far.theta,
                }
            });
        all && two && self.rotates(far)
    }

    /// Whether llama.cpp knows this rotation of all layers.
    fn rotates(&self, rope: &Rope) -> bool {
        let mixture = self.mixture != Mixture::None;
        let of_old = !(mixture || self.convolutions || self.windows.is_some());
        let known = match &rope.scaling {
            RopeScaling::None => true,
            RopeScaling::Linear { .. } => !self.convolutions,
            RopeScaling::Llama3 { .. } => of_old,
            RopeScaling::LongRope { .. } => self.name == "phi3",
            // Its ramps begin and end at whole planes. All files of gpt-oss are read so.
            RopeScaling::Yarn { .. } => {
                self.yarn && (is_whole(&rope.scaling) || self.mixture == Mixture::Clamped)
            }
            _ => false,
        };
        let scaled = match (rope.query_scale, &rope.scaling) {
            (None, _) => true,
            (Some(scale), RopeScaling::Yarn { original, .. }) => {
                #[expect(clippy::cast_precision_loss)] // contexts are small
                let original = *original as f32;
                self.scales_queries && scale.original == original
            }
            _ => false,
        };
        known && scaled && (rope.rotated.is_none() || self.name == "phi3")
    }

    /// What llama.cpp computes a little otherwise, of all files of the family.
    pub fn note(&self, facts: &Description) -> Option<String> {
        let far = ropes(facts)[0].or(ropes(facts)[1])?;
        let RopeScaling::Yarn { ramp: [begin, end], .. } = &far.scaling else { return None };
        (!is_whole(&far.scaling)).then(|| {
            format!(
                "llama.cpp rounds the planes between which positions are stretched, {begin:.2} to \
                 {end:.2}, to {} to {}: its logits differ a little, as of all files of the family",
                begin.floor(),
                end.ceil()
            )
        })
    }
}

/// Whether a ramp of yarn begins and ends at whole planes.
fn is_whole(scaling: &RopeScaling) -> bool {
    let RopeScaling::Yarn { ramp, .. } = scaling else { return true };
    ramp.iter().all(|plane| plane.fract() < 0.01)
}
