//! Where a run computes, in which precision, with how much memory, and why.

mod adapter;
mod choose;
mod failure;
#[cfg(test)]
mod fixture;
#[cfg(feature = "gpu")]
mod gpu;
mod instructions;
mod kernels;
mod launches;
mod ledger;
mod limits;
mod memory;
mod precision;
#[cfg(feature = "gpu")]
mod probe;
mod processor;
#[cfg(feature = "gpu")]
mod product;
mod survey;
#[cfg(feature = "gpu")]
mod wgsl;

pub use adapter::{Adapter, AdapterKind, AdapterLimits, Trial};
pub use failure::{Failure, MemoryWatch, attempt, guarded, room_for, watch_memory};
pub use instructions::{
    InstructionSet, TILE, Tile, TileShape, arch, instruction_set, instructions,
    multiplies_bfloat16, named_shape, tile_problem,
};
pub use kernels::{keep_kernels, kernel_folder};
pub use launches::{Launches, count_launches};
pub use ledger::{
    Ledger, Transfers, Work, keep_ledger, keeps_ledger, launching, reading_back, uploading,
};
pub use limits::DeviceLimits;
pub use memory::{Usage, memory_bytes_available, memory_bytes_peak, prefer_small_pages, usage};
pub use precision::{Arithmetic, ComputeConfig, Precision, precision};
#[cfg(feature = "gpu")]
pub use probe::{COMMAND as PROBE_COMMAND, answer as probe_answer, ask_aside, probe_with, stage};
pub use processor::{Processor, processor};
#[cfg(feature = "gpu")]
pub(crate) use product::{elem, multiplies, product as half_product};
pub use survey::{Survey, Surveyed, survey};

use burn::tensor::Device;

use crate::config::DeviceChoice;
use crate::error::{Error, Result};

/// A device that was opened, with the words to say about it.
#[derive(Debug, Clone)]
pub struct OpenedDevice {
    /// Burn's handle.
    pub device: Device,
    /// For people and the lineage, e.g. `CPU, 2 threads`.
    pub name: String,
    /// `flex` or `wgpu`.
    pub backend: &'static str,
    /// Why this one.
    pub reason: String,
    /// Are results bit-equal from run to run?
    pub deterministic: bool,
    /// The adapter, of a GPU.
    pub adapter: Option<Adapter>,
    /// Whether it is a software rasteriser.
    pub software: bool,
    /// What everything that is computed stays within.
    pub limits: DeviceLimits,
    /// Memory that a program may use there, where the interface tells; not of the CPU.
    pub memory_bytes: Option<u64>,
    /// Whether it computes with 16-bit floats.
    pub f16: bool,
    /// Whether it multiplies bfloat16, with sums in 32 bits.
    pub bf16: bool,
    /// Why not, where it was tried.
    pub bf16_problem: Option<String>,
}

/// Sizes are multiples of this on a GPU. Whole tiles of matrix products are, and vectors of loads.
const GRAIN: usize = 64;

impl OpenedDevice {
    /// Whether tensors are on a GPU.
    pub fn on_gpu(&self) -> bool {
        self.backend != "flex"
    }

    /// How is computed here, in 32 bits unless that is changed.
    pub fn computing(&self) -> ComputeConfig {
        let pad_multiple = if self.on_gpu() { GRAIN } else { 1 };
        ComputeConfig { limits: self.limits, pad_multiple, ..ComputeConfig::default() }
    }

    /// What decides the bits of a result besides its inputs: the backend, the machine's kind, and
    /// the instructions that kernels choose between. The number of threads does not.
    pub fn class(&self) -> String {
        if let Some(adapter) = &self.adapter {
            let Adapter { api, name, driver, driver_info, .. } = adapter;
            return format!("{} {api} {name} {driver} {driver_info}", self.backend);
        }
        format!(
            "{} {} {} {}",
            self.backend,
            std::env::consts::OS,
            std::env::consts::ARCH,
            instructions().join(" ")
        )
    }
}

