//! Graphics adapters through wgpu: what there is, and how Burn computes on one. Drivers crash, so
//! this runs in a process of its own until an adapter has shown what it can do.

use std::cell::Cell;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use burn::backend::DispatchDevice;
use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{DType, Device, DeviceKind, FloatDType, Tensor, TensorData};
use burn_cubecl::CubeBackend;

use super::adapter::{Adapter, AdapterKind, AdapterLimits, Trial};
use super::product::{elem, rounded_as_loaded};
use super::wgsl;
use crate::config::GraphicsApi;

/// The interfaces of this system, best first.
pub const APIS: &[GraphicsApi] = if cfg!(target_os = "macos") {
    &[GraphicsApi::Metal]
} else if cfg!(windows) {
    &[GraphicsApi::Vulkan, GraphicsApi::Dx12, GraphicsApi::Gl]
} else {
    &[GraphicsApi::Vulkan, GraphicsApi::Gl]
};

/// Devices that are open. An adapter is opened once in a process.
static OPEN: Mutex<Vec<(Key, Device)>> = Mutex::new(Vec::new());
type Key = (String, AdapterKind, usize);

/// The adapters that an interface offers, in its own order.
pub fn adapters(api: GraphicsApi) -> Vec<Adapter> {
    let mut known: Vec<Adapter> = Vec::new();
    for (number, adapter) in enumerated(api).iter().enumerate() {
        let facts = facts(api, number, adapter, &known);
        known.push(facts);
    }
    known
}

fn enumerated(api: GraphicsApi) -> Vec<wgpu::Adapter> {
    let backends = match api {
        GraphicsApi::Vulkan => wgpu::Backends::VULKAN,
        GraphicsApi::Metal => wgpu::Backends::METAL,
        GraphicsApi::Dx12 => wgpu::Backends::DX12,
        GraphicsApi::Gl => wgpu::Backends::GL,
    };
    let instance = wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends,
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    });
    finished(instance.enumerate_adapters(backends))
}

/// The value of a future that is ready; on native systems these are.
fn finished<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        std::thread::yield_now();
    }
}

fn facts(api: GraphicsApi, number: usize, adapter: &wgpu::Adapter, before: &[Adapter]) -> Adapter {
    let info = adapter.get_info();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
        wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
        wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
        wgpu::DeviceType::Cpu => AdapterKind::Software,
        wgpu::DeviceType::Other => AdapterKind::Other,
    };
    let (limits, features, driver) = (adapter.limits(), adapter.features(), vulkan(adapter));
    Adapter {
        api: api.name().to_owned(),
        number,
        name: info.name,
        kind,
        number_of_kind: before.iter().filter(|other| other.kind == kind).count(),
        driver: info.driver,
        driver_info: info.driver_info,
        pci: (info.vendor, info.device),
        limits: AdapterLimits {
            binding_bytes: limits.max_storage_buffer_binding_size,
            buffer_bytes: limits.max_buffer_size,
            bindings: limits.max_storage_buffers_per_shader_stage,
            workgroup_threads: limits.max_compute_invocations_per_workgroup,
            workgroup_size: [
                limits.max_compute_workgroup_size_x,
                limits.max_compute_workgroup_size_y,
                limits.max_compute_workgroup_size_z,
            ],
            workgroup_bytes: limits.max_compute_workgroup_storage_size,
            dispatch_workgroups: limits.max_compute_workgroups_per_dimension,
        },
        f16: features.contains(wgpu::Features::SHADER_F16),
        subgroups: features.contains(wgpu::Features::SUBGROUP),
        subgroup_size: (info.subgroup_min_size, info.subgroup_max_size),
        explicit_layout: driver.as_ref().map(|driver| driver.explicit_layout),
        bfloat16: driver.is_some_and(|driver| driver.bfloat16),
    }
}

/// What only the driver of Vulkan tells.
#[cfg_attr(target_os = "macos", allow(dead_code))] // there is none
struct VulkanDriver {
    /// Whether it has `VK_KHR_workgroup_memory_explicit_layout`.
    explicit_layout: bool,
    /// Whether it has `VK_KHR_shader_bfloat16`.
    bfloat16: bool,
    /// The largest heap of the card.
    memory_bytes: Option<u64>,
}

