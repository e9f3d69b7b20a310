//! `firebrand watch`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::artifact::keys::{SigningKey, config_home};
use crate::artifact::open::{BaseChoice, OpenedModel, open};
use crate::channel::duration;
use crate::channel::{
    Authority, Channel, Drift, OnDrift, Policy, Resolved, Return, attest, drift_statement,
};
use crate::cli::allowlist::KeyArgs;
use crate::cli::eval::Bar;
use crate::cli::notified::{notified, tell as tell_of};
use crate::cli::promote::ChannelArgs;
use crate::cli::{data_json, data_line, named_device, talk, talk_of};
use crate::device;
use crate::error::{Error, ErrorCode, Result, printable};
use crate::evaluation::{Report, Subject, Suite, evaluate};
use crate::event::Stop;
use crate::files::{FileEntry, cache_home};
use crate::hub::Policy as HubPolicy;
use crate::report::{NotifyTarget, Signals, Transfers};
use crate::train::Access;
use crate::verify::{Seen, Trust};

/// How long to wait between two rounds, if nobody says so.
const EVERY: Duration = Duration::from_secs(3600);

/// Judge the model in use on the newest data, and take it back when it has become worse
///
/// The numbers are compared with those of the verdict that let the model through the gate. What is
/// worse by more than the policy allows is drift: the channel goes back to the last good model (or,
/// with `on_drift = "report"`, stays), and a signed statement is added to what is attested of the
/// model.
/// Exit code 0: all is well; 1: drift; 2: it could not be decided, or there is no model to go back
/// to.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    channel: ChannelArgs,
    /// On what the model is evaluated (TOML, as for `firebrand eval`); a branch is looked up again
    /// in each round
    #[arg(long, value_name = "EVAL")]
    config: PathBuf,
    /// What may change by how much (TOML, `[watch]`) [default: 5 % for every number, then back]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Go on, with this time between two rounds [default: the policy's, or 1h]
    #[arg(long, value_name = "TIME", value_parser = time)]
    every: Option<Duration>,
    /// One round only
    #[arg(long, conflicts_with = "every")]
    once: bool,
    /// Where the model is, if it is not where its pointer says
    #[arg(long, value_name = "DIR")]
    model: Option<PathBuf>,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    /// As `device.name` in a configuration, such as cpu or gpu:1
    #[arg(long, value_name = "NAME", default_value = "auto")]
    device: String,
    /// For how long the pointer of a rollback counts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    /// One JSON object a round
    #[arg(long)]
    json: bool,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// No progress bar
    #[arg(long)]
    quiet: bool,
    /// Tell of drift, and of rounds that fail: an address (`https://…`) gets a `POST` of JSON, a
    /// program, or an array of program and arguments, gets it on stdin. Else FIREBRAND_NOTIFY says
    /// whom
    #[arg(long, value_name = "PROGRAM|URL")]
    notify: Option<String>,
    #[command(flatten)]
    key: KeyArgs,
}

fn time(text: &str) -> Result<Duration, String> {
    duration(text).map_err(|error| {
        let parts = error.into_parts();
        [vec![parts.what], parts.hints].concat().join("; ")
    })
}

/// What is the same in each round.
struct Watch<'a> {
    args: &'a Args,
    channel: Channel,
    key: SigningKey,
    device: device::OpenedDevice,
    signals: Signals,
    notified: Option<NotifyTarget>,
}

