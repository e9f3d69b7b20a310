//! Kernels in WGSL on Vulkan. CubeCL writes SPIR-V for every device of Vulkan, and lets nobody
//! choose; but where a driver has no `VK_KHR_workgroup_memory_explicit_layout`, that SPIR-V
//! declares what a workgroup shares as a pointer to a pointer (two types are swapped in
//! `lower_shared_implicit` of cubecl-spirv 0.11.3). Drivers crash over it, or compute wrong. So the
//! server that Burn finds for such a device is made here, as cubecl-wgpu makes it for DX12 and
//! OpenGL: with its compiler of WGSL, of which wgpu makes SPIR-V that is right.

use std::sync::Arc;

use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{Device, DeviceKind};
use burn_cubecl::cubecl;
use cubecl::WgpuCompilationOptions;
use cubecl::client::Client;
use cubecl::device::{WgpuDevice, WgpuDeviceKind};
use cubecl::future::block_on;
use cubecl::ir::features::{AtomicUsage, Plane, TypeUsage};
use cubecl::ir::{
    AddressType, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    IntKind, MemoryDeviceProperties, TargetProperties, Type, UIntKind,
};
use cubecl::server::ServerUtilities;
use cubecl::wgpu::{AutoCompiler, MemoryConfiguration, WgpuServer};
use cubecl_common::device::{Device as _, ServiceId};
use cubecl_common::profile::TimingMethod;
use cubecl_server::allocator::ContiguousMemoryLayoutPolicy;
use cubecl_server::logging::ServerLogger;

type Server = WgpuServer<AutoCompiler>;

/// Tasks that are handed to the driver at once; what cubecl-wgpu takes without being told.
const TASKS: usize = 32;

/// Opens an adapter of Vulkan, its kernels in WGSL. `memory_bytes` is what its driver lets a
/// program use.
///
/// # Errors
/// In one sentence, when the driver refuses, or when the device was opened before.
pub fn open(
    adapter: &wgpu::Adapter,
    kind: DeviceKind,
    memory_bytes: Option<u64>,
) -> Result<Device, String> {
    let unused = wgpu::Features::MAPPABLE_PRIMARY_BUFFERS | wgpu::Features::all_experimental_mask();
    let asked = wgpu::DeviceDescriptor {
        required_features: adapter.features().difference(unused),
        required_limits: adapter.limits(),
        // Memory is taken in pages already.
        memory_hints: wgpu::MemoryHints::MemoryUsage,
        ..wgpu::DeviceDescriptor::default()
    };
    let (device, queue) =
        block_on(adapter.request_device(&asked)).map_err(|error| error.to_string())?;
    let named = WgpuDevice::new(kind_there(kind)).on(WgpuBackend::Vulkan);

    let properties = properties(adapter, device.features(), memory_bytes);
    let options = WgpuCompilationOptions {
        supports_u64: properties.supports_type(ElemType::UInt(UIntKind::U64)),
        supports_vulkan_compiler: false,
        ..WgpuCompilationOptions::default()
    };
    let (memory, timing) = (properties.memory.clone(), properties.timing_method);
    let (utilities, captures) = ServerUtilities::init(
        ServiceId::of::<Server>(named.to_id()),
        "wgpu<wgsl>",
        properties,
        TargetProperties::default(),
        Arc::new(ServerLogger::default()),
        ContiguousMemoryLayoutPolicy::new(usize::try_from(memory.alignment).unwrap_or(256)),
    );
    let server = Server::new(
        memory,
        MemoryConfiguration::default(),
        options,
        device,
        queue,
        TASKS,
        wgpu::Backend::Vulkan,
        timing,
        utilities,
        captures,
    );
    Client::try_init(named.to_id(), server)
        .map_err(|error| format!("it cannot be opened a second time: {error:?}"))?;
    Ok(Device::from(named))
}

fn kind_there(kind: DeviceKind) -> WgpuDeviceKind {
    match kind {
        DeviceKind::DiscreteGpu(index) => WgpuDeviceKind::DiscreteGpu(index),
        DeviceKind::IntegratedGpu(index) => WgpuDeviceKind::IntegratedGpu(index),
        DeviceKind::VirtualGpu(index) => WgpuDeviceKind::VirtualGpu(index),
        DeviceKind::Cpu => WgpuDeviceKind::Cpu,
        DeviceKind::DefaultDevice => WgpuDeviceKind::DefaultDevice,
        DeviceKind::Existing(index) => WgpuDeviceKind::Existing(index),
    }
}

