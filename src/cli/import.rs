//! `firebrand import`

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::PossibleValuesParser;

use crate::cli::{data_line, data_lines, talk};
use crate::error::{Context, Error, Result};
use crate::files::read_text;
use crate::import;

/// Make a configuration of one of axolotl, LLaMA-Factory, TRL, MLX LM or Unsloth
///
/// Every setting gets its key here, or is named with the reason why it has none: as a comment in
/// the configuration, and on stderr.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file of the other tool (YAML)
    file: PathBuf,
    /// The file to make; an existing one is never replaced. Without it, it goes to stdout
    path: Option<PathBuf>,
    /// Which tool it is of; found out by its keys where this is not said
    #[arg(long, value_name = "TOOL", value_parser = PossibleValuesParser::new(import::NAMES))]
    from: Option<String>,
}

/// Settings take a few kilobytes.
const BYTES_MAX: u64 = 1 << 20;

pub fn run(args: &Args) -> Result<ExitCode> {
    let text = read_text(&args.file, BYTES_MAX)?;
    let name = args.file.display().to_string();
    let made = import::import(&name, &text, args.from.as_deref())?;
    if let Some(path) = &args.path {
        if path.exists() {
            return Err(Error::exists("refusing to replace what is already there").at(path));
        }
        let write = || -> std::io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
            file.write_all(made.toml.as_bytes())
        };
        write().context_at("cannot write the file", path)?;
        data_line(&path.display().to_string())?;
    } else {
        data_lines(made.toml.trim_end())?;
    }
    let (taken, left) = (made.taken, made.left.len());
    talk(&format!("{}: {taken} settings taken over, {left} not", made.tool));
    for setting in &made.left {
        talk(&format!("  line {}, {}: {}", setting.line, setting.what, setting.why));
    }
    if !made.needless.is_empty() {
        talk(&format!("  done by itself: {}", made.needless.join(", ")));
    }
    if let Some(problem) = &made.problem {
        talk(&format!("the configuration does not load yet:\n{problem}"));
    }
    Ok(ExitCode::SUCCESS)
}
