//! `firebrand coverage`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::open::{BaseChoice, OpenedModel, open, opened_on};
use crate::cli::eval::Bar;
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{data_json, data_lines, named_device, talk};
use crate::config::DeviceChoice;
use crate::coverage::{self, Candidate, Coverage, Measured, Reference, Thresholds};
use crate::data::{Case, CaseSettings, cases, cases_of};
use crate::device;
use crate::error::{Context, Error, Result};
use crate::evaluation::{Subject, Suite};
use crate::files::write_atomic;
use crate::hub::{Policy, Supply};
use crate::report::{coverage_page, history_page};
use crate::train::Access;

/// Which units, heads and experts of a model does a data set exercise?
///
/// One forward pass over the records of a suite or a file, on the CPU, with a table of every layer,
/// slice and task. The same model, data and options give the same bytes.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    measure: MeasureArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compare two results: what one data set exercises and the other does not
    Diff(DiffArgs),
    /// Results in the order of time: what was exercised when, and what came and went between
    History(HistoryArgs),
}

#[derive(Debug, clap::Args)]
struct HistoryArgs {
    /// Results (`firebrand coverage … --out FILE`), or folders of them: in the order of the days
    /// in their names (`2026-11-30`), or as they are named
    #[arg(required = true, value_name = "RESULT")]
    results: Vec<PathBuf>,
    /// Write a page with a line for each criterion into this file (HTML)
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// One JSON object in place of the table
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DiffArgs {
    /// A result (`firebrand coverage … --out FILE`)
    a: PathBuf,
    /// Another one, with the same options
    b: PathBuf,
    /// One JSON object in place of the table, with the numbers of all paths
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct MeasureArgs {
    /// A model directory, an artifact, a run (finished or not), a checkpoint of one (`RUN@best`,
    /// `RUN@last`, `RUN@step-200`), or owner/name on the hub, also with `@revision`
    #[arg(required = true)]
    model: Option<String>,
    /// The records, with slices and tasks: a suite of `firebrand eval` (TOML)
    #[arg(long, value_name = "EVAL", required_unless_present = "data")]
    config: Option<PathBuf>,
    /// The records of a file, a folder or a data set, in place of a suite
    #[arg(long, value_name = "DATA", conflicts_with = "config")]
    data: Option<String>,
    /// Longest record of `--data` in tokens
    #[arg(long, value_name = "N", default_value_t = 1024, requires = "data",
          value_parser = clap::value_parser!(u64).range(2..))]
    max_seq_len: u64,
    /// How many records of `--data` are run: those with the smallest digests; 0 runs all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "data")]
    max_records: u64,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    weights: WeightFormatArgs,
    #[command(flatten)]
    thresholds: ThresholdArgs,
    /// Also count sections and boundaries of the ranges that units have in this result, usually
    /// that of the training data
    #[arg(long, value_name = "RESULT")]
    reference: Option<PathBuf>,
    #[command(flatten)]
    suggest: SuggestArgs,
    /// Write the result into this file (JSON): for `diff`, `--reference` and the gate
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Write a page with a picture of every layer into this file (HTML)
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// The result as one JSON object in place of the table
    #[arg(long)]
    json: bool,
    /// Where it is computed: only `cpu`, whose kernels keep what is looked at
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    device: String,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
}

/// What is looked for to add.
#[derive(Debug, clap::Args)]
struct SuggestArgs {
    /// In place of the table, so many records that would raise the coverage most, the best first:
    /// of `--pool`, of `--variations`, or of both
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    suggest: Option<u64>,
    /// Records to choose from: a file, a folder or a data set of the same shape
    #[arg(long, value_name = "DATA", requires = "suggest")]
    pool: Option<String>,
    /// How many records of the pool are looked at: those with the smallest digests; 0 looks at all
    #[arg(long, value_name = "N", default_value_t = 0, requires = "pool")]
    pool_records: u64,
    /// Also choose from so many variations of each kind of every record: another wording of the
    /// question, other names and numbers, and noise. Look at them before you use them
    #[arg(long, value_name = "N", default_value_t = 0, requires = "suggest")]
    variations: usize,
    /// What variations are made with, and which of equal records comes first
    #[arg(long, value_name = "N", default_value_t = 42, requires = "suggest")]
    seed: u64,
    /// Write the records that are suggested into this file (JSON lines)
    #[arg(long, value_name = "FILE", requires = "suggest")]
    write: Option<PathBuf>,
}

