//! `firebrand doctor`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
#[cfg(feature = "gpu")]
use std::time::{Duration, Instant};

use serde::Serialize;

#[cfg(feature = "gpu")]
use crate::cli::talk;
use crate::cli::{data_json, data_line, devices, named_device, step_tables};
use crate::config::RUNS;
use crate::device::{self, OpenedDevice, Processor, Survey};
use crate::engine::parity::{Parity, parity};
use crate::engine::{CARDS, Card, PredictedStep, StepLaunches, predicted_steps, step_launches};
use crate::error::{Context, Result, printable};
use crate::event::bytes;
use crate::files::{DiskSpeed, cache_home, disk_speed};
use crate::ops::cpu::{ProductSpeed, product_speed};

/// Check that this machine computes right, and say what it is: text to paste into a report
///
/// Names driver, limits and number formats of the device; compares every operation, forward and
/// backward, and a step with each kind of adapter on it with the CPU; measures matrix products of
/// the CPU, and the disks of checkpoints and cache. Exit code 0: everything is right; 1: something
/// computes wrong.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// As `device.name` in a configuration, such as auto, gpu:1, vulkan or software
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// The folder of checkpoints whose disk is measured
    #[arg(long, value_name = "DIR", default_value = RUNS)]
    checkpoints: PathBuf,
    /// A model directory of which every weight is read: NaN or infinite ones end with exit code 2
    #[arg(long, value_name = "DIR")]
    weights: Option<PathBuf>,
    /// Count the kernels that a LoRA step launches, of each layer and beside them, and what they
    /// move and compute; and predict how long a step would take on some cards
    #[arg(long)]
    profile: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// The hidden command that compares.
#[cfg(feature = "gpu")]
pub const COMPARE_COMMAND: &str = "compare-device";
/// How long one operation may take, kernels compiled.
#[cfg(feature = "gpu")]
const PATIENCE: Duration = Duration::from_secs(300);
/// After so long every operation is said before it begins.
#[cfg(feature = "gpu")]
const SILENCE: Duration = Duration::from_secs(5);

/// Everything that was found.
#[derive(Debug, Serialize)]
struct Report {
    firebrand: &'static str,
    burn: &'static str,
    cubecl: &'static str,
    wgpu: &'static str,
    system: String,
    processor: Processor,
    products: ProductSpeed,
    devices: Survey,
    device: String,
    backend: &'static str,
    reason: String,
    precision: &'static str,
    precision_reason: String,
    disks: Vec<DiskSpeed>,
    disk_failures: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<String>,
    parity: Parity,
    #[serde(skip_serializing_if = "Option::is_none")]
    launches: Option<Vec<StepLaunches>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    predicted: Option<Predicted>,
    verdict: String,
    right: bool,
}

/// Steps that were not measured.
#[derive(Debug, Serialize)]
struct Predicted {
    cards: [Card; CARDS.len()],
    steps: Vec<PredictedStep>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let wanted = named_device(&args.device)?;
    let weights = args.weights.as_deref().map(weights).transpose()?;
    let opened = device::open(wanted, 0)?;
    let report = Report { weights, ..examine(&opened, &args.checkpoints)? };
    // A device that computes wrong, or whose driver crashes, is asked for nothing more.
    let launches = (args.profile && report.right).then(|| step_launches(&opened)).transpose()?;
    let predicted = args.profile.then(|| Predicted { cards: CARDS, steps: predicted_steps() });
    let report = Report { launches, predicted, ..report };
    if args.json {
        data_json(&serde_json::to_string_pretty(&report).context("cannot encode the report")?)?;
    } else {
        lines(&report).iter().try_for_each(|line| data_line(&printable(line)))?;
    }
    Ok(ExitCode::from(u8::from(!report.right)))
}

/// Reads all weights of a model once.
fn weights(directory: &Path) -> Result<String> {
    let found = crate::model::inspect(directory)?;
    found.headers.refuse_not_finite()?;
    let (size, name) = (bytes(found.headers.bytes()), directory.display());
    Ok(format!("{size} in {name}, every number finite"))
}

