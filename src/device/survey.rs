//! Everything there is on this machine to compute on, and what each would be good for.

use serde::Serialize;

use super::adapter::{Adapter, AdapterKind, Trial};
use super::choose::{self, AdaptersByApi};
use super::{OpenedDevice, cpu};
use crate::config::{DeviceChoice, GraphicsApi};

/// What there is.
#[derive(Debug, Serialize)]
pub struct Survey {
    /// Threads of the CPU.
    pub cpu_threads: usize,
    /// Memory of this machine that is free, in bytes.
    pub cpu_memory_bytes: Option<u64>,
    /// Adapters, best interface first.
    pub adapters: Vec<Surveyed>,
    /// Interfaces that could not be asked, each in a sentence.
    pub failures: Vec<String>,
    /// What `auto` takes, as `device.name` calls it.
    pub auto: String,
    /// Why.
    pub reason: String,
}

/// An adapter with what a trial told about it.
#[derive(Debug, Serialize)]
pub struct Surveyed {
    /// As `device.name` calls it.
    pub device_name: String,
    /// What the driver tells.
    #[serde(flatten)]
    pub adapter: Adapter,
    /// What it can do.
    pub trial: Option<Trial>,
    /// Why it cannot be used.
    pub problem: Option<String>,
}

/// Looks at everything, each adapter in a process of its own.
pub fn survey() -> Survey {
    let found = interfaces(DeviceChoice::Auto);
    let mut adapters = Vec::new();
    for adapter in found.iter().filter_map(|(_, list)| list.as_ref().ok()).flatten() {
        let (trial, problem) = match try_out(adapter) {
            Ok(trial) => {
                let problem = trial.problem();
                (Some(trial), problem)
            }
            Err(why) => (None, Some(why)),
        };
        let device_name = adapter.device_name();
        adapters.push(Surveyed { device_name, adapter: adapter.clone(), trial, problem });
    }
    let failures = choose::reasons(&found, None);
    let (auto, reason) = automatic(&found, &adapters, &failures);
    Survey {
        cpu_threads: rayon::current_num_threads(),
        cpu_memory_bytes: super::memory_bytes_available(),
        adapters,
        failures,
        auto,
        reason,
    }
}

/// What `auto` takes, and why.
fn automatic(
    found: &AdaptersByApi,
    adapters: &[Surveyed],
    failures: &[String],
) -> (String, String) {
    let mut reasons = failures.to_vec();
    for card in choose::cards(found) {
        let name = card.device_name();
        match adapters.iter().find(|other| other.device_name == name) {
            Some(Surveyed { problem: None, .. }) => {
                let why = format!("{} is the first GPU that computes right", card.name);
                return (name, why);
            }
            Some(Surveyed { problem: Some(why), .. }) => reasons.push(format!("{name}: {why}")),
            None => {}
        }
    }
    if reasons.is_empty() {
        let software = |found: &&Surveyed| found.adapter.kind == AdapterKind::Software;
        reasons.push(match adapters.iter().find(software) {
            Some(found) => format!(
                "no GPU was found, and {} is a software rasteriser, slower than the CPU \
                 itself",
                found.device_name
            ),
            None => choose::no_card(found).to_owned(),
        });
    }
    ("cpu".to_owned(), reasons.join("; "))
}

/// Asks the interfaces that a name may need.
pub(super) fn interfaces(wanted: DeviceChoice) -> AdaptersByApi {
    apis()
        .iter()
        .filter(|api| match wanted {
            DeviceChoice::Api(only, _) => only == **api || !apis().contains(&only),
            _ => true,
        })
        .map(|api| (*api, adapters(*api)))
        .collect()
}