/// What counts as exercised.
#[derive(Debug, clap::Args)]
struct ThresholdArgs {
    /// A unit is active at a token from this share of the largest of its layer on
    #[arg(long, value_name = "SHARE", default_value_t = Thresholds::default().unit_threshold)]
    unit_threshold: f64,
    /// So many units of a layer are the most active at a token; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().unit_top_k)]
    unit_top_k: usize,
    /// Sections of a unit's range in `--reference`
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().unit_sections)]
    unit_sections: usize,
    /// A head contributes to a token from so many times the mean of the heads of its layer on
    #[arg(long, value_name = "FACTOR", default_value_t = Thresholds::default().head_share)]
    head_share: f64,
    /// Buckets of the entropy of a contributing head's attention; 0 leaves that out
    #[arg(long, value_name = "N", default_value_t = Thresholds::default().entropy_buckets)]
    entropy_buckets: usize,
}

impl ThresholdArgs {
    fn thresholds(&self) -> Result<Thresholds> {
        let Self { unit_threshold, unit_top_k, unit_sections, head_share, entropy_buckets } = *self;
        Thresholds { unit_threshold, unit_top_k, unit_sections, head_share, entropy_buckets }
            .check()
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    match &args.command {
        Some(Command::Diff(args)) => diff(args)?,
        Some(Command::History(args)) => history(args)?,
        None => measure(&args.measure)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn diff(args: &DiffArgs) -> Result<()> {
    let ((a, _), (b, _)) = (Coverage::read(&args.a)?, Coverage::read(&args.b)?);
    let found = coverage::diff(&a, &b)?;
    if args.json {
        return data_json(&serde_json::to_string(&found).context("cannot encode the result")?);
    }
    if a.model.sha256 != b.model.sha256 {
        talk(&format!(
            "the results are of different models: `{}` and `{}`",
            a.model.name, b.model.name
        ));
    }
    talk(&format!("A: {} ({} records)", a.data.name, a.data.records));
    talk(&format!("B: {} ({} records)", b.data.name, b.data.records));
    data_lines(coverage::diff_markdown(&found, &a).trim_end())
}

fn history(args: &HistoryArgs) -> Result<()> {
    let found = coverage::history(&args.results)?;
    if let Some(path) = &args.page {
        write_atomic(path, history_page(&found)?.as_bytes())?;
    }
    if args.json {
        return data_json(&serde_json::to_string(&found).context("cannot encode the result")?);
    }
    data_lines(coverage::history_markdown(&found).trim_end())
}

fn measure(args: &MeasureArgs) -> Result<()> {
    let thresholds = args.thresholds.thresholds()?;
    let name = args.model.as_deref().unwrap_or_default(); // clap has asked for it
    let suite = suite(args)?;
    let reference = args.reference.as_deref().map(Coverage::read).transpose()?;
    if named_device(&args.device)? != DeviceChoice::Cpu {
        return Err(Error::usage("coverage is measured on the CPU only")
            .because("what units and heads did is read from the kernels of the CPU")
            .hint("leave `--device` out"));
    }
    let supply = supply(args)?;
    let model = opened(args, name, &supply)?;
    let codec = model.codec(None)?;
    let OpenedModel { model, files, quantised, score_head, .. } = &model;
    let (quantised, score_head) = (*quantised, score_head.as_ref());
    let subject = Subject { name, model, codec: &codec, files, quantised, score_head };
    let reference = reference.map(|(result, sha256)| Reference::new(&result, sha256, &subject));
    let reference = reference.transpose()?;
    let bar = Bar::new(args.quiet);
    let mut measured =
        coverage::measure(&subject, &suite, &supply, (thresholds, reference.as_ref()), &bar)?;
    write(args, &measured.coverage)?;
    match args.suggest.suggest {
        Some(wanted) => {
            let candidates = candidates(args, &measured, (&subject, &suite), &supply)?;
            suggest(args, &mut measured, (&candidates, wanted), &suite, &bar)
        }
        None => tell(args, name, &measured),
    }
}

/// Records of the pool, then variations of the records that were run and of those of the pool.
fn candidates(
    args: &MeasureArgs,
    measured: &Measured,
    (subject, suite): (&Subject, &Suite),
    supply: &Arc<Supply>,
) -> Result<Vec<Candidate>> {
    let SuggestArgs { pool, pool_records, variations, seed, .. } = &args.suggest;
    if pool.is_none() && *variations == 0 {
        return Err(Error::usage("`--suggest` has nothing to choose from")
            .hint("name records with `--pool`, or make some with `--variations`"));
    }
    let settings = CaseSettings {
        max_records: *pool_records,
        ..suite.case_settings(subject.codec, subject.score_head)
    };
    let found = match pool {
        Some(pool) => {
            let set = Suite::of_data(pool, suite.max_seq_len, 0).data;
            cases(&set, subject.codec, supply, &settings)?.cases
        }
        None => Vec::new(),
    };
    let all: Vec<Case> = measured.cases.iter().chain(&found).cloned().collect();
    let made = coverage::variations(&all, *variations, *seed);
    let origins: Vec<_> = made.iter().map(|it| (all[it.of].record.to_string(), it.kind)).collect();
    let fields = made.into_iter().map(|variation| variation.fields).collect();
    let made = cases_of(fields, "variations", &suite.data, subject.codec, &settings)?;
    let of_pool = found.into_iter().map(|case| Candidate { case, variation: None });
    let varied = made.into_iter().zip(origins);
    let varied = varied.map(|(case, origin)| Candidate { case, variation: Some(origin) });
    Ok(of_pool.chain(varied).collect())
}

fn suggest(
    args: &MeasureArgs,
    measured: &mut Measured,
    (candidates, wanted): (&[Candidate], u64),
    suite: &Suite,
    bar: &Bar,
) -> Result<()> {
    let wanted = (usize::try_from(wanted).unwrap_or(usize::MAX), args.suggest.seed);
    let size = (suite.max_seq_len, suite.micro_batch_size);
    let found = coverage::suggest(measured, candidates, wanted, size, bar)?;
    if let Some(path) = &args.suggest.write {
        let line = |it: &coverage::Suggestion| {
            serde_json::to_string(&it.fields).map(|line| line + "\n").context("cannot encode it")
        };
        let lines: String = found.suggestions.iter().map(line).collect::<Result<_>>()?;
        write_atomic(path, lines.as_bytes())?;
    }
    if args.json {
        return data_json(&serde_json::to_string(&found).context("cannot encode the result")?);
    }
    talk(&format!("{} candidates", found.candidates));
    data_lines(coverage::suggestions_markdown(&found).trim_end())
}

fn suite(args: &MeasureArgs) -> Result<Suite> {
    match (&args.config, &args.data) {
        (Some(path), _) => Suite::read(path),
        (None, Some(data)) => {
            let longest = usize::try_from(args.max_seq_len).unwrap_or(usize::MAX);
            Ok(Suite::of_data(data, longest, args.max_records))
        }
        (None, None) => unreachable!("clap asks for one of both"),
    }
}

fn supply(args: &MeasureArgs) -> Result<Arc<Supply>> {
    let transfers = Arc::new(crate::report::Transfers::new(args.quiet));
    let access = Access { transfers, offline: args.offline, ..Access::default() };
    let policy = Policy {
        offline: args.offline,
        extensions: crate::data::extensions(),
        ..Policy::default()
    };
    Ok(Arc::new(access.supply(policy)?))
}

fn opened(args: &MeasureArgs, name: &str, supply: &Arc<Supply>) -> Result<OpenedModel> {
    let opened = device::open(DeviceChoice::Cpu, 0)?;
    let base = BaseChoice { instead: args.base.as_deref(), linears: args.weights.format() };
    let model = opened_on(&opened, || open(name, base, &opened.device, supply))?;
    model.notes.iter().for_each(|note| talk(&format!("note: {note}")));
    Ok(model)
}

/// Writes the files that were asked for.
fn write(args: &MeasureArgs, coverage: &Coverage) -> Result<()> {
    if let Some(path) = &args.out {
        write_atomic(path, format!("{}\n", coverage.to_json()?).as_bytes())?;
    }
    if let Some(path) = &args.page {
        write_atomic(path, coverage_page(coverage)?.as_bytes())?;
    }
    Ok(())
}

/// Prints the result.
fn tell(args: &MeasureArgs, name: &str, measured: &Measured) -> Result<()> {
    let coverage = &measured.coverage;
    if args.json {
        return data_json(&coverage.to_json()?);
    }
    let data = &coverage.data;
    talk(&format!("{name} on {}: {} records, {} tokens", data.name, data.records, data.tokens));
    data_lines(coverage::markdown(coverage).trim_end())
}
