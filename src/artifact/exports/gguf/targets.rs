//! What becomes of the tensors of a model: their names in the file, and what is done to them.

use super::architecture::Architecture;
use super::change::{NumberChange, OfExperts, Target, TensorOrder};
use super::shape::residuals;
use crate::error::{Error, Result};
use crate::gguf::{ValueHeads, last_norm, outside_to_gguf, tensor_to_gguf};
use crate::model::LM_HEAD;
use crate::model::description::{
    BlockDescription, DeltaNetDescription, Description, ExpertMatrix, ExpertStorage,
    ExpertsDescription, JointDescription, LayerDescription, NormGain,
};

/// Modules whose numbers are few and count much: convolutions, and routers.
const EXACT: [&str; 6] = [
    "conv.conv.weight",
    "linear_attn.conv1d.weight",
    "mlp.gate.weight",
    "mlp.router.weight",
    "feed_forward.gate.weight",
    "router.proj.weight",
];
/// What the matrices of all experts of a layer are in the file: to the gate, up, and down.
const OF_EXPERTS: [&str; 3] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"];

impl Architecture {
    /// What becomes of a tensor of this path: of nothing, if it is left out as an output projection
    /// that is the embedding, or a buffer that the configuration determines.
    pub fn targets(&self, path: &str, facts: &Description) -> Result<Vec<Target>> {
        let whole = |name: &str| Ok(vec![self.target(path, format!("{name}.weight"))]);
        if path == facts.names.embedding {
            return whole("token_embd");
        }
        if path.strip_suffix(".weight") == Some(facts.names.norm) {
            return whole(last_norm(self.name));
        }
        match path {
            LM_HEAD if facts.tied => return Ok(Vec::new()),
            LM_HEAD => return whole("output"),
            _ if path.ends_with(".rotary_emb.inv_freq") => return Ok(Vec::new()),
            _ => {}
        }
        let found = self.of_layer(path, facts).or_else(|| {
            let theirs = outside_to_gguf(self.name, path)?;
            Some(vec![self.target(path, theirs.to_owned())])
        });
        found
            .ok_or_else(|| Error::export(format!("llama.cpp has no place for the tensor `{path}`")))
    }

    /// A tensor under another name, with the gain of a norm as llama.cpp has it.
    fn target(&self, path: &str, name: String) -> Target {
        let gain = path.ends_with("norm.weight") && !path.ends_with("linear_attn.norm.weight");
        let plus_one = self.gain == NormGain::OnePlusWeight && gain;
        let change = if plus_one { NumberChange::PlusOne } else { NumberChange::None };
        Target { change, ..Target::same(name) }
    }

    /// What becomes of a tensor of a decoder layer.
    fn of_layer(&self, path: &str, facts: &Description) -> Option<Vec<Target>> {
        let within = path.strip_prefix(facts.names.layers)?.strip_prefix('.')?;
        let (number, rest) = within.split_once('.')?;
        let number: usize = number.parse().ok()?;
        let layer = facts.layers.get(number)?;
        let named = |name: String| format!("blk.{number}.{name}");
        let experts = layer.residuals.iter().find_map(|part| part.block.experts());
        if let Some(experts) = experts
            && let Some(targets) = of_experts(rest, experts)
        {
            let renamed = targets.into_iter().map(|of| Target { name: named(of.name), ..of });
            return Some(renamed.collect());
        }
        if self.name == "granite"
            && let Some(targets) = of_joint_mlp(rest, layer)
        {
            let renamed = targets.into_iter().map(|of| Target { name: named(of.name), ..of });
            return Some(renamed.collect());
        }
        let target = self.target(path, named(tensor_to_gguf(self.name, rest)?));
        let module = rest.rsplit_once('.').map_or(rest, |(module, _)| module);
        let (change, order) = match (delta_net(layer), rest) {
            (Some(net), _) if rest.starts_with("linear_attn.") => of_delta_net(net, rest),
            (_, "mlp.shared_expert_gate.weight") => (None, TensorOrder::Vector),
            _ if self.turned.contains(&module) => (None, TensorOrder::Turned),
            _ => (None, TensorOrder::Same),
        };
        let change = change.unwrap_or(target.change);
        Some(vec![Target { change, order, exact: EXACT.contains(&rest), ..target }])
    }