/// Opens an adapter that has shown in another process that it computes right.
pub(super) fn on(adapter: &Adapter) -> Result<OpenedDevice, String> {
    let trial = try_out(adapter)?;
    if let Some(problem) = trial.problem() {
        return Err(problem);
    }
    Ok(OpenedDevice {
        device: open(adapter)?,
        name: adapter.name.clone(),
        backend: "wgpu",
        deterministic: false,
        software: adapter.kind == AdapterKind::Software,
        limits: adapter.working_limits(),
        memory_bytes: trial.memory_bytes,
        f16: trial.has_f16(),
        bf16: trial.has_bf16(),
        bf16_problem: trial.bf16_problem(),
        adapter: Some(adapter.clone()),
        ..cpu(0, "")
    })
}

#[cfg(feature = "gpu")]
mod with_gpu {
    use burn::tensor::Device;

    use super::super::{gpu, probe};
    use super::{Adapter, GraphicsApi, Trial};

    pub fn apis() -> &'static [GraphicsApi] {
        gpu::APIS
    }

    pub fn adapters(api: GraphicsApi) -> Result<Vec<Adapter>, String> {
        probe::adapters(api)
    }

    pub fn try_out(adapter: &Adapter) -> Result<Trial, String> {
        probe::trial(adapter)
    }

    pub fn open(adapter: &Adapter) -> Result<Device, String> {
        gpu::open(adapter)
    }
}
#[cfg(feature = "gpu")]
use with_gpu::{adapters, apis, open, try_out};

#[cfg(not(feature = "gpu"))]
mod without_gpu {
    use burn::tensor::Device;

    use super::{Adapter, GraphicsApi, Trial};

    const NONE: &str = "this build has no GPU support (feature `gpu`)";

    pub fn apis() -> &'static [GraphicsApi] {
        &[]
    }

    pub fn adapters(_: GraphicsApi) -> Result<Vec<Adapter>, String> {
        Err(NONE.to_owned())
    }

    pub fn try_out(_: &Adapter) -> Result<Trial, String> {
        Err(NONE.to_owned())
    }

    pub fn open(_: &Adapter) -> Result<Device, String> {
        Err(NONE.to_owned())
    }
}
#[cfg(not(feature = "gpu"))]
use without_gpu::{adapters, apis, open, try_out};

#[cfg(test)]
mod tests {
    use super::super::fixture::adapter;
    use super::*;
    use crate::snapshots::says;

    fn surveyed(adapter: &Adapter, problem: Option<&str>) -> Surveyed {
        Surveyed {
            device_name: adapter.device_name(),
            adapter: adapter.clone(),
            trial: None,
            problem: problem.map(str::to_owned),
        }
    }

    #[test]
    fn auto_passes_over_cards_that_compute_wrong_and_never_takes_software() {
        let big = adapter("vulkan", 0, AdapterKind::Discrete, 0);
        let small = adapter("vulkan", 1, AdapterKind::Integrated, 0);
        let soft = adapter("gl", 0, AdapterKind::Software, 0);
        let found: AdaptersByApi = vec![
            (GraphicsApi::Vulkan, Ok(vec![big.clone(), small.clone()])),
            (GraphicsApi::Gl, Ok(vec![soft.clone()])),
        ];
        let choose = |big_problem, small_problem| {
            let all = [
                surveyed(&big, big_problem),
                surveyed(&small, small_problem),
                surveyed(&soft, None),
            ];
            automatic(&found, &all, &[])
        };
        assert_eq!(choose(None, None).0, "vulkan:0");
        assert_eq!(choose(Some("it crashed"), None).0, "vulkan:1");
        let (name, why) = choose(Some("it crashed"), Some("wrong by 0.5"));
        assert_eq!(name, "cpu");
        says(&why, snapbox::str!["vulkan:0: it crashed; vulkan:1: wrong by 0.5"]);
        let only: AdaptersByApi = vec![(GraphicsApi::Gl, Ok(vec![soft.clone()]))];
        let (name, why) = automatic(&only, &[surveyed(&soft, None)], &[]);
        assert_eq!(name, "cpu");
        says(
            &why,
            snapbox::str![
                "no GPU was found, and gl:0 is a software rasteriser, slower than the CPU itself"
            ],
        );
    }
}