/// Opens the wanted device; `threads` = 0 means one per core.
///
/// # Errors
/// When a GPU is demanded and none can be used, or the thread pool was started before with another
/// size.
pub fn open(wanted: DeviceChoice, threads: usize) -> Result<OpenedDevice> {
    let threads = start_threads(threads)?;
    if wanted == DeviceChoice::Cpu {
        return Ok(cpu(threads, "asked for"));
    }
    let found = survey::interfaces(wanted);
    let mut reasons = choose::reasons(&found, None);
    let candidates = match choose::candidates(wanted, &found) {
        Ok(candidates) => candidates,
        Err(_) if wanted == DeviceChoice::Auto => {
            let why = if reasons.is_empty() {
                choose::no_card(&found).to_owned()
            } else {
                reasons.join("; ")
            };
            return Ok(cpu(threads, &why));
        }
        Err(error) => return Err(error),
    };
    reasons.clear();
    for adapter in candidates {
        match survey::on(&adapter) {
            Ok(opened) => return Ok(OpenedDevice { reason: why(wanted).to_owned(), ..opened }),
            Err(why) => {
                reasons.push(format!("{} ({}): {why}", adapter.name, adapter.device_name()))
            }
        }
        // A name means one adapter; only `auto` and `gpu` look on.
        if !matches!(wanted, DeviceChoice::Auto | DeviceChoice::Gpu(None)) {
            break;
        }
    }
    if wanted == DeviceChoice::Auto {
        return Ok(cpu(threads, &format!("no GPU can be used: {}", reasons.join("; "))));
    }
    let error = Error::device(format!("`device.name = \"{wanted}\"` cannot be used"))
        .hint("`firebrand devices` lists what there is, and `device.name = \"cpu\"` always works");
    Err(reasons.into_iter().fold(error, Error::because))
}

/// Opens an adapter that is known already.
///
/// # Errors
/// When it cannot be used.
pub fn open_adapter(adapter: &Adapter) -> Result<OpenedDevice> {
    survey::on(adapter)
        .map_err(|why| Error::device(format!("{} cannot be used", adapter.name)).because(why))
}

fn why(wanted: DeviceChoice) -> &'static str {
    match wanted {
        DeviceChoice::Auto | DeviceChoice::Gpu(None) => "the first GPU found",
        _ => "asked for",
    }
}

/// Sizes the pool that all CPU operations share, once per process; 0 means a thread per core.
/// Returns how many there are.
///
/// # Errors
/// When the pool was started before with another size.
pub fn start_threads(threads: usize) -> Result<usize> {
    if threads > 0 {
        let built = rayon::ThreadPoolBuilder::new().num_threads(threads).build_global();
        if built.is_err() && rayon::current_num_threads() != threads {
            return Err(Error::device(format!(
                "cannot use {threads} threads: {} are already running",
                rayon::current_num_threads()
            )));
        }
    }
    Ok(rayon::current_num_threads())
}

fn cpu(threads: usize, reason: &str) -> OpenedDevice {
    OpenedDevice {
        device: Device::flex(),
        name: format!("CPU, {threads} threads"),
        backend: "flex",
        reason: reason.to_owned(),
        deterministic: true,
        adapter: None,
        software: false,
        limits: DeviceLimits::NONE,
        memory_bytes: None,
        f16: true,
        bf16: false,
        bf16_problem: None,
    }
}

#[cfg(test)]
mod tests {
    use super::fixture::on_card;
    use super::*;

    #[test]
    fn the_class_of_a_card_has_its_driver_in_it() {
        let mut other = on_card(true, false);
        let class = other.class();
        assert!(class.starts_with("wgpu vulkan ") && class.contains("driver 1.0"), "{class}");
        other.adapter.as_mut().unwrap().driver_info = "1.1".to_owned();
        assert_ne!(class, other.class());
    }

    #[test]
    fn the_cpu_can_always_be_opened_and_says_why() {
        let opened = open(DeviceChoice::Cpu, 0).unwrap();
        assert_eq!((opened.backend, opened.reason.as_str()), ("flex", "asked for"));
        assert!(opened.deterministic);
    }

    #[test]
    fn auto_never_fails() {
        open(DeviceChoice::Auto, 0).unwrap();
    }
}
