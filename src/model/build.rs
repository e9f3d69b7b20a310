//! From a model directory to a [`Model`]: every weight checked, none missing, none left over.

mod experts;
mod fill;
mod frozen;
mod linears;
mod loaded;
mod read;
mod room;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{Device, FloatDType};

use self::fill::Fill;
pub use self::frozen::{FrozenWeights, NewHead, Streamed};
use self::linears::digest_of;
pub use self::loaded::Loaded;
use self::read::{LoadedTensor, LoadedWeights};
pub use self::room::{check_room, refuse_random};
use crate::device::{Arithmetic, ComputeConfig};
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::files::Digest;
use crate::model::inspect::is_buffer;
use crate::model::{
    Linear, Model, ModelJson, Parameter, SCORE, VocabularyMatrix, families, frozen_format,
    inspect_for,
};
use crate::ops::{from_bf16, from_vec, wide};
use crate::random::Stream;
use crate::weights::bitsandbytes::{QuantState, state_of};
use crate::weights::formats::{self, WeightFormat};
use crate::weights::{Element, RawNumbers, SpillFile};

/// Names shown when many tensors are left over.
const NAMES_SHOWN: usize = 5;

/// Where the first values come from.
#[derive(Debug, Clone, Copy)]
pub enum Init {
    /// The safetensors files of the model directory.
    Pretrained,
    /// Normal numbers with `initializer_range` of `config.json`, as transformers draws them.
    Random(Stream),
}

/// Reads a model directory onto a device, to be computed with in 32 bits and without limits.
pub fn load(directory: &Path, init: Init, device: &Device) -> Result<Loaded> {
    load_for(directory, init, device, ComputeConfig::default(), false)
}

/// Reads a model directory onto a device that has limits. Matrices that are `frozen` for good are
/// kept in 16 bits if products take them so, or in the format that was chosen.
///
/// # Errors
/// When a weight is wrong, or larger than the device takes.
pub fn load_for<'a>(
    directory: &Path,
    init: Init,
    device: &Device,
    computing: ComputeConfig,
    frozen: impl Into<FrozenWeights<'a>>,
) -> Result<Loaded> {
    // Weights stay for good: a GPU has them apart from what comes and goes, without gaps.
    device.memory_persistent_allocations((init, frozen.into()), |(init, frozen)| {
        load_onto(directory, init, device, computing, frozen)
    })
}

fn load_onto(
    directory: &Path,
    init: Init,
    device: &Device,
    computing: ComputeConfig,
    frozen: FrozenWeights,
) -> Result<Loaded> {
    let disk = match frozen.on_disk {
        Some((which, folder)) if frozen.frozen && *device == Device::flex() => {
            Some((which, SpillFile::within(folder)?))
        }
        _ => None,
    };
    let configured = |mut source: WeightSource| {
        source.computing = ComputeConfig { arithmetic: Arithmetic::F32, ..computing };
        if frozen.frozen {
            source.linears = frozen.linears;
            source.keeps_codes = frozen.linears.is_none_or(formats::makes_codes);
            source.keeps_blocks = frozen.linears.is_none();
            source.disk.clone_from(&disk);
            let on_cpu = *device == Device::flex() && !frozen.as_on_gpu;
            source.format = frozen_format(on_cpu, computing.arithmetic);
            source.bfloat16 = computing.keeps_bfloat16(*device == Device::flex());
        }
        source
    };
    let (config, description, note, mut source, mut shards) = match init {
        Init::Pretrained => {
            let found = inspect_for(directory, frozen.head.map(|head| head.labels))?;
            let note = found.note();
            let mut source = configured(WeightSource::held(BTreeMap::new(), device));
            source.stored = found.headers.coded().clone();
            let range = found.config.positive("initializer_range", 0.02)?;
            source.head = frozen.head.map(|head| (head.stream, range, found.description.element));
            let shards = source.read_shards(directory, &found.description)?;
            (found.config, found.description, note, source, shards)
        }
        Init::Random(stream) => {
            let mut config = ModelJson::read(directory)?;
            frozen.head.map_or(Ok(()), |head| config.score(head.labels))?;
            let description = families::describe(&config)?;
            refuse_random(&description)?;
            if *device == Device::flex() {
                check_room(&description)?;
            }
            let range = config.positive("initializer_range", 0.02)?;
            let source = WeightSource::random(stream, range, description.element, device);
            let note = config.own_code_note();
            (config, description, note, configured(source), Vec::new())
        }
    };
    let mut files = vec![config.file.clone()];
    files.append(&mut shards);
    let mut model = Model::build(description, &mut source)?;
    model.computing.arithmetic = computing.arithmetic;
    let (quantised, in_blocks) = (digest_of(&source.coded), digest_of(&source.in_files));
    let elements = source.finish(directory)?;
    Ok(Loaded { model, config, files, elements, quantised, in_blocks, note })
}

