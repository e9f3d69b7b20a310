//! What becomes of the tensors of a file: their names in a checkpoint, and what is done to their
//! numbers.

use std::collections::BTreeMap;

use serde_json::Value;

use super::architectures::GgufArchitecture;
use super::codes::{BLOCK_BYTES, CODE_BYTES, CODES, from_ggml};
use super::file::GgufTensor;
use super::heads::ValueHeads;
use super::names::{TURNED, Turn, last_norm, outside_from_gguf, tensor_from_gguf, turn};

/// What becomes of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorTarget {
    /// Its name in a checkpoint of Hugging Face.
    pub name: String,
    /// What is done to its numbers.
    pub change: TensorChange,
    /// Which of the matrices it is that are one tensor in the file, and how many these are.
    pub part: Option<[usize; 2]>,
    /// Which of the tensors of the file it is that one is made of, and how many these are.
    pub joined: [usize; 2],
}

/// What is done to the numbers of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorChange {
    /// Nothing.
    None,
    /// The rows of heads of this width are turned back.
    Turned(usize),
    /// One is taken away.
    MinusOne,
    /// The logarithms of rates of decay.
    Logarithm(ValueHeads),
    /// Rows of heads of values lie elsewhere.
    Rows(ValueHeads),
    /// The same of columns.
    Columns(ValueHeads),
    /// A convolution of each channel by itself gets the one input that it has.
    Convolution(Option<ValueHeads>),
    /// A vector is a matrix of one row.
    Row,
    /// Matrices of experts are transposed; outputs of several alternate.
    Transposed,
    /// Biases of experts, which alternate.
    Alternating,
    /// The codes of MXFP4.
    Codes,
    /// Its scales.
    Scales,
}

/// What the matrices of all experts are called.
const OF_EXPERTS: [&str; 4] = ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_up_exps"];
const MXFP4: &str = "MXFP4";

impl TensorTarget {
    fn same(name: String) -> Self {
        Self { name, change: TensorChange::None, part: None, joined: [0, 1] }
    }

    /// Its dimensions, of those that the tensors of the file have.
    pub fn shape(&self, shape: &[usize]) -> Vec<usize> {
        let count = self.joined[1];
        match (self.change, shape) {
            (TensorChange::Convolution(_), &[channels, width]) => vec![channels, 1, width],
            (TensorChange::Row, &[width]) => vec![1, width],
            (TensorChange::Transposed, &[experts, outputs, inputs]) => {
                vec![experts, inputs, count * outputs]
            }
            (TensorChange::Alternating, &[experts, outputs]) => vec![experts, count * outputs],
            (TensorChange::Scales, &[experts, outputs, inputs]) => {
                vec![experts, count * outputs, inputs / CODES]
            }
            (TensorChange::Codes, &[experts, outputs, inputs]) => {
                vec![experts, count * outputs, inputs / CODES, CODE_BYTES]
            }
            _ => shape.to_vec(),
        }
    }

    /// Why it cannot be made.
    pub fn no_heads(&self) -> String {
        format!("`{}` has no whole heads", self.name)
    }

    /// Whether it is made of bytes, and not of numbers.
    pub fn is_coded(&self) -> bool {
        matches!(self.change, TensorChange::Codes | TensorChange::Scales)
    }

    /// Whether rows of one or more tensors alternate in it, or are columns.
    pub fn is_joined(&self) -> bool {
        matches!(self.change, TensorChange::Transposed | TensorChange::Alternating)
    }

    /// Whether its rows are those of the tensor of the file, in whatever order.
    pub fn keeps_rows(&self) -> bool {
        let kept = matches!(
            self.change,
            TensorChange::None | TensorChange::Turned(_) | TensorChange::Rows(_)
        );
        kept && self.joined[1] == 1
    }

