//! In which format the frozen weights of a run are kept, and what memory that takes.

use crate::adapters::{self, Adapter};
use crate::config::RunConfig;
use crate::device::OpenedDevice;
use crate::engine::Workload;
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::files::Digest;
use crate::model::{Description, Streamed};
use crate::weights::formats::{self, WeightFormat};
use crate::weights::ggml::TensorType;
use crate::weights::packed_bytes;

/// Bytes of a number in 32 bits.
const F32: u64 = 4;

/// What a checkpoint has as codes is frozen for good.
///
/// # Errors
/// When every weight is to be trained.
fn refuse_codes(description: &Description, adapter: Option<&dyn Adapter>) -> Result<()> {
    match adapter {
        None if description.coded().0 > 0 => {
            let what = match description.coded_linears.is_empty() {
                true => "the experts of the base model are in MXFP4, which cannot be trained",
                false => "the base model is in four bits of bitsandbytes, which cannot be trained",
            };
            Err(Error::model(what).hint(format!(
                "add {}, or take the same model in bfloat16 as `model.base`",
                adapters::asked_by()
            )))
        }
        _ => Ok(()),
    }
}

/// Why codes and the start of an adapter do not go together.
fn changes_codes() -> Error {
    Error::adapter("the start of the adapter changes frozen weights, which are codes")
        .because("`lora.init_lora_weights` takes it out of them")
        .hint(
            "use `lora.init_lora_weights = \"default\"`, or a base and a `model.weight_format` in \
             16 or 32 bits",
        )
}

/// Numbers in the place of codes, where there are some.
fn dequantised(
    format: &'static dyn WeightFormat,
    description: &Description,
) -> Result<&'static dyn WeightFormat> {
    if description.coded().0 > 0 || !description.in_blocks.is_empty() {
        return Ok(format);
    }
    let what = format!("`model.weight_format = \"{}\"` is for a base in codes", format.name());
    Err(Error::model(what)
        .because("the files of this one hold numbers")
        .hint("leave `model.weight_format` out"))
}

/// The format that was chosen for frozen linear layers.
///
/// # Errors
/// When every weight is trained.
pub fn weight_format(
    config: &RunConfig,
    description: &Description,
    adapter: Option<&dyn Adapter>,
) -> Result<Option<&'static dyn WeightFormat>> {
    refuse_codes(description, adapter)?;
    match formats::chosen(&config.owned) {
        Some(format) if adapter.is_none() => {
            let name = format.name();
            let what = format!("`model.weight_format = \"{name}\"` keeps weights that are frozen");
            Err(Error::out_of_memory(what)
                .because("without an adapter every weight is trained")
                .hint(format!("add {}, or leave the format out", adapters::asked_by())))
        }
        Some(format) if !formats::makes_codes(format) => dequantised(format, description).map(Some),
        chosen if adapter.is_some_and(Adapter::changes_base) => match chosen {
            None if description.coded().0 > 0 => Err(changes_codes()),
            // Blocks of a file are numbers first, which the adapter takes its start out of.
            None if !description.in_blocks.is_empty() => Ok(Some(formats::DEQUANTISED)),
            None => Ok(None),
            Some(_) => Err(changes_codes()),
        },
        Some(_) if !description.coded_linears.is_empty() => {
            let what = "the linear layers of the base are in four bits of bitsandbytes already";
            Err(Error::model(what).hint("leave `model.weight_format` out"))
        }
        chosen => Ok(chosen),
    }
}

/// A workload with the frozen weights that stay codes in memory.
pub fn with_codes(
    format: Option<&'static dyn WeightFormat>,
    (description, adapter): (&Description, Option<&dyn Adapter>),
    opened: &OpenedDevice,
    work: Workload,
) -> Workload {
    let coded = coded(format, adapter, description, opened);
    let size = |(_, dims): &(String, [usize; 2])| (dims[0] * dims[1]) as u64;
    let dequantised = match opened.on_gpu() && coded.0 > 0 {
        // Gate and up, which are one for a product.
        true => 2 * description.matrices().map(size).max().unwrap_or_default(),
        false => 0,
    };
    Workload { coded, dequantised, ..work }
}

