//! Devices for tests, which nobody has.

use super::adapter::{Adapter, AdapterKind, AdapterLimits, Trial};
use super::{OpenedDevice, cpu};

/// An adapter that nobody has.
pub fn adapter(api: &str, number: usize, kind: AdapterKind, of_kind: usize) -> Adapter {
    Adapter {
        api: api.to_owned(),
        number,
        name: format!("{kind:?} {of_kind}"),
        kind,
        number_of_kind: of_kind,
        driver: "driver".to_owned(),
        driver_info: "1.0".to_owned(),
        pci: (1, 2),
        limits: AdapterLimits {
            binding_bytes: (1 << 31) - 1,
            buffer_bytes: 1 << 34,
            bindings: 8,
            workgroup_threads: 1024,
            workgroup_size: [1024, 1024, 64],
            workgroup_bytes: 32_768,
            dispatch_workgroups: 65_535,
        },
        f16: true,
        subgroups: true,
        subgroup_size: (32, 32),
        explicit_layout: (api == "vulkan").then_some(true),
        bfloat16: false,
    }
}

/// What is told of an adapter that computes right in 32 bits and in f16.
pub fn right_trial() -> Trial {
    Trial {
        compiler: "wgpu<spirv>".to_owned(),
        compiler_reason: String::new(),
        memory_bytes: None,
        f16_error: Some(1e-3),
        bf16_error: None,
        bf16_failure: None,
        f32_error: 1e-6,
        seconds: 0.1,
    }
}

/// A card that computes in these formats, said of the CPU.
pub fn on_card(f16: bool, bf16: bool) -> OpenedDevice {
    let adapter = adapter("vulkan", 0, AdapterKind::Discrete, 0);
    OpenedDevice {
        backend: "wgpu",
        name: adapter.name.clone(),
        adapter: Some(adapter),
        f16,
        bf16,
        ..cpu(1, "test")
    }
}