fn examine(opened: &OpenedDevice, checkpoints: &Path) -> Result<Report> {
    let devices = device::survey();
    let precision = device::precision(crate::config::PrecisionChoice::Auto, opened)?;
    let (mut disks, mut disk_failures) = (Vec::new(), Vec::new());
    for folder in [nearest(checkpoints), nearest(&cache_home()?)] {
        match disk_speed(&folder) {
            Ok(speed) => disks.push(speed),
            Err(error) => disk_failures.push(format!("{}: {}", folder.display(), error.what)),
        }
    }
    let parity = compared(opened)?;
    let (right, verdict) = (parity.is_right(), verdict(&parity, opened));
    Ok(Report {
        firebrand: env!("CARGO_PKG_VERSION"),
        burn: env!("FIREBRAND_BURN"),
        cubecl: env!("FIREBRAND_CUBECL"),
        wgpu: env!("FIREBRAND_WGPU"),
        system: system(),
        processor: device::processor(),
        products: product_speed(),
        devices,
        device: opened.name.clone(),
        backend: opened.backend,
        reason: opened.reason.clone(),
        precision: precision.arithmetic.name(),
        precision_reason: precision.reason,
        disks,
        disk_failures,
        weights: None,
        parity,
        launches: None,
        predicted: None,
        verdict,
        right,
    })
}

fn verdict(parity: &Parity, opened: &OpenedDevice) -> String {
    if let Some(why) = &parity.failure {
        return format!("{} cannot be used: {why}", opened.name);
    }
    let mut names: Vec<&str> = parity.wrong().iter().map(|line| line.operation.as_str()).collect();
    names.dedup();
    match (names.is_empty(), opened.on_gpu()) {
        (true, false) => "the CPU repeats itself bit for bit".to_owned(),
        (true, true) => format!("{} computes what the CPU computes", opened.name),
        (false, _) => format!("{} computes wrong: {}", opened.name, names.join(", ")),
    }
}

/// Compares a device with the CPU; one with a driver in a process of its own, which a crash of the
/// driver ends in place of this one.
fn compared(opened: &OpenedDevice) -> Result<Parity> {
    #[cfg(feature = "gpu")]
    if let Some(adapter) = &opened.adapter {
        let adapter = serde_json::to_string(adapter).context("cannot encode the adapter")?;
        let words = [COMPARE_COMMAND.to_owned(), adapter];
        let (mut stage, began) = (String::new(), Instant::now());
        let mut at = |what: &str| {
            what.clone_into(&mut stage);
            if began.elapsed() > SILENCE {
                talk(&format!("comparing with the CPU: {}", printable(what)));
            }
        };
        if let Some(found) = device::ask_aside(&words, PATIENCE, &mut at) {
            return Ok(found.unwrap_or_else(|why| crashed(&stage, &why)));
        }
    }
    parity(opened, &mut |_| Ok(()))
}

/// What is known when the process that compared did not come to its end.
#[cfg(feature = "gpu")]
fn crashed(stage: &str, why: &str) -> Parity {
    let at = if stage.is_empty() { String::new() } else { format!(", at {stage},") };
    let why = format!("in a comparison with the CPU{at} {why}");
    Parity { failure: Some(why), ..Parity::default() }
}

/// The other half: what the hidden command prints.
#[cfg(feature = "gpu")]
pub fn answer(adapter: &str) -> Result<ExitCode> {
    let adapter = serde_json::from_str(adapter).context("not an adapter")?;
    let mut at = |what: &str| data_line(&device::stage(what));
    let found = device::open_adapter(&adapter).and_then(|opened| parity(&opened, &mut at));
    let found = found.map_err(|error| error.with_causes());
    data_json(&serde_json::to_string(&found).context("cannot encode the answer")?)?;
    Ok(ExitCode::SUCCESS)
}