/// Numbers of frozen linear layers that are kept in a format of their own, and their bytes.
pub fn coded(
    format: Option<&'static dyn WeightFormat>,
    adapter: Option<&dyn Adapter>,
    description: &Description,
    opened: &OpenedDevice,
) -> (u64, u64) {
    let on_gpu = opened.on_gpu();
    let of_files = description.coded();
    let format = match format {
        Some(format) if formats::makes_codes(format) => format,
        Some(_) if on_gpu => return (0, 0),
        Some(_) => return wide(adapter, description),
        None if on_gpu => return in_files_on_gpu(adapter, description),
        None => return as_in_files(adapter, description),
    };
    let one = |dims: &[usize; 2]| ((dims[0] * dims[1]) as u64, format.bytes(*dims));
    // Routers are no linear layers to formats, and stay as they are.
    let experts = description.target_parameters.iter();
    let in_mxfp4 = description.experts().any(|(_, experts)| experts.coded().0 > 0);
    let experts = experts.filter(|target| target.stacked && !in_mxfp4);
    let experts = experts.flat_map(|target| &target.linears);
    let coded = &description.coded_linears;
    let linears = description.linears.iter().filter(|(path, _)| !coded.contains_key(path));
    let all = linears.chain(experts).map(|(_, dims)| one(dims));
    all.fold(of_files, |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Numbers that stay codes as in the files of the base in the memory of a GPU, and their bytes
/// there. What has a row for each token is dequantised.
fn in_files_on_gpu(adapter: Option<&dyn Adapter>, description: &Description) -> (u64, u64) {
    match adapter {
        Some(adapter) if adapter.changes_base() => return (0, 0),
        Some(_) => {}
        None => return description.coded(),
    }
    let blocks = description.in_blocks.iter().filter(|(path, _)| !is_table(path, description));
    let blocks = blocks.map(|(_, (kind, numbers))| (*numbers, packed_bytes(kind, *numbers)));
    blocks.fold(description.coded(), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

/// Whether a matrix has a row for each token.
fn is_table(path: &str, description: &Description) -> bool {
    description.tables().any(|(table, _)| table == path)
}

/// Numbers that stay codes as in the files of the base, or that the adapter changes, and their
/// bytes.
fn as_in_files(adapter: Option<&dyn Adapter>, description: &Description) -> (u64, u64) {
    let Some(adapter) = adapter else { return description.coded() };
    if adapter.changes_base() {
        return changed(adapter, description);
    }
    let (codes, tables) = (description.coded(), adapters::changed_tables(adapter, description));
    let tables = tables.unwrap_or_default();
    let trained = |path: &str| tables.contains(&path);
    let blocks = description.in_blocks(trained);
    (codes.0 + blocks.0, codes.1 + blocks.1)
}

/// What changes of a workload whose frozen weights are left on disk: numbers that are apart and the
/// bytes that they take in memory, those that are read of layers, and those of the largest tensor
/// on its way. Numbers and blocks of files go to disk as they are read.
///
/// # Errors
/// When the adapter names weights that are not there.
pub fn streamed(
    which: Streamed,
    format: Option<&'static dyn WeightFormat>,
    (adapter, description): (&dyn Adapter, &Description),
    work: Workload,
) -> Result<Workload> {
    let changed = adapters::changed_tables(adapter, description)?;
    let tables = description.tables().filter(|(path, _)| !changed.contains(path));
    let in_blocks = |path: &str| match format {
        None => description.in_blocks.get(path).map(|(kind, _)| *kind),
        Some(_) => None,
    };
    let work = match which {
        Streamed::Tables => work,
        Streamed::All => of_layers(format, description, in_blocks, work),
    };
    let (mut numbers, mut in_memory) = work.coded;
    for (path, dims) in tables {
        let count = (dims[0] * dims[1]) as u64;
        match in_blocks(path).map(|kind| kind.bytes_of(count)) {
            // They are among those that are apart already.
            Some(blocks) if which == Streamed::Tables => in_memory -= blocks,
            _ => numbers += count,
        }
    }
    Ok(Workload { coded: (numbers, in_memory), streamed: Some(which), ..work })
}

/// That of matrices of layers: scales stay in memory, and what is multiplied with is read.
fn of_layers(
    format: Option<&'static dyn WeightFormat>,
    description: &Description,
    in_blocks: impl Fn(&str) -> Option<&'static TensorType>,
    work: Workload,
) -> Workload {
    let codes = format.filter(|format| formats::makes_codes(*format));
    let in_file = description.element.size() as u64;
    let (of_files, bytes_of_files) = description.coded();
    // Of codes of files, two to a byte, what is more than these.
    let mut scales = if codes.is_none() { bytes_of_files - of_files / 2 } else { 0 };
    let (mut numbers, mut on_disk, mut loaded) = (0, 0, 0);
    for (path, dims) in description.matrices() {
        let count = (dims[0] * dims[1]) as u64;
        numbers += count;
        scales += codes.map_or(0, |codes| codes.scale_bytes(*dims));
        on_disk += match (codes, in_blocks(&format!("{path}.weight"))) {
            (Some(codes), _) => {
                // Codes are made of numbers in 32 bits.
                loaded = loaded.max(count * (in_file + F32) + codes.bytes(*dims));
                codes.bytes(*dims)
            }
            (None, Some(kind)) => kind.bytes_of(count),
            (None, None) => count * work.frozen_bytes(description),
        };
    }
    Workload { coded: (numbers, scales), on_disk: (numbers, on_disk), loaded, ..work }
}

/// The same where numbers take the place of codes.
fn wide(adapter: Option<&dyn Adapter>, description: &Description) -> (u64, u64) {
    match adapter {
        Some(adapter) if adapter.changes_base() => changed(adapter, description),
        _ => (0, 0),
    }
}

/// Numbers of weights that an adapter changes, which have 32 bits then, and the bytes of these.
fn changed(adapter: &dyn Adapter, description: &Description) -> (u64, u64) {
    let layers = adapter.layers(description).unwrap_or_default();
    let numbers = layers.iter().map(|(_, dims)| (dims[0] * dims[1]) as u64).sum();
    // And the factors that were taken out, of which a copy is kept.
    let factors = adapters::size(adapter, description).unwrap_or_default();
    (numbers, 4 * (numbers + factors))
}

/// How they are kept, for people; nothing where the arithmetic decides.
pub fn weights_line(
    format: Option<&'static dyn WeightFormat>,
    adapter: Option<&dyn Adapter>,
    description: &Description,
    opened: &OpenedDevice,
) -> Option<String> {
    let what = match format {
        Some(format) if !formats::makes_codes(format) => {
            return Some("codes of the base dequantised, as was asked for".to_owned());
        }
        Some(format) => format!("linear layers of the base in {}", format.name()),
        None => format!("{}, as its files have them", codes_of_files(description, adapter)?),
    };
    let (numbers, size) = coded(format, adapter, description, opened);
    if opened.on_gpu() && numbers == 0 {
        return Some(format!("{what}, and dequantised: no memory is saved on this device"));
    }
    let (size, wide) = (bytes(size), bytes(4 * numbers));
    let mut in_blocks = description.in_blocks.keys().filter(|_| format.is_none());
    let tables = opened.on_gpu() && in_blocks.any(|path| is_table(path, description));
    let more = if tables { "; embedding and output head dequantised" } else { "" };
    Some(format!("{what}: {size} in place of {wide} in f32{more}"))
}

/// What of the base is kept as its files have it, and in which codes.
fn codes_of_files(description: &Description, adapter: Option<&dyn Adapter>) -> Option<String> {
    if !description.coded_linears.is_empty() {
        return Some("linear layers of the base in 4 bits".to_owned());
    }
    let types = description.block_types().into_iter().map(|kind| kind.name);
    let names: Vec<&str> = types.filter(|_| adapter.is_some()).collect();
    (!names.is_empty()).then(|| format!("matrices of the base in {}", names.join(", ")))
}

/// What lineage tells of them: their formats, what shares a scale, and the digest of the codes.
/// `in_blocks` is the description of a base whose blocks are kept.
pub fn record(
    format: Option<&'static dyn WeightFormat>,
    in_blocks: Option<&Description>,
    digest: Option<Digest>,
) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut say = |name: String, blocks: String| {
        facts.push(("frozen weights", name));
        if !blocks.is_empty() {
            facts.push(("frozen weights share a scale", blocks));
        }
    };
    if let Some(format) = format {
        say(format.name().to_owned(), format.blocks().to_owned());
    }
    if let Some(description) = in_blocks {
        let types = description.block_types();
        let list = |text: fn(&TensorType) -> String| {
            types.iter().map(|kind| text(kind)).collect::<Vec<_>>().join(", ")
        };
        say(
            list(|kind| kind.name.to_owned()),
            list(|kind| format!("{} numbers in {} bytes ({})", kind.block, kind.bytes, kind.name)),
        );
    }
    facts.extend(digest.map(|digest| ("frozen weights sha256", digest.to_string())));
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::{Lora, LoraSettings};
    use crate::config::{DeviceChoice, Kernels};
    use crate::device::{self, Arithmetic};
    use crate::engine::{AdapterMemory, estimate};
    use crate::model::fixture::small_llama;

    fn card() -> OpenedDevice {
        OpenedDevice { backend: "wgpu", ..device::open(DeviceChoice::Cpu, 0).unwrap() }
    }

    fn work(format: Option<&str>, description: &Description) -> Workload {
        let adapter = Lora { settings: LoraSettings::new(4, 8.0) };
        let on_card = Workload::on(true, Arithmetic::MixedF16, Kernels::Fast);
        let work = Workload { adapted: true, ..on_card };
        let format = format.and_then(formats::named);
        with_codes(format, (description, Some(&adapter)), &card(), work)
    }

    /// Codes in place of numbers of 16 bits, and beside them the numbers of gate and up.
    #[test]
    fn a_card_is_planned_with_codes_and_the_numbers_of_one_product() {
        let description = small_llama();
        let estimated = |work| estimate(&description, work, &AdapterMemory::default());
        let wide = work(None, &description);
        assert_eq!((wide.coded, wide.dequantised), ((0, 0), 0));
        for name in ["int8", "nf4"] {
            let (kept, format) = (work(Some(name), &description), formats::named(name).unwrap());
            let sizes = description.linears.iter().map(|(_, dims)| (dims[0] * dims[1]) as u64);
            let bytes = description.linears.iter().map(|(_, dims)| format.bytes(*dims));
            let coded: (u64, u64) = (sizes.sum(), bytes.sum());
            assert_eq!((kept.coded, kept.dequantised), (coded, 2 * 256 * 64));
            let (kept, wide) = (estimated(kept), estimated(wide));
            assert_eq!(wide.weights - kept.weights, 2 * coded.0 - coded.1, "{name}");
            assert_eq!(kept.activations - wide.activations, 2 * 2 * 256 * 64, "{name}");
        }
    }

    /// What has a row for each token is numbers there.
    #[test]
    fn a_card_keeps_the_blocks_of_linear_layers() {
        let mut description = small_llama();
        let (one, table) = (256 * 64, 1000 * 64);
        let layer = "model.layers.0.mlp";
        for (path, kind, numbers) in [
            (format!("{layer}.gate_proj.weight"), "Q4_0", one),
            (format!("{layer}.up_proj.weight"), "Q4_K", one),
            (format!("{layer}.down_proj.weight"), "MXFP4", one),
            ("model.embed_tokens.weight".to_owned(), "Q8_0", table),
        ] {
            description.in_blocks.insert(path, (TensorType::quantised(kind).unwrap(), numbers));
        }
        // Scales have 32 bits there in place of 16, powers of two eight as in files.
        let bytes = one / 32 * (16 + 4) + one / 256 * (140 + 8) + one / 32 * 17;
        let coded = (3 * one, bytes);
        assert_eq!(work(None, &description).coded, coded);
        assert_eq!(work(Some("dequantised"), &description).coded, (0, 0));
        let adapter = Lora { settings: LoraSettings::new(4, 8.0) };
        let line = weights_line(None, Some(&adapter), &description, &card()).unwrap();
        assert_eq!(
            line,
            "matrices of the base in MXFP4, Q4_0, Q4_K, Q8_0, as its files have them: 28.4 kB in \
             place of 196.6 kB in f32; embedding and output head dequantised"
        );
    }
}