/// Hands out weights by name, and remembers what was asked for.
pub struct WeightSource {
    held: BTreeMap<String, LoadedTensor>,
    random: Option<(Stream, f64, Element)>,
    /// What a head that scores labels is drawn from, where there is none.
    head: Option<(Stream, f64, Element)>,
    elements: BTreeMap<String, Element>,
    /// Matrices of files that are coded there.
    stored: BTreeMap<String, QuantState>,
    /// Digests of the matrices that were coded, by path; and of those that files have in blocks.
    coded: BTreeMap<String, Digest>,
    in_files: BTreeMap<String, Digest>,
    device: Device,
    computing: ComputeConfig,
    /// In which format matrices are kept, if not in 32 bits.
    format: Option<FloatDType>,
    /// Whether matrices that files have in bfloat16 stay as they are.
    bfloat16: bool,
    /// How matrices of linear layers are kept, if not as the others.
    linears: Option<&'static dyn WeightFormat>,
    /// Whether codes of files stay codes, and matrices in blocks stay in blocks.
    keeps_codes: bool,
    keeps_blocks: bool,
    /// Where frozen matrices are left, if not in memory.
    disk: Option<(Streamed, Arc<SpillFile>)>,
}

impl WeightSource {
    fn held(held: BTreeMap<String, LoadedTensor>, device: &Device) -> Self {
        Self {
            held,
            random: None,
            head: None,
            elements: BTreeMap::new(),
            stored: BTreeMap::new(),
            coded: BTreeMap::new(),
            in_files: BTreeMap::new(),
            device: device.clone(),
            computing: ComputeConfig::default(),
            format: None,
            bfloat16: false,
            linears: None,
            keeps_codes: true,
            keeps_blocks: false,
            disk: None,
        }
    }

    /// A matrix on the device, in the format in which it is kept there.
    fn kept(&self, numbers: RawNumbers, shape: [usize; 2]) -> Parameter<2> {
        Parameter::frozen(match (numbers, self.format) {
            (RawNumbers::BF16(values), _) if self.bfloat16 => {
                from_bf16(values, shape, &self.device)
            }
            (numbers, None) => from_vec(numbers.into_f32(), shape, &self.device),
            (numbers, Some(format)) => {
                let rounded = from_vec(numbers.into_f32(), shape, &self.device).cast(format);
                // The CPU keeps none in f16: they are rounded.
                let stays = format != FloatDType::F16 || self.device != Device::flex();
                if stays { rounded } else { wide(rounded) }
            }
        })
    }

    /// A source that draws weights instead of reading them.
    pub fn random(stream: Stream, range: f64, element: Element, device: &Device) -> Self {
        Self { random: Some((stream, range, element)), ..Self::held(BTreeMap::new(), device) }
    }

    /// Where the weights go.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// How the model will be computed with.
    pub fn computing(&self) -> ComputeConfig {
        self.computing
    }

    /// A matrix with a row per token, in pieces that the device takes.
    pub fn table(
        &mut self,
        name: &'static str,
        [rows, width]: [usize; 2],
    ) -> Result<VocabularyMatrix> {
        let shape = [rows, width];
        let drawn = self.random.or(self.head.filter(|_| name == SCORE));
        let pieces = match drawn.filter(|_| !self.held.contains_key(name)) {
            Some(of) => {
                let numbers = self.drawn(name, rows * width, Fill::Normal, of);
                self.pieces(numbers, shape)
            }
            None => match self.asked(name, &shape)? {
                LoadedWeights::Table(pieces) => pieces,
                LoadedWeights::Numbers(numbers) => self.pieces(numbers, shape),
                LoadedWeights::Blocks(blocks) if self.device == Device::flex() => {
                    return self.coded_table(name, blocks.matrix(0, rows));
                }
                LoadedWeights::Coded(codes) => return self.coded_table(name, codes),
                LoadedWeights::Blocks(blocks) => {
                    self.pieces(RawNumbers::F32(blocks.values()), shape)
                }
                LoadedWeights::Linear(_) | LoadedWeights::Stored(..) => {
                    unreachable!("tables are no linear layers, and what was asked for is in memory")
                }
            },
        };
        Ok(VocabularyMatrix::new(name, pieces))
    }

    /// A matrix in pieces that the device takes.
    fn pieces(&self, numbers: RawNumbers, [rows, width]: [usize; 2]) -> Vec<Parameter<2>> {
        let limit = self.computing.limits.rows(width);
        if rows <= limit {
            return vec![self.kept(numbers, [rows, width])];
        }
        let parts = numbers.chunks(limit.saturating_mul(width).max(1)).into_iter();
        let pieces = parts.map(|part| {
            let rows = part.len() / width;
            self.kept(part, [rows, width])
        });
        pieces.collect()
    }

