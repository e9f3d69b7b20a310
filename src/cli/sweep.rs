//! `firebrand sweep`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::builder::PossibleValuesParser;

use crate::cli::internal::in_store;
use crate::cli::signer::{self, SignerArgs};
use crate::cli::{AccessArgs, data_json, data_line, environment, sweep_report, talk, talk_of};
use crate::error::{Context, Error, Result};
use crate::event::{Stop, bytes, duration};
use crate::files::{cache_home, write_atomic};
use crate::report::{Signals, Transfers, sweep_page};
use crate::stores::StoreAddress;
use crate::sweep::engines::{self, EngineRequest};
use crate::sweep::{
    self, Collected, Manifest, PointStarter, Sweep, SweepFolder, SweepRequest, SweepStore,
    ThreadRequest, Worker, expect_alike, run_points, tables,
};
use crate::train::{bases_shared, keep_base};

/// Many runs: try settings and data sets, and compare the results
///
/// A sweep is planned as a folder of complete configurations. Its runs are made here, or by workers
/// of Kubernetes, Slurm, SkyPilot or dstack; each can be stopped at any time and goes on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Choose points, check each as a configuration, and write them into a folder; trains nothing
    ///
    /// All problems of all points are told at once. The folder may be that of an earlier plan:
    /// points that are still in the sweep keep their runs. stdout gets its name.
    Plan(PlanArgs),
    /// Run the points of a planned sweep, here or those of this worker
    ///
    /// Goes on wherever an earlier call stopped, and runs no finished point again. Several calls
    /// may be at work in the same folder. Which worker this is, `--index` says, or a variable of
    /// the environment: FIREBRAND_SWEEP_INDEX, JOB_COMPLETION_INDEX (Kubernetes),
    /// SLURM_ARRAY_TASK_ID, SKYPILOT_JOB_RANK or DSTACK_NODE_RANK.
    ///
    /// Exit codes: 0 all points are finished · 130, 143 stopped and saved, the same command goes on
    /// · 2 a point will not work, or the folder.
    Run(RunArgs),
    /// Compare the results of a sweep, the best first
    ///
    /// Points that failed, are not finished or are missing are told as well. Several folders are
    /// copies of the same sweep, such as those of several machines.
    Collect(CollectArgs),
}

#[derive(Debug, clap::Args)]
struct PlanArgs {
    /// The sweep (TOML); `firebrand init SWEEP.toml --for sweep` writes one to start from
    sweep: PathBuf,
    /// The folder; else `sweeps/` and the name of the sweep
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// Also predict memory, steps and roughly the time, as `firebrand plan` does: reads models and
    /// data
    #[arg(long)]
    estimate: bool,
    /// Also write what this engine is given to run the workers
    #[arg(long = "for", value_name = "ENGINE",
          value_parser = PossibleValuesParser::new(engines::names()))]
    engine: Option<String>,
    /// How many workers share the points; else one for each
    #[arg(long, value_name = "N", requires = "engine",
          value_parser = clap::value_parser!(u64).range(1..))]
    workers: Option<u64>,
    /// The container image of the workers
    #[arg(long, value_name = "IMAGE", requires = "engine")]
    image: Option<String>,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// The folder of a planned sweep
    folder: PathBuf,
    /// How many runs at a time, as far as the memory that `sweep plan --estimate` predicts allows
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=1024))]
    jobs: u64,
    /// Number of this worker, from 0: it runs one of every so many points as there are workers
    #[arg(long, value_name = "I")]
    index: Option<usize>,
    /// How many workers there are; else one for each point
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// A store that workers of several machines share, `s3://bucket/prefix`, `gs://bucket/prefix`
    /// or a folder: checkpoints and results go there, steps that points share are taken from
    /// there, and `sweep collect ADDRESS` reads it
    #[arg(long, value_name = "ADDRESS")]
    store: Option<String>,
    /// How long steps that another worker computes are waited for while nothing is heard of any;
    /// then they are computed here
    #[arg(long, value_name = "SECONDS", default_value_t = 600, requires = "store")]
    patience: u64,
    /// Run the points as threads of this process instead of processes, with one base model in
    /// memory for all adapters that have it in common; the bytes of each are those of its lone run
    #[arg(long)]
    resident: bool,
    /// How long the system waits between asking a run to end (SIGTERM) and ending it
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    grace: u64,
    #[command(flatten)]
    access: AccessArgs,
}

