//! Matrices that a checkpoint has in four bits, as bitsandbytes and transformers write them: codes
//! under the name of the weight, scales and what the codes stand for beside it. Reference:
//! bitsandbytes 0.50.2, `QuantState.as_dict` with `packed`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::blockwise::{Blockwise, NestedScales, Scales};
use crate::error::{Context, Error, ErrorCode, Result};
use crate::files::parse_json;
use crate::weights::{Element, RawNumbers};

/// What the name of the settings of a matrix ends with, before the name of its code book.
const STATE: &str = ".quant_state.bitsandbytes__";
/// The other parts that stand beside the codes.
const PARTS: [&str; 4] = [ABSMAX, QUANT_MAP, NESTED_ABSMAX, NESTED_MAP];
const ABSMAX: &str = ".absmax";
const QUANT_MAP: &str = ".quant_map";
const NESTED_ABSMAX: &str = ".nested_absmax";
const NESTED_MAP: &str = ".nested_quant_map";
/// What four bits stand for, and what eight do.
const BOOK: usize = 16;
const MAP: usize = 256;

/// Whether a tensor of this name says how a matrix is coded, and the name of that matrix.
pub fn state_of(name: &str) -> Option<&str> {
    name.find(STATE).map(|end| &name[..end])
}

/// The matrix of which a tensor is a part besides its codes.
pub fn part_of(name: &str) -> Option<&str> {
    let of_suffix = |suffix: &&str| name.strip_suffix(*suffix);
    state_of(name).or_else(|| PARTS.iter().find_map(of_suffix))
}

/// How a matrix is coded.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantState {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Numbers of a block.
    block: usize,
    /// Scales of a block and their mean, if they have eight bits.
    nested: Option<(usize, f32)>,
}

impl QuantState {
    /// Reads the JSON of the tensor that says it.
    ///
    /// # Errors
    /// When it is none, or does not describe a matrix in blocks.
    pub fn parse(name: &str, bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| Error::weights(format!("`{name}` has no usable `{what}`"));
        let json = parse_json(bytes)
            .context_code(ErrorCode::Weights, format!("`{name}` cannot be read"))?;
        let size = |value: &Value| value.as_u64().and_then(|size| usize::try_from(size).ok());
        let block = |key: &str| size(&json[key]).filter(|size| *size > 0 && size % 2 == 0);
        let shape: Option<Vec<usize>> =
            json["shape"].as_array().and_then(|shape| shape.iter().map(size).collect());
        let Some(&[rows, columns]) = shape.as_deref() else { return Err(wrong("shape")) };
        if rows.checked_mul(columns).is_none_or(|count| count == 0) {
            return Err(wrong("shape"));
        }
        let nested = match json.get("nested_blocksize") {
            None => None,
            Some(_) => {
                let size = block("nested_blocksize").ok_or_else(|| wrong("nested_blocksize"))?;
                let offset = json["nested_offset"].as_f64().filter(|offset| offset.is_finite());
                #[expect(clippy::cast_possible_truncation)] // it was one in 32 bits
                let offset = offset.ok_or_else(|| wrong("nested_offset"))? as f32;
                Some((size, offset))
            }
        };
        let block = block("blocksize").ok_or_else(|| wrong("blocksize"))?;
        Ok(Self { shape: [rows, columns], block, nested })
    }

    fn numbers(&self) -> usize {
        self.shape[0] * self.shape[1]
    }

    /// Bytes of codes and scales in memory.
    pub fn bytes(&self) -> u64 {
        let scales = self.numbers().div_ceil(self.block);
        let scales = match self.nested {
            None => scales * size_of::<f32>(),
            Some((block, _)) => scales + (scales.div_ceil(block) + 1) * size_of::<f32>(),
        };
        (self.numbers().div_ceil(2) + scales) as u64
    }

    /// The parts of a matrix of this name: their names, number formats, and how many numbers they
    /// have.
    pub fn parts(&self, name: &str) -> Vec<(String, Element, usize)> {
        let (codes, floats) = (Element::U8, Element::F32);
        let scales = self.numbers().div_ceil(self.block);
        let mut parts = vec![("", codes, self.numbers().div_ceil(2)), (QUANT_MAP, floats, BOOK)];
        match self.nested {
            None => parts.push((ABSMAX, floats, scales)),
            Some((block, _)) => parts.extend([
                (ABSMAX, codes, scales),
                (NESTED_ABSMAX, floats, scales.div_ceil(block)),
                (NESTED_MAP, floats, MAP),
            ]),
        }
        let named = |(part, element, count)| (format!("{name}{part}"), element, count);
        parts.into_iter().map(named).collect()
    }

    /// The matrix of its parts: `take` gives the tensor of a name, once.
    ///
    /// # Errors
    /// When a part is missing, or has another length or number format than these settings make it.
    pub fn matrix(
        &self,
        name: &str,
        mut take: impl FnMut(&str) -> Result<RawNumbers>,
    ) -> Result<Blockwise> {
        let (mut codes, mut floats) = (BTreeMap::new(), BTreeMap::new());
        for (part, element, count) in self.parts(name) {
            let suffix = part[name.len()..].to_owned();
            match (take(&part)?, element) {
                (RawNumbers::U8(found), Element::U8) if found.len() == count => {
                    codes.insert(suffix, found);
                }
                (RawNumbers::F32(found), Element::F32) if found.len() == count => {
                    floats.insert(suffix, found);
                }
                (found, _) => {
                    return Err(misfit(&part, found.element(), found.len(), element, count));
                }
            }
        }
        let mut codes = |suffix: &str| codes.remove(suffix).unwrap_or_default();
        let mut floats = |suffix: &str| floats.remove(suffix).unwrap_or_default();
        let book = std::array::from_fn({
            let book = floats(QUANT_MAP);
            move |code| book[code]
        });
        let scales = match self.nested {
            None => Scales::Plain(floats(ABSMAX)),
            Some((block, offset)) => {
                let map = floats(NESTED_MAP);
                Scales::Nested(NestedScales {
                    codes: codes(ABSMAX),
                    block,
                    absmax: floats(NESTED_ABSMAX),
                    offset,
                    map: Arc::new(std::array::from_fn(|code| map[code])),
                })
            }
        };
        Ok(Blockwise::new(self.shape, codes(""), (self.block, scales), &book))
    }
}

/// A part that is not what the settings of its matrix make it.
pub(super) fn misfit(
    part: &str,
    element: Element,
    count: usize,
    wanted: Element,
    wanted_count: usize,
) -> Error {
    let (element, wanted) = (element.name(), wanted.name());
    Error::weights(format!("tensor `{part}` holds {count} numbers in {element}"))
        .because(format!("its `quant_state` makes it {wanted_count} in {wanted}"))
}
