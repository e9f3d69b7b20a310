//! What llama.cpp calls modules, and how it lays out rows: the same for files that are read and for
//! those that are written. Source: `gguf-py/gguf/tensor_mapping.py` of llama.cpp.

/// Names inside a decoder layer that most architectures have: those of Hugging Face, llama.cpp's.
const LAYER: &[(&str, &str)] = &[
    ("self_attn.q_proj", "attn_q"),
    ("self_attn.k_proj", "attn_k"),
    ("self_attn.v_proj", "attn_v"),
    ("self_attn.o_proj", "attn_output"),
    ("mlp.gate_proj", "ffn_gate"),
    ("mlp.up_proj", "ffn_up"),
    ("mlp.down_proj", "ffn_down"),
    ("input_layernorm", "attn_norm"),
    ("post_attention_layernorm", "ffn_norm"),
    ("self_attn.q_norm", "attn_q_norm"),
    ("self_attn.k_norm", "attn_k_norm"),
];

/// Names that architectures have in the place of those: where the norms are others, where one layer
/// is made of several, and where modules are called otherwise.
const OWN: &[(&str, &[(&str, &str)])] = &[
    ("gemma2", NORMS_ABOUT),
    ("gemma3", NORMS_ABOUT),
    (
        "gemma4",
        &[
            ("post_attention_layernorm", "post_attention_norm"),
            ("pre_feedforward_layernorm", "ffn_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
            ("post_feedforward_layernorm_1", "post_ffw_norm_1"),
            ("pre_feedforward_layernorm_2", "pre_ffw_norm_2"),
            ("post_feedforward_layernorm_2", "post_ffw_norm_2"),
            ("router.proj", "ffn_gate_inp"),
            ("per_layer_input_gate", "inp_gate"),
            ("per_layer_projection", "proj"),
            ("post_per_layer_input_norm", "post_norm"),
        ],
    ),
    (
        "gpt-oss",
        &[("post_attention_layernorm", "post_attention_norm"), ("mlp.router", "ffn_gate_inp")],
    ),
    ("lfm2", LFM2),
    ("lfm2moe", LFM2),
    (
        "olmo2",
        &[
            ("post_attention_layernorm", "post_attention_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ],
    ),
    ("phi3", &[("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")]),
    ("qwen35", QWEN35),
    ("qwen35moe", QWEN35),
    ("qwen3moe", &[("mlp.gate", "ffn_gate_inp")]),
];

const NORMS_ABOUT: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

const LFM2: &[(&str, &str)] = &[
    ("operator_norm", "attn_norm"),
    ("ffn_norm", "ffn_norm"),
    ("self_attn.q_layernorm", "attn_q_norm"),
    ("self_attn.k_layernorm", "attn_k_norm"),
    ("self_attn.out_proj", "attn_output"),
    ("feed_forward.w1", "ffn_gate"),
    ("feed_forward.w2", "ffn_down"),
    ("feed_forward.w3", "ffn_up"),
    ("feed_forward.gate", "ffn_gate_inp"),
    ("conv.in_proj", "shortconv.in_proj"),
    ("conv.out_proj", "shortconv.out_proj"),
    ("conv.conv", "shortconv.conv"),
];

const QWEN35: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("linear_attn.in_proj_qkv", "attn_qkv"),
    ("linear_attn.in_proj_z", "attn_gate"),
    ("linear_attn.in_proj_b", "ssm_beta"),
    ("linear_attn.in_proj_a", "ssm_alpha"),
    ("linear_attn.conv1d", "ssm_conv1d"),
    ("linear_attn.norm", "ssm_norm"),
    ("linear_attn.out_proj", "ssm_out"),
    ("mlp.gate", "ffn_gate_inp"),
    ("mlp.shared_expert.gate_proj", "ffn_gate_shexp"),
    ("mlp.shared_expert.up_proj", "ffn_up_shexp"),
    ("mlp.shared_expert.down_proj", "ffn_down_shexp"),
    ("mlp.shared_expert_gate", "ffn_gate_inp_shexp"),
];

/// Tensors of a decoder layer that are no weight or bias of a module in both: those of Hugging
/// Face, llama.cpp's.
const TENSORS: &[(&str, &[(&str, &str)])] = &[
    (
        "gemma4",
        &[
            ("layer_scalar", "layer_output_scale.weight"),
            ("router.scale", "ffn_gate_inp.scale"),
            ("router.per_expert_scale", "ffn_down_exps.scale"),
        ],
    ),
    ("gpt-oss", SINKS),
    ("granite_swa", SINKS),
    ("lfm2moe", &[("feed_forward.expert_bias", "exp_probs_b.bias")]),
    ("qwen35", DECAYS),
    ("qwen35moe", DECAYS),
];

const SINKS: &[(&str, &str)] = &[("self_attn.sinks", "attn_sinks.weight")];

const DECAYS: &[(&str, &str)] =
    &[("linear_attn.A_log", "ssm_a"), ("linear_attn.dt_bias", "ssm_dt.bias")];

/// Tensors beside embedding, layers and the last norm, without the name of the model before them.
const OUTSIDE: &[(&str, &[(&str, &str)])] = &[(
    "gemma4",
    &[
        ("embed_tokens_per_layer.weight", "per_layer_token_embd.weight"),
        ("per_layer_model_projection.weight", "per_layer_model_proj.weight"),
        ("per_layer_projection_norm.weight", "per_layer_proj_norm.weight"),
    ],
)];

type Pair = (&'static str, &'static str);

/// The names that an architecture has in a table.
fn of(
    table: &'static [(&'static str, &'static [Pair])],
    architecture: &str,
) -> impl Iterator<Item = &'static Pair> {
    let found = table.iter().find(|(name, _)| *name == architecture);
    found.map_or(&[][..], |(_, own)| own).iter()
}

/// What llama.cpp calls a tensor of a decoder layer.
pub fn tensor_to_gguf(architecture: &str, name: &str) -> Option<String> {
    if let Some((_, theirs)) = of(TENSORS, architecture).find(|(ours, _)| *ours == name) {
        return Some((*theirs).to_owned());
    }
    let (module, part) = name.rsplit_once('.')?;
    let theirs = to_gguf(architecture, module)?;
    matches!(part, "weight" | "bias").then(|| format!("{theirs}.{part}"))
}

/// The tensor of a decoder layer that llama.cpp calls so.
pub fn tensor_from_gguf(architecture: &str, name: &str) -> Option<String> {
    if let Some((ours, _)) = of(TENSORS, architecture).find(|(_, theirs)| *theirs == name) {
        return Some((*ours).to_owned());
    }
    let (module, part) = name.rsplit_once('.')?;
    let ours = from_gguf(architecture, module)?;
    matches!(part, "weight" | "bias").then(|| format!("{ours}.{part}"))
}

/// What llama.cpp calls a tensor of this path that is none of a layer.
pub fn outside_to_gguf(architecture: &str, path: &str) -> Option<&'static str> {
    let mut all = of(OUTSIDE, architecture);
    let name = |ours: &str| path.strip_suffix(ours).is_some_and(|before| before.ends_with('.'));
    all.find(|(ours, _)| name(ours)).map(|(_, theirs)| *theirs)
}