/// None of other interfaces.
#[cfg(not(target_os = "macos"))]
#[allow(unsafe_code)] // wgpu lends what is beneath it so
fn vulkan(adapter: &wgpu::Adapter) -> Option<VulkanDriver> {
    const ON_DEVICE: u32 = 1; // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
    // SAFETY: nothing is changed, and all is given back before the adapter is.
    let driver = unsafe { adapter.as_hal::<wgpu::hal::api::Vulkan>() }?;
    let capabilities = driver.physical_device_capabilities();
    // SAFETY: a question about a device that is there, to the instance that it is of.
    let memory = unsafe {
        let instance = driver.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(driver.raw_physical_device())
    };
    let heaps = memory.memory_heaps.iter().take(memory.memory_heap_count as usize);
    let heaps = heaps.filter(|heap| heap.flags.as_raw() & ON_DEVICE != 0);
    Some(VulkanDriver {
        explicit_layout: capabilities
            .supports_extension(c"VK_KHR_workgroup_memory_explicit_layout"),
        bfloat16: capabilities.supports_extension(c"VK_KHR_shader_bfloat16"),
        memory_bytes: heaps.map(|heap| heap.size).max(),
    })
}

#[cfg(target_os = "macos")]
fn vulkan(_: &wgpu::Adapter) -> Option<VulkanDriver> {
    None
}

/// Opens an adapter.
///
/// # Errors
/// In one sentence, when the driver does not let it be used.
pub fn open(adapter: &Adapter) -> Result<Device, String> {
    let key = (adapter.api.clone(), adapter.kind, adapter.number_of_kind);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, device)) = open.iter().find(|(other, _)| *other == key) {
        return Ok(device.clone());
    }
    let index = adapter.number_of_kind;
    let kind = match adapter.kind {
        AdapterKind::Discrete => DeviceKind::DiscreteGpu(index),
        AdapterKind::Integrated => DeviceKind::IntegratedGpu(index),
        AdapterKind::Virtual => DeviceKind::VirtualGpu(index),
        AdapterKind::Software if index == 0 => DeviceKind::Cpu,
        AdapterKind::Other if index == 0 => DeviceKind::DefaultDevice,
        AdapterKind::Software | AdapterKind::Other => {
            return Err(format!(
                "only the first adapter that is a {} can be used",
                adapter.kind.describe()
            ));
        }
    };
    let device = match adapter.graphics_api() {
        GraphicsApi::Vulkan if !adapter.takes_spirv() => in_wgsl(adapter, kind),
        GraphicsApi::Vulkan => as_burn_does(WgpuBackend::Vulkan, kind),
        GraphicsApi::Metal => as_burn_does(WgpuBackend::Metal, kind),
        GraphicsApi::Dx12 => as_burn_does(WgpuBackend::Dx12, kind),
        GraphicsApi::Gl => as_burn_does(WgpuBackend::Gl, kind),
    };
    let device = device
        .map_err(|error| error.lines().next().unwrap_or("the driver gives no reason").to_owned())?;
    open.push((key, device.clone()));
    Ok(device)
}

/// With the compiler that cubecl-wgpu chooses.
fn as_burn_does(api: WgpuBackend, kind: DeviceKind) -> Result<Device, String> {
    let device = Device::wgpu_options().graphics_api(api).device_kind(kind).init();
    device.map_err(|error| error.to_string())
}

fn in_wgsl(adapter: &Adapter, kind: DeviceKind) -> Result<Device, String> {
    let there = enumerated(GraphicsApi::Vulkan).into_iter().nth(adapter.number);
    let there = there.ok_or("the driver does not show it any more")?;
    let memory_bytes = vulkan(&there).and_then(|driver| driver.memory_bytes);
    wgsl::open(&there, kind, memory_bytes)
}

