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
        "lfm2",
        &[
            ("operator_norm", "attn_norm"),
            ("ffn_norm", "ffn_norm"),
            ("self_attn.q_layernorm", "attn_q_norm"),
            ("self_attn.k_layernorm", "attn_k_norm"),
            ("self_attn.out_proj", "attn_output"),
            ("feed_forward.w1", "ffn_gate"),
            ("feed_forward.w2", "ffn_down"),
            ("feed_forward.w3", "ffn_up"),
            ("conv.in_proj", "shortconv.in_proj"),
            ("conv.out_proj", "shortconv.out_proj"),
            ("conv.conv", "shortconv.conv"),
        ],
    ),
    (
        "olmo2",
        &[
            ("post_attention_layernorm", "post_attention_norm"),
            ("post_feedforward_layernorm", "post_ffw_norm"),
        ],
    ),
    ("phi3", &[("self_attn.qkv_proj", "attn_qkv"), ("mlp.gate_up_proj", "ffn_up")]),
    ("qwen3moe", &[("mlp.gate", "ffn_gate_inp")]),
];

const NORMS_ABOUT: &[(&str, &str)] = &[
    ("post_attention_layernorm", "post_attention_norm"),
    ("pre_feedforward_layernorm", "ffn_norm"),
    ("post_feedforward_layernorm", "post_ffw_norm"),
];

/// Names inside a decoder layer of an architecture: those of Hugging Face, llama.cpp's.
fn of_layer(architecture: &str) -> impl Iterator<Item = (&'static str, &'static str)> {
    let own = OWN.iter().find(|(name, _)| *name == architecture).map_or(&[][..], |(_, own)| own);
    own.iter().chain(LAYER).copied()
}

/// What llama.cpp calls a module of a decoder layer.
pub fn to_gguf(architecture: &str, module: &str) -> Option<&'static str> {
    of_layer(architecture).find(|(ours, _)| *ours == module).map(|(_, theirs)| theirs)
}

/// The module of a decoder layer that llama.cpp calls so.
pub fn from_gguf(architecture: &str, module: &str) -> Option<&'static str> {
    of_layer(architecture).find(|(_, theirs)| *theirs == module).map(|(ours, _)| ours)
}

/// What llama.cpp calls the norm after the last layer.
pub fn last_norm(architecture: &str) -> &'static str {
    if architecture == "lfm2" { "token_embd_norm" } else { "output_norm" }
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
pub fn turn(values: &[f32], (head, width): (usize, usize), way: Turn) -> Vec<f32> {
    let (half, size) = (head / 2, head * width);
    let mut turned = vec![0.0; values.len()];
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