/// The tensor outside of layers that llama.cpp calls so.
pub fn outside_from_gguf(architecture: &str, name: &str) -> Option<&'static str> {
    of(OUTSIDE, architecture).find(|(_, theirs)| *theirs == name).map(|(ours, _)| *ours)
}

/// Names inside a decoder layer of an architecture: those of Hugging Face, llama.cpp's.
fn of_layer(architecture: &str) -> impl Iterator<Item = Pair> {
    of(OWN, architecture).chain(LAYER).copied()
}

/// What llama.cpp calls a module of a decoder layer.
fn to_gguf(architecture: &str, module: &str) -> Option<&'static str> {
    of_layer(architecture).find(|(ours, _)| *ours == module).map(|(_, theirs)| theirs)
}

/// The module of a decoder layer that llama.cpp calls so.
fn from_gguf(architecture: &str, module: &str) -> Option<&'static str> {
    of_layer(architecture).find(|(_, theirs)| *theirs == module).map(|(ours, _)| ours)
}

/// What llama.cpp calls the norm after the last layer.
pub fn last_norm(architecture: &str) -> &'static str {
    if matches!(architecture, "lfm2" | "lfm2moe") { "token_embd_norm" } else { "output_norm" }
}

/// Modules whose rows are turned in files of most families: llama.cpp rotates neighbours there,
/// transformers halves.
pub const TURNED: &[&str] = &["self_attn.q_proj", "self_attn.k_proj"];

/// Which way rows are turned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// From two halves to neighbours, as llama.cpp has them.
    ToNeighbours,
    /// From neighbours to two halves, as transformers has them.
    ToHalves,
}

/// Turns the rows of whole heads: row `i` of the first half and row `i` of the second lie beside
/// each other, or come from there. `values` has heads of `head` rows, an even number, of `width`
/// numbers.
pub fn turn<T: Copy + Default>(values: &[T], (head, width): (usize, usize), way: Turn) -> Vec<T> {
    let (half, size) = (head / 2, head * width);
    let mut turned = vec![T::default(); values.len()];
    for (head, out) in values.chunks_exact(size).zip(turned.chunks_exact_mut(size)) {
        for row in 0..half {
            for part in 0..2 {
                let (half_row, neighbour) = (part * half + row, 2 * row + part);
                let (from, to) = match way {
                    Turn::ToNeighbours => (half_row, neighbour),
                    Turn::ToHalves => (neighbour, half_row),
                };
                out[to * width..][..width].copy_from_slice(&head[from * width..][..width]);
            }
        }
    }
    turned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_neighbours_in_every_head_and_halves_again() {
        // Two heads of four rows of one number.
        let halves = [0.0, 1.0, 2.0, 3.0, 10.0, 11.0, 12.0, 13.0];
        let neighbours = [0.0, 2.0, 1.0, 3.0, 10.0, 12.0, 11.0, 13.0];
        assert_eq!(turn(&halves, (4, 1), Turn::ToNeighbours), neighbours);
        assert_eq!(turn(&neighbours, (4, 1), Turn::ToHalves), halves);
        // One head of two rows of two numbers stays as it is.
        assert_eq!(turn(&[1.0, 2.0, 3.0, 4.0], (2, 2), Turn::ToNeighbours), [1.0, 2.0, 3.0, 4.0]);
    }
}
