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
    /// Whether the driver has `VK_KHR_workgroup_memory_explicit_layout`; none of other interfaces
    /// than Vulkan.
    pub explicit_layout: Option<bool>,
    /// Whether the driver has `VK_KHR_shader_bfloat16`; not of other interfaces than Vulkan.
    pub bfloat16: bool,
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
    /// Why that one.
    pub compiler_reason: String,
    /// Memory that the interface lets a program use, where it tells.
    pub memory_bytes: Option<u64>,
    /// Whether 16-bit floats can be computed with, and what a product of them differs by.
    pub f16_error: Option<f64>,
    /// The same of bfloat16, with sums in 32 bits.
    pub bf16_error: Option<f64>,
    /// What happened when it was tried, if that gave no number.
    pub bf16_failure: Option<String>,
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
            // Half a second at 2 and a fifth at 0.2 TFLOP/s, which is little for such cards.
            dispatch_flops: match self.kind {
                AdapterKind::Discrete => 1_000_000_000_000,
                AdapterKind::Integrated | AdapterKind::Virtual | AdapterKind::Other => {
                    40_000_000_000
                }
                AdapterKind::Software => u64::MAX, // nobody watches it
            },
        }
    }
}

impl Adapter {
    /// Whether SPIR-V as CubeCL writes it is right for the driver. Without explicit layout it
    /// declares memory that a workgroup shares as a pointer to a pointer.
    pub fn takes_spirv(&self) -> bool {
        self.explicit_layout == Some(true)
    }

    /// Whether products in bfloat16 are worth a trial: where all arithmetic is to be had in it; on
    /// Vulkan, where it can only be converted, also where units for matrices multiply it and sum in
    /// 32 bits. Nothing else is computed in it.
    pub fn tries_bfloat16(&self, computes: bool, units_multiply: bool) -> bool {
        computes || (self.bfloat16 && self.takes_spirv() && units_multiply)
    }

    /// Why a compiler makes the kernels.
    pub fn why(&self, compiler: &str) -> &'static str {
        match self.graphics_api() {
            GraphicsApi::Vulkan if compiler.contains("spirv") => {
                "the driver has VK_KHR_workgroup_memory_explicit_layout"
            }
            GraphicsApi::Vulkan if !self.takes_spirv() => {
                "the driver has no VK_KHR_workgroup_memory_explicit_layout, and CubeCL's SPIR-V \
                 for those is wrong"
            }
            GraphicsApi::Vulkan => "the driver has no memory model, or no addresses of buffers",
            GraphicsApi::Metal if compiler.contains("msl") => "Metal's own language",
            GraphicsApi::Metal => "the system is too old for Metal's own language",
            GraphicsApi::Dx12 | GraphicsApi::Gl => "the only one for this interface",
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

    /// Why bfloat16 is not used, where it was tried.
    pub fn bf16_problem(&self) -> Option<String> {
        let error = self.bf16_error.filter(|_| !self.has_bf16());
        let wrong = error.map(|error| format!("a product came out wrong by {error:.1e}"));
        self.bf16_failure.clone().or(wrong)
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

    /// Where nothing says that bfloat16 is multiplied, no kernel in it is compiled.
    #[test]
    fn bfloat16_is_tried_where_it_can_be_multiplied() {
        let metal = adapter("metal", 0, AdapterKind::Integrated, 0);
        assert!(metal.tries_bfloat16(true, false) && !metal.tries_bfloat16(false, true));
        let vulkan = adapter("vulkan", 0, AdapterKind::Discrete, 0);
        assert!(!vulkan.tries_bfloat16(false, true), "without the extension");
        let vulkan = Adapter { bfloat16: true, ..vulkan };
        assert!(vulkan.tries_bfloat16(false, true));
        assert!(!vulkan.tries_bfloat16(false, false), "without units for matrices");
        let old = Adapter { explicit_layout: Some(false), ..vulkan };
        assert!(!old.tries_bfloat16(false, true), "WGSL has no bfloat16");
    }

    /// SPIR-V is for drivers that are known to have the extension, and nobody else.
    #[test]
    fn only_a_driver_with_explicit_layout_gets_spirv() {
        let mut reasons = String::new();
        for (api, explicit_layout, spirv) in [
            ("vulkan", Some(true), true),
            ("vulkan", Some(false), false),
            ("vulkan", None, false),
            ("metal", None, false),
            ("dx12", None, false),
            ("gl", None, false),
        ] {
            let there = adapter(api, 0, AdapterKind::Discrete, 0);
            let there = Adapter { explicit_layout, ..there };
            assert_eq!(there.takes_spirv(), spirv, "{api} {explicit_layout:?}");
            let compilers = ["wgpu<spirv>", "wgpu<wgsl>", "wgpu<msl>"];
            let taken = match api {
                "vulkan" => &compilers[usize::from(!spirv)..2],
                "metal" => &compilers[1..],
                _ => &compilers[1..2],
            };
            for compiler in taken {
                reasons += &format!("{api} {compiler}: {}\n", there.why(compiler));
            }
        }
        says(
            reasons,
            snapbox::str![[r#"
vulkan wgpu<spirv>: the driver has VK_KHR_workgroup_memory_explicit_layout
vulkan wgpu<wgsl>: the driver has no memory model, or no addresses of buffers
vulkan wgpu<wgsl>: the driver has no VK_KHR_workgroup_memory_explicit_layout, and CubeCL's SPIR-V for those is wrong
vulkan wgpu<wgsl>: the driver has no VK_KHR_workgroup_memory_explicit_layout, and CubeCL's SPIR-V for those is wrong
metal wgpu<wgsl>: the system is too old for Metal's own language
metal wgpu<msl>: Metal's own language
dx12 wgpu<wgsl>: the only one for this interface
gl wgpu<wgsl>: the only one for this interface

"#]],
        );
    }

    #[test]
    fn a_trial_that_came_out_wrong_is_told_of() {
        let right = super::super::fixture::right_trial();
        assert!(right.problem().is_none() && right.has_f16() && !right.has_bf16());
        let tried = |bf16_error, failure: Option<&str>| {
            let bf16_failure = failure.map(str::to_owned);
            Trial { bf16_error, bf16_failure, ..right.clone() }
        };
        let good = tried(Some(3e-3), None);
        assert!(good.has_bf16() && good.bf16_problem().is_none());
        assert!(right.bf16_problem().is_none(), "not tried");
        let mut messages = String::new();
        for wrong in [tried(Some(0.5), None), tried(Some(f64::NAN), None), tried(None, Some("x"))] {
            assert!(!wrong.has_bf16());
            messages += &format!("{}\n", wrong.bf16_problem().unwrap());
        }
        for error in [0.5, f64::NAN, f64::INFINITY] {
            let wrong = Trial { f32_error: error, f16_error: Some(f64::NAN), ..right.clone() };
            messages += &format!("{error}: {}\n", wrong.problem().unwrap());
            assert!(!wrong.has_f16());
        }
        says(
            messages,
            snapbox::str![[r#"
a product came out wrong by 5.0e-1
a product came out wrong by NaN
x
0.5: a small product came out wrong by 5.0e-1
NaN: a small product came out wrong by NaN
inf: a small product came out wrong by inf

"#]],
        );
    }
}
