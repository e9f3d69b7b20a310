//! Kernels in WGSL: what drivers of Vulkan without explicit layout are given, DX12 and OpenGL always.
//! `doctor` launches every kernel there is, products of `cubek` among them, and CubeCL writes down what
//! it makes; naga, which wgpu has as its compiler, checks each text and writes it as MSL and HLSL. The
//! machine that tests this needs neither Metal nor DX12.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use crate::common::{Run, repository};
use crate::vulkan::{environment, say};
use serde_json::Value;

/// The compiler of the kernels of the adapter of Vulkan, and why.
fn compiler(list: &Value) -> [String; 2] {
    let there = vulkan_of(list);
    assert!(there["problem"].is_null(), "{there:#}");
    ["compiler", "compiler_reason"].map(|key| there["trial"][key].as_str().unwrap().to_owned())
}

fn vulkan_of(list: &Value) -> &Value {
    let adapters = list["adapters"].as_array().unwrap();
    adapters.iter().find(|adapter| adapter["api"] == "vulkan").unwrap()
}

/// A driver without explicit layout of shared memory is given no SPIR-V of CubeCL's, which is wrong
/// there, but WGSL; everything comes out right so, and every kernel can be had for Metal and DX12.
#[test]
fn a_driver_without_explicit_layout_is_given_wgsl_that_every_interface_takes() {
    let Some(vulkan) = environment() else { return };
    let run = Run::new();
    let list = vulkan.succeeds(&run, &["devices", "--json"]);
    let [with_layer, reason] = compiler(&serde_json::from_str(&list).unwrap());
    assert_eq!(with_layer, "wgpu<spirv>", "{reason}");

    run.write(
        "cubecl.toml",
        "[compilation]\nlogger = { level = \"full\", file = \"kernels.log\" }\n",
    );
    let report = vulkan.succeeds_without_layer(&run, &["doctor", "--device", "vulkan", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["right"], true, "{}", report["verdict"]);
    let [language, reason] = compiler(&report["devices"]);
    // Drivers of Mesa that are newer than the one this was written with may have it.
    if vulkan_of(&report["devices"])["explicit_layout"] == true {
        assert_eq!(language, "wgpu<spirv>");
        return say("SKIPPED: WGSL is not tested, this lavapipe has explicit layout");
    }
    assert_eq!(language, "wgpu<wgsl>");
    let why = "the driver has no VK_KHR_workgroup_memory_explicit_layout, and CubeCL's SPIR-V for \
               those is wrong";
    assert_eq!(reason, why);
    let lines = report["parity"]["lines"].as_array().unwrap();
    let mixed = lines.iter().filter(|line| line["operation"] == "LoRA step, mixed-f16").count();
    assert_eq!(mixed, 4, "WGSL has f16 as well");

    let kernels =
        written(&String::from_utf8_lossy(&std::fs::read(run.path("kernels.log")).unwrap()));
    let missing = not_among(&kernels);
    assert!(missing.is_empty(), "no kernel of {missing:?} was launched");
    assert!(kernels.keys().any(|name| name.starts_with("matmul_entry")), "products");
    match naga() {
        Ok(()) => translates(&kernels, &run.path("text")),
        Err(why) => say(&format!("SKIPPED: kernels are not written as MSL and HLSL, {why}")),
    }
}

/// Texts in WGSL of what CubeCL has logged, by the names of their entry points.
fn written(log: &str) -> BTreeMap<String, String> {
    let texts = log.split("```wgsl\n").skip(1).filter_map(|rest| rest.split("\n```").next());
    let named = texts.filter_map(|text| {
        let name = text.split("\nfn ").nth(1)?.split('(').next()?;
        Some((name.to_owned(), text.to_owned()))
    });
    named.collect()
}

/// Kernels of our own that no text is of.
fn not_among(kernels: &BTreeMap<String, String>) -> BTreeSet<String> {
    let mut ours = BTreeSet::new();
    launched_in(&repository("src/ops/gpu"), &mut ours);
    assert!(ours.len() > 20, "{ours:?}");
    // Of `fused_attention_keys` and `fused_attention` the longer one.
    let of = |name: &String| {
        let of =
            ours.iter().filter(|kernel| name.starts_with(&format!("{kernel}_")) || name == *kernel);
        of.max_by_key(|kernel| kernel.len()).cloned()
    };
    let seen: BTreeSet<String> = kernels.keys().filter_map(of).collect();
    ours.difference(&seen).cloned().collect()
}

/// Functions that are kernels, in all files of a folder.
fn launched_in(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            launched_in(&path, names);
            continue;
        }
        let code = std::fs::read_to_string(&path).unwrap();
        for after in code.split("#[cube(launch").skip(1) {
            let name = after.split("fn ").nth(1).unwrap();
            let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap();
            names.insert(name[..end].to_owned());
        }
    }
}

/// Whether the `naga` is there that wgpu compiles with.
fn naga() -> Result<(), String> {
    let lock = std::fs::read_to_string(repository("Cargo.lock")).unwrap();
    let locked = lock.split("name = \"naga\"\nversion = \"").nth(1).unwrap();
    let locked = locked.split('"').next().unwrap();
    let install = format!("`cargo install naga-cli --version {locked}` brings it");
    let found = Command::new("naga").arg("--version").output();
    let found = found.map_err(|_| format!("there is no `naga` here; {install}"))?;
    let found = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    match found == locked {
        true => Ok(()),
        false => Err(format!("`naga` is {found} here; {install}")),
    }
}

/// Each kernel is valid, and can be written in the languages of Metal and of DX12.
fn translates(kernels: &BTreeMap<String, String>, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    let (mut failures, mut in_hlsl) = (Vec::new(), 0);
    for (number, (name, text)) in kernels.iter().enumerate() {
        let path = |ending: &str| folder.join(format!("{number}.{ending}"));
        std::fs::write(path("wgsl"), text).unwrap();
        let mut command = Command::new("naga");
        command.arg(path("wgsl")).arg(path("metal"));
        // DX12 has no atomics of floats, and CubeCL makes another kernel where there are none.
        let has_hlsl = !text.contains("atomic<f32>");
        if has_hlsl {
            in_hlsl += 1;
            command.arg(path("hlsl")).args(["--shader-model", "60"]);
        }
        let output = command.output().unwrap();
        let there = |ending: &str| path(ending).metadata().is_ok_and(|file| file.len() > 0);
        if !(output.status.success() && there("metal") && (!has_hlsl || there("hlsl"))) {
            failures.push(format!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(in_hlsl > 100, "{in_hlsl} of {} kernels in HLSL", kernels.len());
}
