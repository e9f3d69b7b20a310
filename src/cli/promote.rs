//! `firebrand promote`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::artifact::keys::{SigningKey, config_home};
use crate::channel::{Authority, Channel, ChannelEntry, Promotion};
use crate::cli::allowlist::KeyArgs;
use crate::cli::place::model_directory;
use crate::cli::{data_line, talk};
use crate::error::{Result, printable};
use crate::verify::{Seen, Trust};

/// Put a model into use: point a channel to it
///
/// The model must verify, and the newest verdict of `firebrand gate` on exactly its bytes must be
/// that it passed, by a trusted key with the role `gate`. The pointer is signed by a key with the
/// role `promote` and written into the registry, a plain folder of which nothing is ever rewritten.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, or a run that has one
    artifact: PathBuf,
    #[command(flatten)]
    channel: ChannelArgs,
    /// Copy the model into the registry, under `models/`
    #[arg(long, conflicts_with = "uri")]
    copy: bool,
    /// Where the model was published, in place of its folder: consumers fetch it there
    #[arg(long, value_name = "URI", value_parser = not_blank)]
    uri: Option<String>,
    /// Why, for those who read the log [default: that it passed the gate]
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// For how long the pointer counts
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
    #[command(flatten)]
    key: KeyArgs,
}

/// A text that says something.
fn not_blank(text: &str) -> std::result::Result<String, String> {
    match text.trim() {
        "" => Err("it is empty".to_owned()),
        _ => Ok(text.to_owned()),
    }
}

/// A channel, and the registry that it is in.
#[derive(Debug, clap::Args)]
pub(super) struct ChannelArgs {
    /// The channel, such as `production`
    #[arg(long, value_name = "NAME")]
    channel: String,
    #[command(flatten)]
    registry: RegistryArgs,
}

/// The registry of channels.
#[derive(Debug, clap::Args)]
pub(super) struct RegistryArgs {
    /// The folder of channels
    #[arg(long, value_name = "DIR", default_value = "registry")]
    registry: PathBuf,
}

impl RegistryArgs {
    pub(super) fn channel(&self, name: &str) -> Result<Channel> {
        Channel::new(&self.registry, name)
    }
}

impl ChannelArgs {
    pub(super) fn open(&self) -> Result<Channel> {
        self.registry.channel(&self.channel)
    }
}

/// Whom this user trusts, and what this user has seen.
pub(super) struct Own {
    pub key: SigningKey,
    pub trust: Trust,
    pub seen: Seen,
}

impl Own {
    pub(super) fn load(key: &KeyArgs) -> Result<Self> {
        let home = config_home()?;
        // First: the user's own key may be made here, and is trusted then.
        let key = key.load()?;
        Ok(Self { key, trust: Trust::of_user(&home)?, seen: Seen::of_user(&home) })
    }

    pub(super) fn authority(&self) -> Authority<'_> {
        Authority { key: &self.key, trust: &self.trust, seen: &self.seen }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let channel = args.channel.open()?;
    let own = Own::load(&args.key)?;
    let artifact: &Path = &model_directory(&args.artifact);
    let promotion = Promotion {
        artifact,
        copy: args.copy,
        uri: args.uri.as_deref(),
        reason: args.reason.as_deref(),
        days: args.days,
    };
    let entry = channel.promote(&promotion, &own.authority())?;
    tell(&entry, &own.key);
    data_line(&entry.path.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Says which model is in use now.
pub(super) fn tell(entry: &ChannelEntry, key: &SigningKey) {
    let pointer = &entry.pointer;
    let (channel, what) = (&pointer.channel, pointer.line());
    talk(&printable(&format!("`{channel}` is now {what}; signed by {}", key.name())));
}
