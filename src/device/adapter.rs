//! What is known of a graphics adapter before anything is computed on it.

use serde::{Deserialize, Serialize};

use crate::config::GraphicsApi;
use crate::device::DeviceLimits;

/// One adapter, as one interface offers it. The same card shows under several interfaces.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Adapter {
    /// The interface, as `device.name` calls it.
    pub api: String,
    /// Its number there: the N of `vulkan:N`.
    pub number: usize,
    /// What the driver calls it.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// Its number among those of its kind on this interface, which is how Burn names it.
    pub number_of_kind: usize,
    /// The driver's name; empty where the interface tells none.
    pub driver: String,
    /// The driver's version and build.
    pub driver_info: String,
    /// PCI numbers of vendor and card; 0 where there are none.
    pub pci: (u32, u32),
    /// What the driver takes.
    pub limits: AdapterLimits,
    /// Whether its shaders have 16-bit floats.
    pub f16: bool,
    /// Whether threads of a subgroup can exchange values, and how many those are.
    pub subgroups: bool,
    /// Least and greatest size of a subgroup.
    pub subgroup_size: (u32, u32),
}

/// What an adapter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// A part of the processor, or a card that shares its memory.
    Integrated,
    /// A card of another machine's, lent to this one.
    Virtual,
    /// Something that the driver does not tell.
    Other,
    /// A program that computes on the processor what a card would.
    Software,
}

/// Limits of a driver; bytes, or numbers of threads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterLimits {
    /// The largest part of a buffer that a kernel can see.
    pub binding_bytes: u64,
    /// The largest buffer.
    pub buffer_bytes: u64,
    /// Buffers that a kernel can see.
    pub bindings: u32,
    /// Threads in a workgroup.
    pub workgroup_threads: u32,
    /// Threads in a workgroup along each axis.
    pub workgroup_size: [u32; 3],
    /// Memory that a workgroup shares.
    pub workgroup_bytes: u32,
    /// Workgroups of one dispatch along each axis.
    pub dispatch_workgroups: u32,
}

/// What a small product told about an adapter, computed on it in a process of its own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// Which compiler makes its kernels.
    pub compiler: String,
    /// Memory that the interface lets a program use, where it tells.
    pub memory_bytes: Option<u64>,
    /// Whether 16-bit floats can be computed with, and what a product of them differs by.
    pub f16_error: Option<f64>,
    /// The same of bfloat16.
    pub bf16_error: Option<f64>,
    /// Largest difference of a product of 32-bit floats to that of the CPU, relative to its
    /// largest number.
    pub f32_error: f64,
    /// How long it took, kernels compiled.
    pub seconds: f64,
}

/// What a product of 32-bit floats may differ by. Cards that multiply in TF32 are off by 1e-3.
const F32_ERROR_MAX: f64 = 2e-3;
/// The same of 16-bit ones: a rounding of 2^-9 on either side, and of the result.
const HALF_ERROR_MAX: f64 = 2e-2;

impl Adapter {
    /// The interface.
    pub fn graphics_api(&self) -> GraphicsApi {
        GraphicsApi::from_name(&self.api).unwrap_or(GraphicsApi::Vulkan)
    }

    /// How `device.name` names it.
    pub fn device_name(&self) -> String {
        format!("{}:{}", self.api, self.number)
    }

    /// What the computing stays within.
    pub fn working_limits(&self) -> DeviceLimits {
        // Kernels count elements in 32 bits, and indices are signed.
        const NUMBERS: u64 = i32::MAX as u64;
        let limits = &self.limits;
        DeviceLimits {
            tensor_bytes: limits.binding_bytes.min(limits.buffer_bytes).min(4 * NUMBERS),
            // A fifth of a second at 2 and at 0.2 TFLOP/s, which is little for such cards.
            dispatch_flops: match self.kind {
                AdapterKind::Discrete => 400_000_000_000,
                AdapterKind::Integrated | AdapterKind::Virtual | AdapterKind::Other => {
                    40_000_000_000
                }
                AdapterKind::Software => u64::MAX, // nobody watches it
            },
        }
    }
}

impl Trial {
    /// Why the adapter cannot be used, if it computes wrong numbers.
    pub fn problem(&self) -> Option<String> {
        let wrong = !(self.f32_error <= F32_ERROR_MAX); // NaN is wrong, too
        wrong.then(|| format!("a small product came out wrong by {:.1e}", self.f32_error))
    }

    /// Whether 16-bit floats come out right.
    pub fn has_f16(&self) -> bool {
        self.f16_error.is_some_and(|error| error <= HALF_ERROR_MAX)
    }

    /// Whether bfloat16 comes out right.
    pub fn has_bf16(&self) -> bool {
        self.bf16_error.is_some_and(|error| error <= HALF_ERROR_MAX)
    }
}

impl AdapterKind {
    /// For people.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Discrete => "GPU",
            Self::Integrated => "integrated graphics",
            Self::Virtual => "virtual GPU",
            Self::Other => "unknown kind",
            Self::Software => "software rasteriser",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::adapter;
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn limits_come_from_the_binding_and_from_what_may_watch() {
        let card = adapter("vulkan", 0, AdapterKind::Discrete, 0).working_limits();
        assert_eq!(card.tensor_bytes, (1 << 31) - 1);
        let mut wide = adapter("metal", 0, AdapterKind::Integrated, 0);
        wide.limits.binding_bytes = 1 << 40;
        wide.limits.buffer_bytes = 1 << 40;
        assert_eq!(wide.working_limits().tensor_bytes, 4 * (i32::MAX as u64), "index width");
        assert!(wide.working_limits().dispatch_flops < card.dispatch_flops);
        let software = adapter("gl", 0, AdapterKind::Software, 0).working_limits();
        assert_eq!(software.dispatch_flops, u64::MAX);
    }

    #[test]
    fn a_trial_that_came_out_wrong_is_told_of() {
        let right = Trial {
            compiler: String::new(),
            memory_bytes: None,
            f16_error: Some(1e-3),
            bf16_error: None,
            f32_error: 1e-6,
            seconds: 0.1,
        };
        assert!(right.problem().is_none() && right.has_f16() && !right.has_bf16());
        let mut messages = String::new();
        for error in [0.5, f64::NAN, f64::INFINITY] {
            let wrong = Trial { f32_error: error, f16_error: Some(f64::NAN), ..right.clone() };
            messages += &format!("{error}: {}\n", wrong.problem().unwrap());
            assert!(!wrong.has_f16());
        }
        says(
            messages,
            snapbox::str![[r#"
0.5: a small product came out wrong by 5.0e-1
NaN: a small product came out wrong by NaN
inf: a small product came out wrong by inf

"#]],
        );
    }
}
