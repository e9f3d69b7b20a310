//! The power goes while a run saves: a file system on a loop device is shut down under it, so that
//! all that was not made durable is lost. For root only, and only when it is asked for:
//!
//! `FIREBRAND_POWER_CUTS=50 cargo test --release --test it -- --ignored power_cut:: --nocapture`
//!
//! Needs `mkfs.ext4`, `mkfs.xfs` for xfs, `losetup`, `mount`, and `xfs_io` (package xfsprogs),
//! whose `shutdown` works on both.
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::Run;
use firebrand::random::Stream;

const STEPS: &str = "train.max_steps=40";

fn works(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

fn must(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// A file system of its own; gone with the test.
struct Disk {
    device: String,
    mount: PathBuf,
}

impl Disk {
    fn new(run: &Run, kind: &str) -> Option<Self> {
        let (image, mount) = (run.path(&format!("{kind}.img")), run.path(&format!("on-{kind}")));
        let image = image.to_str().unwrap();
        must("truncate", &["-s", "400M", image]);
        let quiet = if kind == "ext4" { "-qF" } else { "-qf" };
        if !works(&format!("mkfs.{kind}"), &[quiet, image]) {
            return None;
        }
        let device = Command::new("losetup").args(["-f", "--show", image]).output().ok()?;
        let device = String::from_utf8(device.stdout).ok()?.trim().to_owned();
        std::fs::create_dir(&mount).unwrap();
        let disk = Self { device, mount };
        disk.is_mounted().then_some(disk)
    }

    fn is_mounted(&self) -> bool {
        works("mount", &[&self.device, self.mount.to_str().unwrap()])
    }

    /// Everything that was not made durable is lost.
    fn cut(&self) {
        must("xfs_io", &["-x", "-c", "shutdown", self.mount.to_str().unwrap()]);
    }

    /// The power is back.
    fn come_back(&self) {
        let mount = self.mount.to_str().unwrap();
        for _ in 0..50 {
            if works("umount", &[mount]) {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(self.is_mounted(), "the file system does not come back");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        works("umount", &[self.mount.to_str().unwrap()]);
        works("losetup", &["-d", &self.device]);
    }
}

fn arguments(output: &str) -> Vec<String> {
    let set =
        ["train", "tiny.toml", "--quiet", "--set", STEPS, "--set", "checkpoint.every_steps=2"];
    let mut all: Vec<String> = set.iter().map(|word| (*word).to_owned()).collect();
    all.extend(["--set".to_owned(), format!("output.dir={output}")]);
    all
}

/// Steps that were reported as saved, in the order in which they were.
fn reported(said: &str) -> Option<u64> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("saved step "));
    lines.filter_map(|line| line.split(' ').next()?.parse().ok()).next_back()
}

fn end(folder: &Path) -> Vec<String> {
    let step = folder.join("step-00000040");
    [
        folder.join("metrics.jsonl"),
        step.join("model.safetensors"),
        step.join("optimizer.safetensors"),
    ]
    .iter()
    .map(|path| firebrand::files::hash_file(path, "").unwrap().sha256.to_string())
    .collect()
}

/// Said past the harness, which keeps what passing tests say to itself.
fn skipped(kind: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: power cuts on {kind}: {why}");
}

fn cut_again_and_again(kind: &str) {
    let cuts = std::env::var("FIREBRAND_POWER_CUTS").unwrap_or_else(|_| "10".to_owned());
    let cuts: u64 = cuts.parse().expect("a number");
    if !works("xfs_io", &["-V"]) {
        skipped(kind, "there is no `xfs_io` (package xfsprogs)");
        return;
    }
    let run = Run::new();
    let Some(disk) = Disk::new(&run, kind) else {
        skipped(kind, "cannot make or mount such a file system here");
        return;
    };
    let straight = arguments("straight");
    run.succeeds(&straight.iter().map(String::as_str).collect::<Vec<_>>());
    let expected = end(&run.path("straight"));
    let stream = Stream::new(5);
    let (mut done, mut ends, mut attempts) = (0, 0, 0);
    while done < cuts {
        let folder = disk.mount.join(format!("run-{ends}"));
        let output = folder.to_str().unwrap().to_owned();
        loop {
            let mut all = arguments(&output);
            all.retain(|word| word != "--quiet");
            let mut child = Command::new(env!("CARGO_BIN_EXE_firebrand"))
                .args(&all)
                .current_dir(run.path("."))
                .env("XDG_CONFIG_HOME", run.path("settings"))
                .env("FIREBRAND_CACHE", run.path("cache"))
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            attempts += 1;
            let limit = 0.03 + 0.3 * stream.uniform(attempts);
            std::thread::sleep(Duration::from_secs_f64(limit));
            if let Some(status) = child.try_wait().unwrap() {
                let said = child.wait_with_output().unwrap();
                assert!(status.success(), "{}", String::from_utf8_lossy(&said.stderr));
                break;
            }
            disk.cut();
            let _ = child.kill();
            let said = child.wait_with_output().unwrap();
            disk.come_back();
            done += 1;
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            if let Some(step) = reported(&said) {
                let newest = firebrand::checkpoint::newest(&folder).unwrap();
                let newest = newest.iter().find(|(_, path)| {
                    firebrand::checkpoint::RestoredCheckpoint::open(path).is_ok()
                });
                let found = newest.map(|(step, _)| *step);
                assert!(
                    found >= Some(step),
                    "{kind}: step {step} was reported, {found:?} is there"
                );
            }
        }
        ends += 1;
        assert_eq!(end(&folder), expected, "{kind}, after {done} cuts");
    }
    println!("{kind}: {done} power cuts, {ends} runs to the end, all equal");
}

#[test]
#[ignore = "root only: shuts file systems down"]
fn a_power_cut_on_ext4_changes_no_byte() {
    cut_again_and_again("ext4");
}

#[test]
#[ignore = "root only: shuts file systems down"]
fn a_power_cut_on_xfs_changes_no_byte() {
    cut_again_and_again("xfs");
}