/// Computes small products on an adapter.
///
/// # Errors
/// In one sentence, when it cannot be opened.
pub fn trial(adapter: &Adapter) -> Result<Trial, String> {
    let began = Instant::now();
    let device = open(adapter)?;
    let (mut compiler, mut memory_bytes, mut units_multiply) = (String::new(), None, false);
    if let DispatchDevice::Cube(found) = device.as_dispatch() {
        let client = found.client();
        let properties = client.properties();
        (compiler, memory_bytes) = (client.name().to_owned(), properties.memory.max_memory());
        let wanted = [DType::BF16, DType::BF16, DType::F32].map(elem);
        let cmma = &properties.features.matmul.cmma;
        units_multiply = cmma.iter().any(|it| [it.a_type, it.b_type, it.cd_type] == wanted);
    }
    let f16 = device.supports_dtype(DType::F16);
    let bf16 = adapter.tries_bfloat16(device.supports_dtype(DType::BF16), units_multiply);
    let (bf16_error, bf16_failure) = match bf16.then(|| bfloat16_error(&device)) {
        None => (None, None),
        Some(Ok(error)) => (Some(error), None),
        Some(Err(why)) => (None, Some(why)),
    };
    let half = |x: Tensor<2>| x.cast(FloatDType::F16);
    Ok(Trial {
        compiler_reason: adapter.why(&compiler).to_owned(),
        compiler,
        memory_bytes,
        f32_error: product_error(&device, |a, b| a.matmul(b)),
        f16_error: f16.then(|| product_error(&device, |a, b| half(a).matmul(half(b)))),
        bf16_error,
        bf16_failure,
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What products with factors in bfloat16 differ by, as a step has them: of numbers in 32 bits that
/// are rounded as they are loaded, and of weights that are kept rounded, either way round. A panic
/// costs this format alone.
fn bfloat16_error(device: &Device) -> Result<f64, String> {
    const NONE: &str = "no kernel multiplies it";
    let missing = Cell::new(false);
    let multiply = |a: Tensor<2>, b: Tensor<2>| -> Tensor<2> {
        let [a, b] = [a, b].map(|x| x.try_into_primitive::<CubeBackend>().ok());
        let found = a.zip(b).and_then(|(a, b)| rounded_as_loaded(&a, &b, DType::BF16));
        found.map(Tensor::from_primitive::<CubeBackend>).unwrap_or_else(|| {
            missing.set(true);
            Tensor::zeros([1, 1], &Device::flex())
        })
    };
    let kept = |x: Tensor<2>| x.cast(FloatDType::BF16);
    let all = || {
        let rounded = product_error(device, multiply);
        let right = product_error(device, |a, b| multiply(a, kept(b)));
        rounded.max(right).max(product_error(device, |a, b| multiply(kept(a), b)))
    };
    let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(all));
    found.ok().filter(|_| !missing.get()).ok_or_else(|| NONE.to_owned())
}

/// What a product differs by from that of the CPU, relative to its largest number.
fn product_error(device: &Device, multiply: impl Fn(Tensor<2>, Tensor<2>) -> Tensor<2>) -> f64 {
    const SIZE: usize = 64;
    let numbers = |factor: usize| -> TensorData {
        #[expect(clippy::cast_precision_loss)] // small numbers
        let list = (0..SIZE * SIZE).map(|i| ((i * factor) % 101) as f32 / 101.0 - 0.5);
        TensorData::new(list.collect::<Vec<f32>>(), [SIZE, SIZE])
    };
    let factors = |device: &Device| [37, 53].map(|it| Tensor::<2>::from_data(numbers(it), device));
    let read = |found: Tensor<2>| -> Vec<f32> {
        let found = found.cast(FloatDType::F32).try_into_data().ok();
        let list: Option<Vec<f32>> = found.and_then(|data| data.try_into_vec().ok());
        list.filter(|list| list.len() == SIZE * SIZE).unwrap_or_else(|| vec![f32::NAN; SIZE * SIZE])
    };
    let ([a, b], [c, d]) = (factors(device), factors(&Device::flex()));
    let (ours, reference) = (read(multiply(a, b.transpose())), read(c.matmul(d.transpose())));
    let largest = reference.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let differences = ours.iter().zip(&reference).map(|(a, b)| f64::from((a - b).abs()));
    let wrong = |max: f64, difference: f64| match difference.is_nan() {
        true => f64::INFINITY,
        false => max.max(difference),
    };
    differences.fold(0.0, wrong) / f64::from(largest)
}