    /// Its rows, of those of the file, in each of which so many numbers or bytes are; none where
    /// heads are not whole, or rows change.
    pub fn rows<T: Copy + Default>(&self, all: Vec<T>, width: usize) -> Option<Vec<T>> {
        match self.change {
            TensorChange::None => Some(all),
            TensorChange::Turned(head) => {
                let size = head.checked_mul(width)?;
                let whole = size > 0 && all.len().is_multiple_of(size) && head % 2 == 0;
                whole.then(|| turn(&all, (head, width), Turn::ToHalves))
            }
            TensorChange::Rows(heads) => Some(heads.rows_back(&all, width)),
            _ => None,
        }
    }

    /// Its numbers, of those of a tensor of the file with these dimensions; none where heads are
    /// not whole.
    pub fn of_one(&self, mut values: Vec<f32>, shape: &[usize]) -> Option<Vec<f32>> {
        let width: usize = shape.iter().skip(1).product();
        Some(match self.change {
            TensorChange::Turned(_) | TensorChange::Rows(_) => return self.rows(values, width),
            TensorChange::MinusOne => {
                values.iter_mut().for_each(|value| *value -= 1.0);
                values
            }
            TensorChange::Logarithm(heads) => {
                values.iter_mut().for_each(|value| *value = (-*value).ln());
                heads.rows_back(&values, 1)
            }
            TensorChange::Convolution(Some(heads)) => heads.rows_back(&values, width),
            TensorChange::Columns(heads) => heads.columns_back(&values, width),
            _ => values,
        })
    }

    /// Its numbers, of those of several tensors, the rows of which alternate.
    pub fn of_several(&self, sources: &[Vec<f32>], shape: &[usize]) -> Vec<f32> {
        let (outputs, inputs) = (shape[1], shape.get(2).copied().unwrap_or(1));
        let count = outputs * inputs;
        let mut all = Vec::with_capacity(sources.len() * sources[0].len());
        for expert in 0..shape[0] {
            let value = |row: usize, input: usize| {
                let source = &sources[row % sources.len()];
                source[expert * count + row / sources.len() * inputs + input]
            };
            for input in 0..inputs {
                all.extend((0..outputs * sources.len()).map(|row| value(row, input)));
            }
        }
        all
    }

    /// Its bytes as numbers, of the blocks of several tensors, the rows of which alternate.
    pub fn of_codes(&self, sources: &[Vec<u8>], shape: &[usize]) -> Vec<f32> {
        let (rows, size) = (shape[0] * shape[1], shape[2] / CODES * BLOCK_BYTES);
        let mut all = Vec::new();
        for row in 0..rows {
            for source in sources {
                for block in source[row * size..(row + 1) * size].chunks_exact(BLOCK_BYTES) {
                    match self.change {
                        TensorChange::Scales => all.push(f32::from(block[0])),
                        _ => all.extend(from_ggml(&block[1..]).map(f32::from)),
                    }
                }
            }
        }
        all
    }
}

fn size(config: &Value, key: &str) -> Option<usize> {
    usize::try_from(config[key].as_u64()?).ok()
}

/// Heads of values behind so many rows, with so many each.
fn value_heads(config: &Value, before: usize, rows: usize) -> Option<ValueHeads> {
    let keys = size(config, "linear_num_key_heads").filter(|keys| *keys > 0)?;
    let per_key = size(config, "linear_num_value_heads")? / keys;
    Some(ValueHeads { before, keys, per_key, rows })
}