/// One look at the model in use.
struct Round {
    /// As it is now: keys are revoked and dates pass while this goes on.
    trust: Trust,
    seen: Seen,
    resolved: Resolved,
    report: Report,
    drifts: Vec<Drift>,
    on_drift: OnDrift,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let suite = Suite::read(&args.config)?;
    // A mistake in the policy ends the command at once, also one that would go on.
    let policy = policy(args, &suite)?;
    let every = args.every.or(policy.every).unwrap_or(EVERY);
    let wanted = named_device(&args.device)?;
    let watch = Watch {
        args,
        channel: args.channel.open()?,
        key: args.key.load()?,
        device: device::open(wanted, 0)?,
        signals: Signals::install()?,
        notified: notified(args.notify.as_deref())?,
    };
    loop {
        let begun = Instant::now();
        match watch.round().inspect_err(|error| watch.notify_failed(error)) {
            Ok(true) => return Ok(ExitCode::from(1)),
            Ok(false) if args.once => return Ok(ExitCode::SUCCESS),
            Ok(false) => {}
            // A well-formed no of the channel or the model is no answer to whether it drifted.
            Err(error) if args.once => return Err(error.failed()),
            // The hub may be back in the next round.
            Err(error) if error.code != ErrorCode::DiskFull => talk_of(&error),
            Err(error) => return Err(error),
        }
        if let Some(stop) = watch.wait(every.saturating_sub(begun.elapsed())) {
            return Ok(match stop {
                Stop::Asked => ExitCode::SUCCESS,
                Stop::Interrupt => ExitCode::from(130),
                Stop::Terminate => ExitCode::from(143),
            });
        }
    }
}

fn policy(args: &Args, suite: &Suite) -> Result<Policy> {
    args.policy.as_ref().map_or_else(|| Ok(Policy::default()), |path| Policy::read(path, suite))
}

