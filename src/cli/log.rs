//! `firebrand log`

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::artifact::keys::config_home;
use crate::channel::{ChannelEntry, ChannelFile};
use crate::cli::promote::RegistryArgs;
use crate::cli::{data_json, data_line};
use crate::error::{Error, Result, printable};
use crate::verify::{Signed, Trust};

/// Tell who put which model into use, when, why, and with which numbers
///
/// Pointers that are damaged, and those of keys that do not count, are shown as such.
/// Exit code 0: all pointers are sound; 1: some are not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The channel, such as `production`
    channel: String,
    #[command(flatten)]
    registry: RegistryArgs,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// One file of the channel, looked at.
struct Line<'a> {
    found: &'a ChannelFile,
    /// With its signer, if it is a pointer.
    entry: Result<(&'a ChannelEntry, Signed), String>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let channel = args.registry.channel(&args.channel)?;
    let trust = Trust::of_user(&config_home()?)?;
    let all = channel.look()?;
    if all.is_empty() {
        channel.read()?.newest()?;
    }
    let last = all.iter().rposition(|found| found.serial.is_some());
    let lines = all.iter().enumerate().map(|(place, found)| Line {
        found,
        entry: match &found.entry {
            // The newest one must count now; it vouches for those before it.
            Ok(entry) if Some(place) == last => Ok((entry, entry.signed(&trust))),
            Ok(entry) => Ok((entry, entry.signed_then(&trust))),
            Err(error) => Err(problem(error)),
        },
    });
    let lines: Vec<Line> = lines.collect();
    if args.json {
        let pointers: Vec<Value> = lines.iter().map(Line::to_json).collect();
        data_json(&json!({"channel": args.channel, "pointers": pointers}).to_string())?;
    } else {
        for text in lines.iter().flat_map(Line::to_text) {
            data_line(&printable(&text).replace(['\n', '\t'], " "))?;
        }
    }
    let sound = lines.iter().all(Line::is_sound);
    Ok(ExitCode::from(u8::from(!sound)))
}

fn problem(error: &Error) -> String {
    let mut parts = vec![error.what.clone()];
    parts.extend(error.causes.iter().cloned());
    parts.join(": ")
}

impl Line<'_> {
    fn is_sound(&self) -> bool {
        matches!(&self.entry, Ok((_, Signed { objection: None, .. })))
    }

    fn to_text(&self) -> Vec<String> {
        let serial = self.found.serial.map_or_else(|| "-".to_owned(), |serial| serial.to_string());
        let (entry, signed) = match &self.entry {
            Ok(it) => it,
            Err(why) => {
                let kind = if self.found.serial.is_some() { "DAMAGED" } else { "FOREIGN" };
                return vec![format!("{serial:>4}  {kind}  {}: {why}", self.found.path.display())];
            }
        };
        let it = &entry.pointer;
        let (name, sig) = (&it.model.name, it.model.sig_sha256.short());
        let mut lines = vec![
            format!(
                "{serial:>4}  {:.0}  {}  {name} ({sig}), by {}",
                it.issued, it.kind, signed.name
            ),
            format!("      {}", it.reason),
        ];
        if !it.metrics.is_empty() {
            let numbers: Vec<String> =
                it.metrics.iter().map(|(name, value)| format!("{name} {value:.4}")).collect();
            lines.push(format!("      {}", numbers.join(", ")));
        }
        let place = it.model.path.as_ref().or(it.model.uri.as_ref());
        let place = place.map_or("", String::as_str);
        lines.push(format!("      {place}, until {:.0}", it.expires));
        if let Some(why) = &signed.objection {
            lines.push(format!("      DOES NOT COUNT: {why}"));
        }
        lines
    }

    fn to_json(&self) -> Value {
        let file = self.found.path.display().to_string();
        let (serial, sound) = (self.found.serial, self.is_sound());
        match &self.entry {
            Ok((entry, signed)) => json!({
                "serial": serial, "file": file, "sound": sound, "pointer": entry.pointer,
                "sha256": entry.sha256, "signer": signed.signer, "problem": signed.objection,
            }),
            Err(why) => {
                json!({"serial": serial, "file": file, "sound": sound, "problem": why})
            }
        }
    }
}