impl GgufArchitecture {
    /// What becomes of a tensor of a model with this `config.json`: one tensor, one for each
    /// expert, or none, if it is of layers that guess further tokens.
    ///
    /// # Errors
    /// When it is not known.
    pub fn targets(
        &self,
        name: &str,
        tensors: &BTreeMap<String, GgufTensor>,
        config: &Value,
    ) -> Result<Vec<TensorTarget>, String> {
        let last_norm = format!("{}.weight", last_norm(self.name));
        let known = match name {
            "token_embd.weight" => Some("embed_tokens.weight"),
            _ if name == last_norm && self.name.starts_with("lfm2") => {
                Some("embedding_norm.weight")
            }
            _ if name == last_norm => Some("norm.weight"),
            _ => outside_from_gguf(self.name, name),
        };
        if name == "output.weight" {
            return Ok(vec![TensorTarget::same("lm_head.weight".to_owned())]);
        }
        let found = match known {
            Some(known) => {
                let target = TensorTarget::same(format!("model.{known}"));
                Some(vec![TensorTarget { change: self.gain(name), ..target }])
            }
            None => self.of_layer(name, tensors, config),
        };
        found.ok_or_else(|| format!("models of its architecture have no tensor `{name}`"))
    }

    /// Files of some families have one more than the weights of norms.
    fn gain(&self, name: &str) -> TensorChange {
        let more = matches!(self.name, "gemma2" | "gemma3" | "qwen35" | "qwen35moe");
        match more && name.ends_with("norm.weight") && !name.ends_with("ssm_norm.weight") {
            true => TensorChange::MinusOne,
            false => TensorChange::None,
        }
    }

    fn of_layer(
        &self,
        name: &str,
        tensors: &BTreeMap<String, GgufTensor>,
        config: &Value,
    ) -> Option<Vec<TensorTarget>> {
        let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
        let layer: u64 = layer.parse().ok()?;
        let (layers, further) = (config["num_hidden_layers"].as_u64()?, "mtp_num_hidden_layers");
        if layer >= layers {
            let known = layer < layers + config[further].as_u64().unwrap_or(0);
            return known.then(Vec::new);
        }
        let path = format!("model.layers.{layer}");
        let (module, part) = rest.rsplit_once('.').unwrap_or((rest, ""));
        let of_experts = OF_EXPERTS.iter().position(|theirs| *theirs == module);
        if let Some(which) = of_experts.filter(|_| matches!(part, "weight" | "bias")) {
            let coded = tensors.get(name)?.kind.name == MXFP4;
            let fused = format!("blk.{layer}.{}.weight", OF_EXPERTS[3]);
            return match self.name {
                "gpt-oss" => of_gpt_oss(&format!("{path}.mlp.experts"), which, part, coded),
                _ => self.of_experts(&path, which, tensors.contains_key(&fused), config),
            };
        }
        let ours = tensor_from_gguf(self.name, rest)?;
        let change = self.change(&ours, name, config)?;
        Some(vec![TensorTarget { change, ..TensorTarget::same(format!("{path}.{ours}")) }])
    }

    /// What is done to the numbers of a tensor of a layer.
    fn change(&self, ours: &str, name: &str, config: &Value) -> Option<TensorChange> {
        let module = ours.rsplit_once('.').map_or(ours, |(module, _)| module);
        if self.turned && TURNED.contains(&module) {
            return size(config, "head_dim").map(TensorChange::Turned);
        }
        let heads = |before, rows| value_heads(config, before, rows);
        let width = || size(config, "linear_value_head_dim");
        let joint = || {
            let keys = size(config, "linear_num_key_heads")? * size(config, "linear_key_head_dim")?;
            heads(2 * keys, width()?)
        };
        Some(match ours {
            "conv.conv.weight" => TensorChange::Convolution(None),
            "mlp.shared_expert_gate.weight" => TensorChange::Row,
            "linear_attn.conv1d.weight" => TensorChange::Convolution(Some(joint()?)),
            "linear_attn.in_proj_qkv.weight" => TensorChange::Rows(joint()?),
            "linear_attn.in_proj_z.weight" => TensorChange::Rows(heads(0, width()?)?),
            "linear_attn.out_proj.weight" => TensorChange::Columns(heads(0, width()?)?),
            "linear_attn.A_log" => TensorChange::Logarithm(heads(0, 1)?),
            "linear_attn.dt_bias"
            | "linear_attn.in_proj_a.weight"
            | "linear_attn.in_proj_b.weight" => TensorChange::Rows(heads(0, 1)?),
            _ => self.gain(name),
        })
    }