    /// Paths of all tensors that a model must have, with their shapes.
    pub fn needed(&self, facts: &Description) -> Vec<(String, Vec<usize>)> {
        let written =
            |path: &str| self.targets(path, facts).is_ok_and(|targets| !targets.is_empty());
        facts.tensors().into_iter().filter(|(path, _)| written(path)).collect()
    }
}

/// What becomes of the layers of an MLP with one to gate and up, for which llama.cpp has no place,
/// by names within the layer of the file.
fn of_joint_mlp(rest: &str, layer: &LayerDescription) -> Option<Vec<Target>> {
    let BlockDescription::GatedMlp(mlp) = &residuals(layer)?[1].block else { return None };
    let JointDescription::Fused(gate_up, _) = mlp.gate_up else { return None };
    let module = rest.strip_suffix(".weight")?;
    let half = |(name, which)| Target {
        order: TensorOrder::Half(which),
        ..Target::same(format!("{name}.weight"))
    };
    if module == gate_up.name {
        return Some([("ffn_gate", 0), ("ffn_up", 1)].map(half).into());
    }
    (module == mlp.down.name).then(|| vec![Target::same("ffn_down.weight".to_owned())])
}

fn delta_net(layer: &LayerDescription) -> Option<&DeltaNetDescription> {
    layer.residuals.iter().find_map(|part| match &part.block {
        BlockDescription::DeltaNet(net) => Some(net),
        _ => None,
    })
}

/// llama.cpp has heads of values in another order.
fn of_delta_net(net: &DeltaNetDescription, rest: &str) -> (Option<NumberChange>, TensorOrder) {
    let heads = net.heads;
    let of = |before, rows| ValueHeads { before, keys: heads.keys, per_key: heads.repeat(), rows };
    let joint = of(2 * heads.keys_wide(), heads.value_width);
    let order = match rest {
        "linear_attn.in_proj_qkv.weight" | "linear_attn.conv1d.weight" => TensorOrder::Rows(joint),
        "linear_attn.in_proj_z.weight" => TensorOrder::Rows(of(0, heads.value_width)),
        "linear_attn.out_proj.weight" => TensorOrder::Columns(of(0, heads.value_width)),
        "linear_attn.norm.weight" => TensorOrder::Same,
        _ => TensorOrder::Rows(of(0, 1)),
    };
    ((rest == net.a_log).then_some(NumberChange::Rate), order)
}

/// What becomes of a tensor of experts, by names within the layer of the file.
fn of_experts(rest: &str, experts: &ExpertsDescription) -> Option<Vec<Target>> {
    let within = rest.strip_prefix(experts.module)?.strip_prefix('.')?;
    if let ExpertStorage::Separate(names) = experts.storage {
        let (number, matrix) = within.strip_suffix(".weight")?.split_once('.')?;
        let which = names.iter().position(|name| *name == matrix)?;
        let number = number.parse().ok().filter(|number| *number < experts.count)?;
        let part = Some([number, experts.count]);
        return Some(vec![Target {
            part,
            ..Target::same(format!("{}.weight", OF_EXPERTS[which]))
        }]);
    }
    let matrix = ExpertMatrix::ALL.into_iter().find(|one| within.starts_with(one.name()))?;
    let (dims, alternating) = (experts.dims(matrix), matrix == ExpertMatrix::GateUp);
    let stacked = experts.storage == ExpertStorage::Stacked;
    let transposed = (!stacked).then_some(alternating);
    let (part, scales) = match (within.strip_prefix(matrix.name())?, experts.storage) {
        ("", ExpertStorage::Stacked | ExpertStorage::Alternating) => ("weight", None),
        ("_bias", _) if !stacked => ("bias", None),
        ("_blocks", ExpertStorage::Mxfp4) => ("weight", Some(false)),
        ("_scales", ExpertStorage::Mxfp4) => ("weight", Some(true)),
        _ => return None,
    };
    let dims = if part == "bias" { [dims[0], 1] } else { dims };
    let target = |(name, half): (&str, Option<usize>)| {
        let of = OfExperts { dims, transposed, half };
        let order = match scales {
            None => TensorOrder::Experts(of),
            Some(scales) => TensorOrder::Mxfp4 { of, scales },
        };
        let exact = part == "bias";
        Target { order, exact, ..Target::same(format!("{name}.{part}")) }
    };
    Some(match matrix {
        ExpertMatrix::GateUp => {
            [(OF_EXPERTS[0], Some(0)), (OF_EXPERTS[1], Some(1))].map(target).into()
        }
        ExpertMatrix::Down => vec![target((OF_EXPERTS[2], None))],
    })
}
