//! A Vulkan layer, for tests: cubecl-spirv 0.11.3 declares memory that a workgroup shares as a pointer
//! to a pointer where a device has no `VK_KHR_workgroup_memory_explicit_layout` (two types are swapped
//! in `lower_shared_implicit`). Drivers of cards have that extension, software drivers have not, and
//! Firebrand gives SPIR-V to none without it. The layer puts these declarations right on their way to
//! the driver, and says for it that it has the extension: without the feature that belongs to it, so
//! that the declarations stay those that it puts right.
//!
//! The structures are those of `vulkan/vk_layer.h`; `tests/it/vulkan.rs` compiles this file.

#![allow(non_snake_case)]

use std::ffi::{CStr, c_char, c_void};
use std::ptr::null_mut;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

type Function = Option<unsafe extern "system" fn()>;
type GetFunction = unsafe extern "system" fn(*mut c_void, *const c_char) -> Function;
type CreateInstance = unsafe extern "system" fn(*const Chain, *const c_void, *mut *mut c_void) -> i32;
type CreateDevice =
    unsafe extern "system" fn(*mut c_void, *const DeviceInfo, *const c_void, *mut *mut c_void) -> i32;
type ListExtensions =
    unsafe extern "system" fn(*mut c_void, *const c_char, *mut u32, *mut Extension) -> i32;
type CreateModule =
    unsafe extern "system" fn(*mut c_void, *const ModuleInfo, *const c_void, *mut u64) -> i32;

/// What every structure of Vulkan begins with, and what the loader's own go on with.
#[repr(C)]
struct Chain {
    kind: i32,
    next: *mut Chain,
    function: i32,
    link: *mut Link,
}

