//! Graphics adapters through wgpu: what there is, and how Burn computes on one. Drivers crash, so
//! this runs in a process of its own until an adapter has shown what it can do.

use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use burn::backend::DispatchDevice;
use burn::tensor::wgpu::{WgpuBackend, wgpu};
use burn::tensor::{DType, Device, DeviceKind, FloatDType, Tensor, TensorData};

use super::adapter::{Adapter, AdapterKind, AdapterLimits, Trial};
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
    let found = finished(instance.enumerate_adapters(backends));
    let mut known: Vec<Adapter> = Vec::new();
    for (number, adapter) in found.iter().enumerate() {
        let facts = facts(api, number, adapter, &known);
        known.push(facts);
    }
    known
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
    let (limits, features) = (adapter.limits(), adapter.features());
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
    }
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
    let api = match adapter.graphics_api() {
        GraphicsApi::Vulkan => WgpuBackend::Vulkan,
        GraphicsApi::Metal => WgpuBackend::Metal,
        GraphicsApi::Dx12 => WgpuBackend::Dx12,
        GraphicsApi::Gl => WgpuBackend::Gl,
    };
    let device = Device::wgpu_options().graphics_api(api).device_kind(kind).init();
    let device = device.map_err(|error| {
        error.to_string().lines().next().unwrap_or("the driver gives no reason").to_owned()
    })?;
    open.push((key, device.clone()));
    Ok(device)
}

/// Computes small products on an adapter.
///
/// # Errors
/// In one sentence, when it cannot be opened.
pub fn trial(adapter: &Adapter) -> Result<Trial, String> {
    let began = Instant::now();
    let device = open(adapter)?;
    let half = |dtype: DType, format: FloatDType| {
        device.supports_dtype(dtype).then(|| product_error(&device, Some(format)))
    };
    let (compiler, memory_bytes) = match device.as_dispatch() {
        DispatchDevice::Cube(found) => {
            let client = found.client();
            (client.name().to_owned(), client.properties().memory.max_memory())
        }
        _ => (String::new(), None),
    };
    Ok(Trial {
        compiler,
        memory_bytes,
        f32_error: product_error(&device, None),
        f16_error: half(DType::F16, FloatDType::F16),
        bf16_error: half(DType::BF16, FloatDType::BF16),
        seconds: began.elapsed().as_secs_f64(),
    })
}

/// What a product differs by from that of the CPU, relative to its largest number.
fn product_error(device: &Device, half: Option<FloatDType>) -> f64 {
    const SIZE: usize = 64;
    let numbers = |factor: usize| -> TensorData {
        #[expect(clippy::cast_precision_loss)] // small numbers
        let list = (0..SIZE * SIZE).map(|i| ((i * factor) % 101) as f32 / 101.0 - 0.5);
        TensorData::new(list.collect::<Vec<f32>>(), [SIZE, SIZE])
    };
    let product = |device: &Device, half: Option<FloatDType>| -> Vec<f32> {
        let [a, b] = [37, 53].map(|factor| {
            let plain: Tensor<2> = Tensor::from_data(numbers(factor), device);
            half.map_or(plain.clone(), |half| plain.cast(half))
        });
        let found = a.matmul(b.transpose()).cast(FloatDType::F32).try_into_data();
        let list = found.ok().and_then(|data| data.try_into_vec().ok());
        list.unwrap_or_else(|| vec![f32::NAN; SIZE * SIZE])
    };
    let (ours, reference) = (product(device, half), product(&Device::flex(), None));
    let largest = reference.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    let differences = ours.iter().zip(&reference).map(|(a, b)| f64::from((a - b).abs()));
    let wrong = |max: f64, difference: f64| match difference.is_nan() {
        true => f64::INFINITY,
        false => max.max(difference),
    };
    differences.fold(0.0, wrong) / f64::from(largest)
}
