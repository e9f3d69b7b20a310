//! Records the versions that every lineage names: of the compiler and of Burn.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc).arg("--version").output().ok();
    let version = version.and_then(|output| String::from_utf8(output.stdout).ok());
    let version = version.as_deref().unwrap_or("unknown").trim();
    // `rustc 1.95.0 (…)`: the name stands beside it already.
    let version = version.strip_prefix("rustc ").unwrap_or(version);
    println!("cargo::rustc-env=FIREBRAND_RUSTC={version}");

    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let packages =
        [("burn", "FIREBRAND_BURN"), ("cubecl", "FIREBRAND_CUBECL"), ("wgpu", "FIREBRAND_WGPU")];
    for (package, variable) in packages {
        println!("cargo::rustc-env={variable}={}", locked(&lock, package));
    }
}

/// The version of a package in `Cargo.lock`; `unknown` when the crate is built without one.
fn locked<'a>(lock: &'a str, package: &str) -> &'a str {
    lock.split("[[package]]")
        .find(|entry| entry.contains(&format!("name = \"{package}\"\n")))
        .and_then(|entry| entry.split("version = \"").nth(1)?.split('"').next())
        .unwrap_or("unknown")
}