/// The next layer, or the driver.
#[repr(C)]
struct Link {
    next: *mut Link,
    of_instance: GetFunction,
    of_device: GetFunction,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct DeviceInfo {
    kind: i32,
    next: *const Chain,
    flags: u32,
    queues: u32,
    queue_infos: *const c_void,
    layers: u32,
    layer_names: *const *const c_char,
    extensions: u32,
    extension_names: *const *const c_char,
    features: *const c_void,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Extension {
    name: [c_char; 256],
    version: u32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct ModuleInfo {
    kind: i32,
    next: *const c_void,
    flags: u32,
    bytes: usize,
    code: *const u32,
}

#[repr(C)]
pub struct Negotiation {
    kind: i32,
    next: *mut c_void,
    version: u32,
    of_instance: Option<GetFunction>,
    of_device: Option<GetFunction>,
    of_physical_device: Option<GetFunction>,
}

const INSTANCE_LINK: i32 = 47;
const DEVICE_LINK: i32 = 48;
const ERROR: i32 = -3; // VK_ERROR_INITIALIZATION_FAILED
const INCOMPLETE: i32 = 5;
const LAYOUT: &CStr = c"VK_KHR_workgroup_memory_explicit_layout";

static INSTANCE: AtomicPtr<c_void> = AtomicPtr::new(null_mut());
static OF_INSTANCE: OnceLock<GetFunction> = OnceLock::new();
static OF_DEVICE: OnceLock<GetFunction> = OnceLock::new();
static NEXT_LIST: OnceLock<ListExtensions> = OnceLock::new();
static NEXT_MODULE: OnceLock<CreateModule> = OnceLock::new();

/// Takes this layer's link out of a chain.
unsafe fn take_link(mut at: *const Chain, kind: i32) -> Option<(GetFunction, GetFunction)> {
    while !at.is_null() {
        let here = unsafe { &mut *at.cast_mut() };
        if here.kind == kind && here.function == 0 && !here.link.is_null() {
            let link = unsafe { &*here.link };
            here.link = link.next;
            return Some((link.of_instance, link.of_device));
        }
        at = here.next;
    }
    None
}

unsafe extern "system" fn create_instance(
    info: *const Chain,
    allocator: *const c_void,
    instance: *mut *mut c_void,
) -> i32 {
    unsafe {
        let Some((get, _)) = take_link((*info).next, INSTANCE_LINK) else { return ERROR };
        let _ = OF_INSTANCE.set(get);
        let Some(create) = get(null_mut(), c"vkCreateInstance".as_ptr()) else { return ERROR };
        let create: CreateInstance = std::mem::transmute(create);
        let result = create(info, allocator, instance);
        if result == 0 {
            INSTANCE.store(*instance, Ordering::SeqCst);
            if let Some(list) = get(*instance, c"vkEnumerateDeviceExtensionProperties".as_ptr()) {
                let _ = NEXT_LIST.set(std::mem::transmute::<_, ListExtensions>(list));
            }
        }
        result
    }
}

unsafe extern "system" fn create_device(
    physical: *mut c_void,
    info: *const DeviceInfo,
    allocator: *const c_void,
    device: *mut *mut c_void,
) -> i32 {
    unsafe {
        let Some((get, get_of_device)) = take_link((*info).next, DEVICE_LINK) else { return ERROR };
        let instance = INSTANCE.load(Ordering::SeqCst);
        let Some(create) = get(instance, c"vkCreateDevice".as_ptr()) else { return ERROR };
        let create: CreateDevice = std::mem::transmute(create);
        // The driver does not know the extension that is said of it.
        let names: Vec<*const c_char> = (0..(*info).extensions as usize)
            .map(|at| *(*info).extension_names.add(at))
            .filter(|name| CStr::from_ptr(*name) != LAYOUT)
            .collect();
        let known = DeviceInfo {
            extensions: names.len() as u32,
            extension_names: names.as_ptr(),
            ..*info
        };
        let result = create(physical, &known, allocator, device);
        if result == 0 {
            let _ = OF_DEVICE.set(get_of_device);
            if let Some(module) = get_of_device(*device, c"vkCreateShaderModule".as_ptr()) {
                let _ = NEXT_MODULE.set(std::mem::transmute::<_, CreateModule>(module));
            }
        }
        result
    }
}

/// What the driver has, and explicit layout.
unsafe extern "system" fn list_extensions(
    physical: *mut c_void,
    layer: *const c_char,
    count: *mut u32,
    extensions: *mut Extension,
) -> i32 {
    unsafe {
        let Some(next) = NEXT_LIST.get() else { return ERROR };
        if !layer.is_null() {
            return next(physical, layer, count, extensions);
        }
        let mut there = 0;
        let result = next(physical, layer, &mut there, null_mut());
        if result != 0 {
            return result;
        }
        let mut all = vec![Extension { name: [0; 256], version: 0 }; there as usize];
        let result = next(physical, layer, &mut there, all.as_mut_ptr());
        if result != 0 {
            return result;
        }
        all.truncate(there as usize);
        if !all.iter().any(|extension| CStr::from_ptr(extension.name.as_ptr()) == LAYOUT) {
            let mut name = [0; 256];
            for (to, from) in name.iter_mut().zip(LAYOUT.to_bytes()) {
                *to = *from as c_char;
            }
            all.push(Extension { name, version: 1 });
        }
        if extensions.is_null() {
            *count = all.len() as u32;
            return 0;
        }
        let room = all.len().min(*count as usize);
        std::ptr::copy_nonoverlapping(all.as_ptr(), extensions, room);
        *count = room as u32;
        if room < all.len() { INCOMPLETE } else { 0 }
    }
}

/// Variables of a workgroup whose type is a pointer to a pointer become what that points to.
fn right(code: &[u32]) -> Vec<u32> {
    const POINTER: u32 = 32;
    const VARIABLE: u32 = 59;
    const WORKGROUP: u32 = 4;
    let mut code = code.to_vec();
    let mut pointee = vec![0_u32; code.get(3).map_or(0, |bound| *bound as usize)];
    let mut at = 5;
    while at < code.len() {
        let (operation, length) = (code[at] & 0xffff, (code[at] >> 16) as usize);
        if length == 0 || at + length > code.len() {
            break;
        }
        if operation == POINTER && code[at + 2] == WORKGROUP {
            pointee[code[at + 1] as usize] = code[at + 3];
        } else if operation == VARIABLE && code[at + 3] == WORKGROUP {
            let inner = pointee[code[at + 1] as usize];
            if pointee[inner as usize] != 0 {
                code[at + 1] = inner;
            }
        }
        at += length;
    }
    code
}

unsafe extern "system" fn create_module(
    device: *mut c_void,
    info: *const ModuleInfo,
    allocator: *const c_void,
    module: *mut u64,
) -> i32 {
    unsafe {
        let Some(next) = NEXT_MODULE.get() else { return ERROR };
        let code = right(std::slice::from_raw_parts((*info).code, (*info).bytes / 4));
        next(device, &ModuleInfo { code: code.as_ptr(), ..*info }, allocator, module)
    }
}

fn function<T>(of: T) -> Function {
    // Functions of all signatures are one pointer each.
    unsafe { std::mem::transmute_copy::<T, Function>(&of) }
}

unsafe extern "system" fn of_instance(instance: *mut c_void, name: *const c_char) -> Function {
    unsafe {
        match CStr::from_ptr(name).to_bytes() {
            b"vkGetInstanceProcAddr" => function(of_instance as GetFunction),
            b"vkGetDeviceProcAddr" => function(of_device as GetFunction),
            b"vkEnumerateDeviceExtensionProperties" => function(list_extensions as ListExtensions),
            b"vkCreateInstance" => function(create_instance as CreateInstance),
            b"vkCreateDevice" => function(create_device as CreateDevice),
            b"vkCreateShaderModule" => function(create_module as CreateModule),
            _ => OF_INSTANCE.get().and_then(|next| next(instance, name)),
        }
    }
}

unsafe extern "system" fn of_device(device: *mut c_void, name: *const c_char) -> Function {
    unsafe {
        match CStr::from_ptr(name).to_bytes() {
            b"vkGetDeviceProcAddr" => function(of_device as GetFunction),
            b"vkCreateShaderModule" => function(create_module as CreateModule),
            _ => OF_DEVICE.get().and_then(|next| next(device, name)),
        }
    }
}

/// # Safety
/// Called by the Vulkan loader.
#[unsafe(no_mangle)]
pub unsafe extern "system" fn vkNegotiateLoaderLayerInterfaceVersion(found: *mut Negotiation) -> i32 {
    let found = unsafe { &mut *found };
    found.version = 2;
    found.of_instance = Some(of_instance);
    found.of_device = Some(of_device);
    found.of_physical_device = None;
    0
}