/// The folder, or the nearest one above it that exists.
fn nearest(folder: &Path) -> PathBuf {
    let there = folder.ancestors().find(|path| path.is_dir());
    there.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

/// The system's name for itself.
fn system() -> String {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let release = read("/etc/os-release").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    let kernel = read("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned());
    let named: Vec<String> = release.into_iter().chain(kernel).collect();
    if named.is_empty() { std::env::consts::OS.to_owned() } else { named.join(", kernel ") }
}

fn lines(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "firebrand {} (burn {}, cubecl {}, wgpu {}) on {}",
        report.firebrand, report.burn, report.cubecl, report.wgpu, report.system
    )];
    let processor = &report.processor;
    lines.push(format!(
        "processor   {}, {} threads, {}, {}, {}",
        processor.name.as_deref().unwrap_or("not told"),
        processor.threads,
        processor.architecture,
        processor.instructions.join(" "),
        if processor.sha { "SHA-256 in hardware" } else { "no SHA-256 in hardware" }
    ));
    lines.push(products(&report.products));
    lines.extend(devices::lines(&report.devices));
    lines.push(format!("device      {}: {}", report.device, report.reason));
    lines.push(format!("precision   {}: {}", report.precision, report.precision_reason));
    lines.extend(report.disks.iter().map(disk));
    lines.extend(report.disk_failures.iter().map(|why| format!("disk        {why}")));
    lines.extend(report.weights.iter().map(|found| format!("weights     {found}")));
    lines.push(String::new());
    let parity = &report.parity;
    if parity.failure.is_none() {
        lines.push(format!(
            "compared with the CPU in {:.1} s; largest difference, and what it may be:",
            parity.seconds
        ));
    }
    for line in &parity.lines {
        let mark = if line.is_right() { "ok   " } else { "WRONG" };
        let what = format!("{}, {}", line.operation, line.output);
        let why = line.failure.as_ref().map_or(String::new(), |why| format!("  {why}"));
        lines
            .push(format!("{mark} {what:<40} {:>8.1e}  {:>7.0e}{why}", line.error, line.tolerance));
    }
    lines.extend(report.launches.iter().flatten().flat_map(step_tables::launches));
    let predicted = report.predicted.iter();
    lines.extend(predicted.flat_map(|found| step_tables::predicted(&found.steps)));
    lines.push(String::new());
    lines.push(format!("verdict: {}", report.verdict));
    lines
}

fn products(speed: &ProductSpeed) -> String {
    let bf16 = speed.bf16_gflops.zip(speed.bf16_tile);
    let bf16 = bf16.map_or(String::new(), |(gflops, tile)| format!(", bf16 {gflops:.0} by {tile}"));
    format!(
        "products    f32 {:.0} GFLOP/s by tiles {}{bf16}, on {} threads; {:.0} at most in f32, \
         reached to {:.0} %; steps of {}",
        speed.f32_gflops,
        speed.tile,
        speed.threads,
        speed.peak_gflops,
        100.0 * speed.f32_gflops / speed.peak_gflops,
        speed.step_depth
    )
}

fn disk(speed: &DiskSpeed) -> String {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // for people
    let rate = |value: f64| bytes(value as u64);
    format!(
        "disk        {}: writes {}/s, reads {}/s, a small file is durable in {:.1} ms{}",
        speed.path.display(),
        rate(speed.write_bytes_per_second),
        rate(speed.read_bytes_per_second),
        1e3 * speed.sync_seconds,
        speed.free_bytes.map_or(String::new(), |free| format!(", {} free", bytes(free)))
    )
}

#[cfg(feature = "gpu")]
#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceChoice;
    use crate::ops::parity::Compared;
    use crate::snapshots::says;

    #[test]
    fn a_driver_that_crashes_is_a_verdict() {
        let opened = device::open(DeviceChoice::Cpu, 0).unwrap();
        let lost = crashed("softmax", "the driver crashed (signal 11, a segmentation fault)");
        assert!(!lost.is_right());
        let said = verdict(&lost, &opened);
        says(
            &said,
            snapbox::str![
                "CPU, [DEVICE] cannot be used: in a comparison with the CPU, at softmax, the driver crashed (signal 11, a segmentation fault)"
            ],
        );
        // What another process found is read as it was, numbers that are none included.
        let line = |error| Compared {
            operation: "product".to_owned(),
            output: "all".to_owned(),
            error,
            tolerance: 1e-5,
            failure: None,
        };
        let lines = vec![line(0.0), line(f64::INFINITY)];
        let found = Parity { lines, seconds: 1.0, failure: None };
        let text = serde_json::to_string(&Ok::<_, String>(found.clone())).unwrap();
        let back: std::result::Result<Parity, String> = serde_json::from_str(&text).unwrap();
        assert_eq!(back.as_ref().unwrap().lines, found.lines);
        assert!(verdict(&back.unwrap(), &opened).ends_with("computes wrong: product"));
    }
}