/// What kernels may rely on, as cubecl-wgpu tells it of devices with WGSL.
fn properties(
    adapter: &wgpu::Adapter,
    features: wgpu::Features,
    memory_bytes: Option<u64>,
) -> DeviceProperties {
    let (limits, info) = (adapter.limits(), adapter.get_info());
    let page = limits.max_storage_buffer_binding_size.min(limits.max_buffer_size);
    let alignment =
        limits.min_uniform_buffer_offset_alignment.max(limits.min_storage_buffer_offset_alignment);
    let memory = MemoryDeviceProperties::new(page, u64::from(alignment))
        .with_max_memory(memory_bytes.unwrap_or(0));
    let workgroups = limits.max_compute_workgroups_per_dimension;
    let hardware = HardwareProperties {
        load_width: 128,
        vector_register_count: None,
        plane_size_min: info.subgroup_min_size,
        plane_size_max: info.subgroup_max_size,
        // One is wgpu's own, for the lengths of buffers.
        max_bindings: limits.max_storage_buffers_per_shader_stage.saturating_sub(1),
        max_shared_memory_size: limits.max_compute_workgroup_storage_size as usize,
        max_cube_count: (workgroups, workgroups, workgroups),
        max_units_per_cube: limits.max_compute_invocations_per_workgroup,
        max_cube_dim: (
            limits.max_compute_workgroup_size_x,
            limits.max_compute_workgroup_size_y,
            limits.max_compute_workgroup_size_z,
        ),
        num_streaming_multiprocessors: None,
        num_cpu_cores: None,
        last_level_cache_size: None,
        num_tensor_cores: None,
        min_tensor_cores_dim: None,
        max_vector_size: 4,
        cube_mma_reserved_shared_memory: 0,
    };
    let timing = match features.contains(wgpu::Features::TIMESTAMP_QUERY) {
        true => TimingMethod::Device,
        false => TimingMethod::System,
    };
    let identity = DeviceIdentity {
        name: info.name.clone(),
        fingerprint: format!("wgsl_{}_{}", info.vendor, info.device),
        physical: None,
    };
    let mut properties =
        DeviceProperties::new(Default::default(), memory, hardware, timing, identity);
    if features.contains(wgpu::Features::SUBGROUP) && info.device_type != wgpu::DeviceType::Cpu {
        properties.features.plane.insert(Plane::Ops);
    }
    register_formats(&mut properties, features);
    properties
}

/// The formats of numbers that WGSL has there.
fn register_formats(properties: &mut DeviceProperties, features: wgpu::Features) {
    properties.register_address_type(AddressType::U32);
    let (int, uint) = (ElemType::Int(IntKind::I32), ElemType::UInt(UIntKind::U32));
    let float = ElemType::Float;
    let always = [
        ElemType::Index,
        uint,
        int,
        float(FloatKind::F32),
        float(FloatKind::Flex32),
        ElemType::Bool,
    ];
    let [half, double] = [float(FloatKind::F16), float(FloatKind::F64)];
    let of_64_bits = [ElemType::Int(IntKind::I64), ElemType::UInt(UIntKind::U64)];
    let has = |feature: wgpu::Features| features.contains(feature);
    let more = [
        (has(wgpu::Features::SHADER_F16), vec![half]),
        (has(wgpu::Features::SHADER_F64), vec![double]),
        (has(wgpu::Features::SHADER_INT64), of_64_bits.to_vec()),
    ];
    let more = more.into_iter().filter(|(there, _)| *there).flat_map(|(_, formats)| formats);
    for format in always.into_iter().chain(more) {
        properties.register_type_usage(format, TypeUsage::all());
    }
    for kind in [FloatKind::E4M3, FloatKind::E5M2, FloatKind::UE8M0] {
        properties.register_type_usage(float(kind), TypeUsage::Conversion);
    }
    let atomics = has(wgpu::Features::SHADER_FLOAT32_ATOMIC).then_some(float(FloatKind::F32));
    for format in [int, uint].into_iter().chain(atomics) {
        let uses = AtomicUsage::LoadStore | AtomicUsage::Exchange | AtomicUsage::Add;
        properties.register_atomic_type_usage(Type::atomic(format), uses);
    }
}