#[derive(Debug, clap::Args)]
struct CollectArgs {
    /// Folders of a planned sweep, or stores that its workers have used (`s3://bucket/prefix`)
    #[arg(required = true)]
    folders: Vec<PathBuf>,
    /// What points are compared by; else what the sweep says
    #[arg(long, value_name = "NAME")]
    metric: Option<String>,
    /// The form of the table
    #[arg(long, value_name = "FORM", default_value = "text",
          value_parser = PossibleValuesParser::new(["text", "csv", "json", "markdown", "html"]))]
    format: String,
    /// Where the table goes; else to stdout
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Make this folder with the table in all forms, the page, and the digest of what was signed of
    /// each result, and sign it: `firebrand verify` checks it as any model directory
    #[arg(long, value_name = "DIR", conflicts_with_all = ["format", "out"])]
    report: Option<PathBuf>,
    /// Only print the artifact of the best point, e.g. for `firebrand gate --candidate`
    #[arg(long, conflicts_with_all = ["format", "out", "report"])]
    best: bool,
    #[command(flatten)]
    signing: SignerArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Command::Plan(args) => plan(args),
        Command::Run(args) => run_here(args),
        Command::Collect(args) => collect(args),
    }
}

fn plan(args: &PlanArgs) -> Result<ExitCode> {
    let sweep = Sweep::read(&args.sweep)?;
    let folder = args.out.clone().unwrap_or_else(|| sweep::usual_folder(&sweep));
    let access = args.access.access(Arc::new(Transfers::new(false)), &Signals::default());
    let planned = sweep::plan(&sweep, &folder, args.estimate.then_some(&access))?;
    let manifest = &planned.manifest;
    talk(&format!("{} points, {} of them new", manifest.points.len(), planned.new));
    if planned.same > 0 {
        talk(&format!("{} more were the same as others and are there once", planned.same));
    }
    if planned.left > 0 {
        let left = planned.left;
        talk(&format!("{left} points of the earlier plan left the sweep; their runs stay"));
    }
    tell_predicted(manifest);
    if let Some(engine) = &args.engine {
        for_engine(engine, args, manifest, &folder)?;
    }
    talk(&format!("run them: firebrand sweep run {}", folder.display()));
    data_line(&folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Steps, those that are computed once for several points, memory and time.
fn tell_predicted(manifest: &Manifest) {
    let points = &manifest.points;
    let shared: u64 = points.iter().filter_map(|point| Some(point.shares.as_ref()?.steps)).sum();
    let all: u64 = points.iter().filter_map(|point| point.steps).sum();
    let sharing = points.iter().filter(|point| point.shares.is_some()).count();
    if shared > 0 {
        talk(&format!("{sharing} points take {shared} of all {all} steps from others"));
    }
    if let Some(most) = points.iter().filter_map(|point| point.memory_bytes).max() {
        talk(&format!("memory: at most {} for a run", bytes(most)));
        let longest = points.iter().filter_map(|point| point.seconds).max_by(f64::total_cmp);
        talk(&match (longest, manifest.seconds()) {
            (Some(longest), Some(all)) => format!(
                "time: about {} at most for a run, about {} for all of them one by one, here",
                duration(longest),
                duration(all)
            ),
            _ => "time: not predicted".to_owned(),
        });
    }
}

/// Writes the file for an engine into the folder.
fn for_engine(engine: &str, args: &PlanArgs, manifest: &Manifest, folder: &Path) -> Result<()> {
    let points = manifest.points.len();
    let workers = args.workers.map_or(points, |workers| usize::try_from(workers).unwrap_or(points));
    let most = manifest.points.iter().filter_map(|point| point.memory_bytes).max();
    let place = folder.display().to_string();
    let request = EngineRequest {
        name: &manifest.name,
        folder: &place,
        points,
        workers: workers.min(points),
        image: args.image.as_deref(),
        // What is predicted, and half as much for the program itself.
        memory_gib: most.map_or(16, |most| (most + most / 2).div_ceil(1 << 30).max(1)),
    };
    let (file, text) = engines::template(engine, &request)?;
    let path = folder.join(file);
    write_atomic(&path, text.as_bytes())?;
    talk(&format!("{} workers of {engine}: {}", request.workers, path.display()));
    Ok(())
}

fn run_here(args: &RunArgs) -> Result<ExitCode> {
    let folder = SweepFolder::open(&args.folder)?;
    let worker = Worker::of(args.index, args.workers, environment::value_of)?;
    let own = match &worker {
        Some(worker) => worker.points(&folder.manifest)?,
        None => (0..folder.manifest.points.len()).collect(),
    };
    if let Some(Worker { index, said_by, .. }) = &worker {
        talk(&format!("worker {index} ({said_by}): {} points", own.len()));
    }
    let store = args.store.as_deref().map(SweepStore::open).transpose()?;
    let signals = Signals::install()?;
    let starter = starter(args, &folder, &own, &signals)?;
    let all = own.len();
    let outcome = run_points(&SweepRequest {
        folder: &folder,
        own,
        store: store.as_ref(),
        patience: Duration::from_secs(args.patience),
        starter,
        jobs: usize::try_from(args.jobs).unwrap_or(1),
        stop: &|| signals.stop_requested(),
        say: &talk,
    })?;
    talk(&format!(
        "{} of {all} points are finished, {} of them now",
        outcome.finished, outcome.run_now
    ));
    if args.resident {
        let shared = bases_shared();
        talk(&format!("{shared} runs have taken the base that another had loaded"));
    }
    if outcome.stopped_early > 0 {
        talk(&format!("{} were stopped, since others were better", outcome.stopped_early));
    }
    if let (Some(store), Some(address)) = (&store, &args.store)
        && store.traffic().requests() > 0
    {
        talk(&format!("{address}: {}", store.traffic()));
    }
    if let Some(failure) = outcome.failure() {
        talk_of(&failure);
    }
    if let Some(stop) = outcome.stopped {
        talk("stopped; the same command continues");
        return Ok(ExitCode::from(if stop == Stop::Interrupt { 130 } else { 143 }));
    }
    if !outcome.failed.is_empty() {
        return Ok(ExitCode::from(2));
    }
    let place = args.store.clone().unwrap_or_else(|| args.folder.display().to_string());
    talk(&format!("compare them: firebrand sweep collect {place}"));
    Ok(ExitCode::SUCCESS)
}

/// How the runs of this call are started.
fn starter(
    args: &RunArgs,
    folder: &SweepFolder,
    own: &[usize],
    signals: &Signals,
) -> Result<PointStarter> {
    if args.resident {
        let points = own.iter().map(|at| &folder.manifest.points[*at]);
        expect_alike(&points.map(|point| folder.config(point)).collect::<Vec<_>>())?;
        keep_base();
        let store = args.store.clone();
        let overrides = move |config: &Path| {
            store.as_deref().map(|store| in_store(config, store)).unwrap_or_default()
        };
        return Ok(PointStarter::Thread(ThreadRequest {
            overrides: Arc::new(overrides),
            access: args.access.access(Arc::new(Transfers::new(true)), signals),
            grace: Duration::from_secs(args.grace),
        }));
    }
    let mut arguments = vec!["--grace".to_owned(), args.grace.to_string()];
    for (wanted, option) in [(args.access.locked, "--locked"), (args.access.offline, "--offline")] {
        arguments.extend(wanted.then(|| option.to_owned()));
    }
    if let Some(address) = &args.store {
        arguments.extend(["--store".to_owned(), address.clone()]);
    }
    let program = std::env::current_exe().context("cannot find the program's own file")?;
    Ok(PointStarter::Process { program, arguments })
}

fn collect(args: &CollectArgs) -> Result<ExitCode> {
    if args.report.is_none() && args.signing.is_given() {
        return Err(Error::usage("only a report is signed")
            .hint("`--report DIR` makes a folder with the table in all forms"));
    }
    let (folders, stores) = places(&args.folders)?;
    let collected = sweep::collect(&folders, args.metric.as_deref())?;
    if args.best {
        let best = collected.best()?;
        let mut artifact = best.result.artifact.clone().unwrap_or_default();
        // Of a store there are records here, and now the whole of this one.
        let of_store =
            |(folder, _): &&(SweepFolder, SweepStore)| best.result.run.starts_with(folder.root());
        if let Some((folder, store)) = stores.iter().find(of_store) {
            artifact = store.artifact(folder, &best.point)?;
        }
        data_line(&artifact.display().to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(folder) = &args.report {
        let signer = args.signing.signer()?;
        sweep_report::write(&collected, folder, signer.as_ref().map(|(key, _)| key))?;
        signer::tell(signer.as_ref(), folder);
        data_line(&folder.display().to_string())?;
        tell_collected(&collected);
        return Ok(ExitCode::SUCCESS);
    }
    let lines = match args.format.as_str() {
        "csv" => tables::csv(&collected),
        "markdown" => tables::markdown(&collected),
        "json" => {
            let json = serde_json::to_string_pretty(&collected.to_json());
            vec![json.context("cannot encode the results")?]
        }
        "html" => vec![sweep_page(&collected)?],
        _ => tables::text(&collected),
    };
    match &args.out {
        Some(path) => {
            write_atomic(path, (lines.join("\n") + "\n").as_bytes())?;
            data_line(&path.display().to_string())?;
        }
        None if args.format == "json" => data_json(&lines.join("\n"))?,
        None => lines.iter().try_for_each(|line| data_line(line))?,
    }
    tell_collected(&collected);
    Ok(ExitCode::SUCCESS)
}

/// Folders that were named, and those with the records of stores that were.
fn places(named: &[PathBuf]) -> Result<(Vec<SweepFolder>, Vec<(SweepFolder, SweepStore)>)> {
    let (mut folders, mut stores) = (Vec::new(), Vec::new());
    for path in named {
        let name = path.to_string_lossy();
        // A store that is a folder has a manifest as well, and no points.
        let is_store = StoreAddress::is_remote(&name) || path.join("board").is_dir();
        if !is_store {
            folders.push(SweepFolder::open(path)?);
            continue;
        }
        let store = SweepStore::open(&name)?;
        let folder = store.records(&cache_home()?)?;
        folders.push(folder.clone());
        stores.push((folder, store));
    }
    Ok((folders, stores))
}

fn tell_collected(collected: &Collected) {
    let counts = collected.counts();
    let counts: Vec<String> =
        counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
    talk(&format!("{} points: {}", collected.points.len(), counts.join(", ")));
    for point in &collected.points {
        if let sweep::PointStatus::Failed { why } = &point.result.status {
            talk(&format!("{}  failed: {why}", point.point.id));
        }
    }
    match collected.best() {
        Ok(best) => {
            talk(&format!("the best by {}: {}", collected.metric, best.point.id));
            let close = collected.not_worse();
            if close > 0 {
                talk(&format!("{close} more have an interval that meets that of the best"));
            }
        }
        Err(error) => talk_of(&error),
    }
}