    /// Matrices of experts: one tensor for all where gate and up are one, else one for each.
    fn of_experts(
        &self,
        path: &str,
        which: usize,
        fused: bool,
        config: &Value,
    ) -> Option<Vec<TensorTarget>> {
        let (module, names) = match self.name {
            "lfm2moe" => ("feed_forward.experts", ["w1", "w3", "w2"]),
            "gemma4" => ("experts", ["gate_proj", "up_proj", "down_proj"]),
            _ => ("mlp.experts", ["gate_proj", "up_proj", "down_proj"]),
        };
        if fused {
            let name = match which {
                2 => "down_proj",
                3 => "gate_up_proj",
                _ => return None,
            };
            return Some(vec![TensorTarget::same(format!("{path}.{module}.{name}"))]);
        }
        let (count, name) = (size(config, "num_experts")?, names.get(which)?);
        let expert = |number| {
            let target = TensorTarget::same(format!("{path}.{module}.{number}.{name}.weight"));
            TensorTarget { part: Some([number, count]), ..target }
        };
        Some((0..count).map(expert).collect())
    }
}

/// Matrices and biases of the experts of gpt-oss, of which gate and up are one tensor with outputs
/// that alternate.
fn of_gpt_oss(module: &str, which: usize, part: &str, coded: bool) -> Option<Vec<TensorTarget>> {
    let (name, joined) = match which {
        0 | 1 => ("gate_up_proj", [which, 2]),
        2 => ("down_proj", [0, 1]),
        _ => return None,
    };
    let target = |end: &str, change| TensorTarget {
        change,
        joined,
        ..TensorTarget::same(format!("{module}.{name}{end}"))
    };
    Some(match (part, coded) {
        ("bias", _) => vec![target("_bias", TensorChange::Alternating)],
        (_, false) => vec![target("", TensorChange::Transposed)],
        (_, true) => {
            vec![target("_blocks", TensorChange::Codes), target("_scales", TensorChange::Scales)]
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gate_and_up_alternate_in_what_is_joined() {
        // One expert with two outputs each and three inputs: 10 · out + in, up 100 more.
        let rows = |from: u8| -> Vec<f32> {
            (0..2).flat_map(|out| (0..3).map(move |i| f32::from(from + 10 * out + i))).collect()
        };
        let target = of_gpt_oss("m", 0, "weight", false).unwrap().remove(0);
        assert_eq!(target.shape(&[1, 2, 3]), [1, 3, 4]);
        let joined = target.of_several(&[rows(0), rows(100)], &[1, 2, 3]);
        assert_eq!(joined[..8], [0.0, 100.0, 10.0, 110.0, 1.0, 101.0, 11.0, 111.0]);
        let biases = of_gpt_oss("m", 1, "bias", true).unwrap().remove(0);
        let joined = biases.of_several(&[vec![1.0, 2.0], vec![3.0, 4.0]], &[1, 2]);
        assert_eq!(
            (biases.name.as_str(), joined),
            ("m.gate_up_proj_bias", vec![1.0, 3.0, 2.0, 4.0])
        );
    }

    #[test]
    fn codes_and_scales_are_taken_apart() {
        let block = |scale: u8, code: u8| [&[scale][..], &[code * 0x11; 16]].concat();
        let [gate, up] = [[block(1, 2), block(3, 4)].concat(), [block(5, 6), block(7, 8)].concat()];
        let targets = of_gpt_oss("m", 0, "weight", true).unwrap();
        let shape = [1, 2, 32];
        assert_eq!(targets[1].shape(&shape), [1, 4, 1]);
        let sources = [gate, up];
        assert_eq!(targets[1].of_codes(&sources, &shape), [1.0, 5.0, 3.0, 7.0]);
        let codes = targets[0].of_codes(&sources, &shape);
        assert_eq!((codes.len(), codes[0], codes[16]), (64, 34.0, 102.0));
    }
}
