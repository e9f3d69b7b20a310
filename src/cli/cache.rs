//! `firebrand cache`

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use serde_json::json;

use crate::checkpoint::{StepCacheItem, kept_steps};
use crate::cli::{data_json, data_line, talk};
use crate::data::{CacheItem, cache_items, remove_cached};
use crate::document::size;
use crate::error::{Error, Result, printable};
use crate::event::bytes;
use crate::files::{cache_home, remove_dir};
use crate::train::filed_teachers;

/// Look at what is kept on disk, or make room
///
/// What is kept: examples of data files (tokenised once, read by every later run), steps of runs
/// (computed once, the beginning of every later run that would be the same so far), what teachers
/// say of examples (asked once), and data files that Firebrand downloaded into the Hugging Face
/// cache. What other tools downloaded, and models,
/// are not listed and never removed.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List everything, what was used last at the end
    List {
        /// One JSON object per file
        #[arg(long)]
        json: bool,
    },
    /// Remove what is not wanted any more; it is fetched or made again when it is needed
    Gc {
        /// Remove what was not used for so many days
        #[arg(long, value_name = "DAYS")]
        older_than: Option<u64>,
        /// Remove what was not used for longest until this much is left, e.g. `20GB`
        #[arg(long, value_name = "SIZE")]
        max_size: Option<String>,
        /// Remove everything
        #[arg(long)]
        all: bool,
    },
}

/// Something that is kept.
enum CachedEntry {
    Data(CacheItem),
    Teacher(CacheItem),
    Steps(StepCacheItem),
}

impl CachedEntry {
    fn kind(&self) -> &'static str {
        match self {
            Self::Data(item) if item.download => "download",
            Self::Data(_) => "examples",
            Self::Teacher(_) => "teacher",
            Self::Steps(_) => "steps",
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Data(item) | Self::Teacher(item) => &item.name,
            Self::Steps(item) => &item.name,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Data(item) | Self::Teacher(item) => &item.paths[0],
            Self::Steps(item) => &item.path,
        }
    }

    fn bytes(&self) -> u64 {
        match self {
            Self::Data(item) | Self::Teacher(item) => item.bytes,
            Self::Steps(item) => item.bytes,
        }
    }

    fn used(&self) -> SystemTime {
        match self {
            Self::Data(item) | Self::Teacher(item) => item.used,
            Self::Steps(item) => item.used,
        }
    }

    fn remove(&self) -> Result<()> {
        match self {
            Self::Data(item) | Self::Teacher(item) => remove_cached(item),
            Self::Steps(item) => remove_dir(&item.path),
        }
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let cache = cache_home()?;
    let mut items: Vec<CachedEntry> =
        cache_items(&cache)?.into_iter().map(CachedEntry::Data).collect();
    items.extend(filed_teachers(&cache).into_iter().map(CachedEntry::Teacher));
    items.extend(kept_steps(&cache).into_iter().map(CachedEntry::Steps));
    items.sort_by_key(CachedEntry::used);
    match &args.command {
        Command::List { json } => list(&items, *json)?,
        Command::Gc { older_than, max_size, all } => {
            let limit = match max_size {
                Some(text) => Some(size(text).ok_or_else(|| {
                    Error::usage(format!("`{text}` is not a size")).hint("for instance `20GB`")
                })?),
                None => None,
            };
            if !all && limit.is_none() && older_than.is_none() {
                return Err(Error::usage("it is not said what to remove")
                    .hint("`--older-than DAYS`, `--max-size SIZE` or `--all`"));
            }
            collect(items, *older_than, limit, *all)?;
        }
    }
    talk(&format!("cache: {}", cache.display()));
    Ok(ExitCode::SUCCESS)
}

fn list(items: &[CachedEntry], json: bool) -> Result<()> {
    for item in items {
        let age = SystemTime::now().duration_since(item.used()).unwrap_or_default();
        let kind = item.kind();
        if json {
            let line = json!({
                "kind": kind,
                "name": item.name(),
                "path": item.path().display().to_string(),
                "bytes": item.bytes(),
                "unused_seconds": age.as_secs(),
            });
            data_json(&line.to_string())?;
        } else {
            let age = crate::event::duration(age.as_secs_f64());
            data_line(&format!(
                "{kind:<8}  {:>10}  used {age:>6} ago  {}",
                bytes(item.bytes()),
                printable(item.name())
            ))?;
        }
    }
    let total = items.iter().map(CachedEntry::bytes).sum();
    talk(&format!("{} files, {}", items.len(), bytes(total)));
    Ok(())
}

fn collect(
    items: Vec<CachedEntry>,
    older_than: Option<u64>,
    limit: Option<u64>,
    all: bool,
) -> Result<()> {
    let now = SystemTime::now();
    let old = older_than.map(|days| Duration::from_secs(days.saturating_mul(24 * 3600)));
    let mut left: u64 = items.iter().map(CachedEntry::bytes).sum();
    let (mut count, mut freed) = (0, 0);
    for item in items {
        let age = now.duration_since(item.used()).unwrap_or_default();
        let unwanted =
            all || old.is_some_and(|old| age >= old) || limit.is_some_and(|limit| left > limit);
        if unwanted {
            item.remove()?;
            left -= item.bytes();
            (count, freed) = (count + 1, freed + item.bytes());
        }
    }
    talk(&format!("removed {count} files, {}; {} are left", bytes(freed), bytes(left)));
    Ok(())
}