    /// A matrix `[out, in]`.
    pub fn matrix(&mut self, name: &str, shape: [usize; 2]) -> Result<Parameter<2>> {
        let numbers = self.numbers(name, shape)?;
        Ok(self.kept(numbers, shape))
    }

    /// Those of a matrix that the device takes.
    fn numbers(&mut self, name: &str, shape: [usize; 2]) -> Result<RawNumbers> {
        let limits = self.computing.limits;
        if !limits.holds(shape.iter().product::<usize>() as u64) {
            let what = format!("`{name}` is larger than the device takes at once");
            let most = bytes(limits.tensor_bytes);
            return Err(Error::model(what).because(format!("{shape:?} in 32 bits exceed {most}")));
        }
        self.take(name, &shape, Fill::Normal)
    }

    /// A number that nothing trains; one when drawn.
    pub fn number(&mut self, name: &str) -> Result<f32> {
        self.take(name, &[1], Fill::Ones).map(|numbers| numbers.into_f32()[0])
    }

    /// The gain of a norm; ones when drawn.
    pub fn gain(&mut self, name: &str, length: usize) -> Result<Parameter<1>> {
        self.vector(name, length, Fill::Ones)
    }

    /// A vector that is zero when drawn.
    pub fn zeros(&mut self, name: &str, length: usize) -> Result<Parameter<1>> {
        self.vector(name, length, Fill::Zeros)
    }

    /// The weights of a convolution of each channel by itself, `[channels, width]`, in 32 bits;
    /// files have them as `[channels, 1, width]`.
    pub fn convolution(
        &mut self,
        name: &str,
        [channels, width]: [usize; 2],
    ) -> Result<Parameter<2>> {
        let values = self.take(name, &[channels, 1, width], Fill::Normal)?.into_f32();
        Ok(Parameter::frozen(from_vec(values, [channels, width], &self.device)))
    }

    /// Logarithms of rates of decay; of rates between 0.01 and 16 when drawn.
    pub fn log_rates(&mut self, name: &str, length: usize) -> Result<Parameter<1>> {
        self.vector(name, length, Fill::LogRates)
    }

    /// A linear layer `[out, in]` under a module path; biases are zero when drawn.
    pub fn linear(&mut self, path: &str, shape: [usize; 2], bias: bool) -> Result<Linear> {
        let weight = self.linear_matrix(&format!("{path}.weight"), shape)?;
        let bias = if bias {
            Some(self.vector(&format!("{path}.bias"), shape[0], Fill::Zeros)?)
        } else {
            None
        };
        Ok(Linear { weight, bias, adapter: None })
    }

    /// A tensor that may be there and is not used.
    pub fn ignore(&mut self, name: &str) {
        self.held.remove(name);
    }

    fn vector(&mut self, name: &str, length: usize, fill: Fill) -> Result<Parameter<1>> {
        let values = self.take(name, &[length], fill)?.into_f32();
        Ok(Parameter::frozen(from_vec(values, [length], &self.device)))
    }

    fn take(&mut self, name: &str, shape: &[usize], fill: Fill) -> Result<RawNumbers> {
        let count = shape.iter().product();
        if let Some(random) = self.random {
            return Ok(self.drawn(name, count, fill, random));
        }
        match self.asked(name, shape)? {
            LoadedWeights::Numbers(numbers) => Ok(numbers),
            LoadedWeights::Blocks(blocks) => Ok(RawNumbers::F32(blocks.values())),
            _ => unreachable!("matrices of their kind are asked for as such"),
        }
    }

    fn drawn(
        &mut self,
        name: &str,
        count: usize,
        fill: Fill,
        (stream, range, element): (Stream, f64, Element),
    ) -> RawNumbers {
        self.elements.insert(name.to_owned(), element);
        RawNumbers::F32(fill.values(count, stream.site(name), range))
    }

    /// What was loaded under a name.
    fn asked(&mut self, name: &str, shape: &[usize]) -> Result<LoadedWeights> {
        let Some(held) = self.held.remove(name) else {
            // Nothing is made in its place: it may be of any size.
            return Err(Error::weights(format!("the weights lack `{name}`")));
        };
        if held.shape != shape {
            return Err(Error::model(format!(
                "tensor `{name}` has shape {:?}, but `config.json` makes it {shape:?}",
                held.shape
            )));
        }
        self.elements.insert(name.to_owned(), held.element);
        Ok(held.weights.in_memory())
    }

    fn finish(self, directory: &Path) -> Result<BTreeMap<String, Element>> {
        let used = |name: &String| is_buffer(name) || state_of(name).is_some();
        let left: Vec<_> = self.held.into_keys().filter(|name| !used(name)).collect();
        if !left.is_empty() {
            let shown = left[..left.len().min(NAMES_SHOWN)].join("`, `");
            let what = format!("the model does not use the weights `{shown}`");
            return Err(Error::model(what)
                .at(directory)
                .hint("`config.json` and the weights belong to different models"));
        }
        Ok(self.elements)
    }
}