impl Watch<'_> {
    fn wait(&self, time: Duration) -> Option<Stop> {
        let begun = Instant::now();
        loop {
            if let Some(stop) = self.signals.stop_requested() {
                return Some(stop);
            }
            let left = time.checked_sub(begun.elapsed()).filter(|left| !left.is_zero())?;
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// One round; tells whether there was drift.
    fn round(&self) -> Result<bool> {
        let round = self.look()?;
        let beyond: Vec<&Drift> = round.drifts.iter().filter(|drift| drift.beyond).collect();
        if beyond.is_empty() {
            self.tell(&round, None)?;
            return Ok(false);
        }
        // First what protects users, then what tells them why.
        let back = match round.on_drift {
            OnDrift::Rollback => Some(self.take_back(&round, &beyond)),
            OnDrift::Report => None,
        };
        let model = &round.resolved.model;
        let statement = drift_statement(&model.files, &round.report.suite, &round.drifts);
        if let Err(error) = attest(&model.directory, &statement, &self.key) {
            talk("the drift is not attested beside the model");
            talk_of(&error);
        }
        let back = match back {
            Some(Err(error)) => {
                self.tell(&round, None)?;
                return Err(error);
            }
            Some(Ok(serial)) => Some(serial),
            None => None,
        };
        self.tell(&round, back)?;
        Ok(true)
    }

    fn notify(&self, message: &Value) {
        if let Some(notified) = &self.notified {
            tell_of(notified, message, "of it");
        }
    }

    fn notify_failed(&self, error: &Error) {
        let channel = &self.channel.name;
        self.notify(&json!({
            "event": "failed", "channel": channel,
            "error": {"code": error.code.name(), "what": error.what},
            "text": format!("{channel}: {}", error.what),
        }));
    }

    fn take_back(&self, round: &Round, beyond: &[&Drift]) -> Result<u64> {
        let reasons: Vec<String> = beyond.iter().map(|drift| drift.to_string()).collect();
        let reason = format!("drift on {}: {}", round.report.suite.name, reasons.join("; "));
        let back = Return {
            from: Some(round.resolved.entry.pointer.serial),
            to: None,
            model: None,
            reason: &reason,
            days: self.args.days,
        };
        let by = Authority { key: &self.key, trust: &round.trust, seen: &round.seen };
        let (entry, passed_over) = self.channel.roll_back(&back, &by)?;
        for why in passed_over {
            talk(&printable(&format!("passed over {why}")));
        }
        super::promote::tell(&entry, &self.key);
        Ok(entry.pointer.serial)
    }

    /// Judges the model in use on what the suite stands for at this moment.
    fn look(&self) -> Result<Round> {
        let args = self.args;
        let suite = Suite::read(&args.config)?;
        let policy = policy(args, &suite)?;
        let home = config_home()?;
        let (trust, seen) = (Trust::of_user(&home)?, Seen::of_user(&home));
        let resolved = self.channel.resolve(args.model.as_deref(), &trust, &seen)?;
        let path = resolved.path().display().to_string();
        let signals = self.signals.clone();
        let access = Access {
            offline: args.offline,
            transfers: Arc::new(Transfers::new(args.quiet)),
            interrupted: Arc::new(move || signals.stop_requested().is_some()),
            ..Access::default()
        };
        // Without a lock: the newest revision. A new supply asks the hub again.
        let supply = Arc::new(access.supply(HubPolicy {
            offline: args.offline,
            extensions: crate::data::extensions(),
            ..HubPolicy::default()
        })?);
        let base = BaseChoice { instead: args.base.as_deref(), ..BaseChoice::default() };
        let opened = open(&path, base, &self.device.device, &supply)?;
        same_bytes(&opened.files, &resolved)?;
        opened.notes.iter().for_each(|note| talk(&format!("note: {note}")));
        let codec = opened.codec(None)?;
        let OpenedModel { model, files, quantised, score_head, .. } = &opened;
        let (quantised, score_head) = (*quantised, score_head.as_ref());
        let subject = Subject { name: &path, model, codec: &codec, files, quantised, score_head };
        let (cache, bar) = (cache_home()?, Bar::new(args.quiet));
        let kept = (cache.as_path(), false);
        let report = evaluate(&subject, &suite, &supply, &self.device, kept, &bar)?;
        let drifts = policy
            .compare(&resolved.entry.pointer.metrics, &report.metrics)
            .map_err(|error| error.at(&resolved.entry.path))?;
        Ok(Round { trust, seen, resolved, report, drifts, on_drift: policy.on_drift })
    }

    fn tell(&self, round: &Round, back: Option<u64>) -> Result<()> {
        let drifted = round.drifts.iter().any(|drift| drift.beyond);
        let pointer = &round.resolved.entry.pointer;
        let suite = &round.report.suite;
        let numbers: Vec<Value> = round.drifts.iter().map(number).collect();
        let mut message = json!({
            "channel": pointer.channel,
            "serial": pointer.serial,
            "model": pointer.model,
            "data": {"sha256": suite.sha256, "commit": suite.commit},
            "drift": drifted,
            "metrics": numbers,
            "rolled_back_as": back,
        });
        if self.args.json {
            data_json(&message.to_string())?;
        }
        if drifted {
            let name = &pointer.model.name;
            message["event"] = "drift".into();
            message["text"] = format!("{}: {name} has drifted", pointer.channel).into();
            self.notify(&message);
        }
        if self.args.json {
            return Ok(());
        }
        let what = if drifted { "drift" } else { "no drift" };
        let (name, records) = (&pointer.model.name, round.report.records.len());
        data_line(&printable(&format!(
            "`{}`, serial number {}, {name}: {what} on {records} records",
            pointer.channel, pointer.serial
        )))?;
        for drift in &round.drifts {
            let mark = if drift.beyond { "FAIL" } else { "ok" };
            data_line(&printable(&format!("{mark:<4}  {drift}")))?;
        }
        Ok(())
    }
}

fn number(drift: &Drift) -> Value {
    // JSON has no infinity; there the number is missing.
    let Drift { metric, baseline, value, worse, limit, beyond } = drift;
    json!({"name": metric, "baseline": baseline, "value": value, "worse": worse,
           "limit": limit, "drift": beyond})
}

/// What was evaluated must be what was checked.
fn same_bytes(used: &[FileEntry], resolved: &Resolved) -> Result<()> {
    let own = used.iter().filter(|file| !file.path.starts_with("base/"));
    let changed = own.into_iter().find(|file| !resolved.model.files.contains(file));
    match changed {
        Some(file) => {
            Err(Error::refused(ErrorCode::Changed, "the model changed after it was checked")
                .at(resolved.path().join(&file.path)))
        }
        None => Ok(()),
    }
}
