//! `firebrand man`

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::cli::output::data_exact;
use crate::cli::{data_line, talk};
use crate::error::{Context, Error, Result};
use crate::files::write_atomic;

/// Print the manual page, or write those of all commands
///
/// `firebrand man | man -l -` shows it. With `--out` every command has a page of its own there:
/// `firebrand.1`, `firebrand-train.1`, …, for the folder `man1` of a manual.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The command; else the program itself
    #[arg(value_name = "COMMAND", conflicts_with = "out")]
    command: Option<String>,
    /// Write the pages of all commands into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let mut program = super::Arguments::command();
    program.build();
    let Some(folder) = &args.out else {
        let page = match &args.command {
            None => page(program)?,
            Some(name) => {
                let found = program.get_subcommands().find(|command| command.get_name() == name);
                let command = found.filter(|command| !command.is_hide_set()).cloned();
                let command = command.ok_or_else(|| {
                    Error::usage(format!("there is no command `{name}`"))
                        .hint("`firebrand --help` lists them")
                })?;
                page(command)?
            }
        };
        data_exact(&String::from_utf8_lossy(&page))?;
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(folder).context_at("cannot make the folder", folder)?;
    // `help` has no arguments to tell of.
    let is_shown =
        |command: &&clap::Command| !command.is_hide_set() && command.get_name() != "help";
    let shown = program.get_subcommands().filter(is_shown);
    let commands: Vec<clap::Command> = shown.cloned().collect();
    let mut count = 0;
    for command in std::iter::once(program).chain(commands) {
        // `firebrand-train`: building it gave it that name.
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = folder.join(format!("{name}.1"));
        write_atomic(&path, &page(command)?)?;
        count += 1;
    }
    talk(&format!("{count} pages"));
    data_line(&folder.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

fn page(command: clap::Command) -> Result<Vec<u8>> {
    let mut page = Vec::new();
    let rendered = clap_mangen::Man::new(command).source(source()).render(&mut page);
    rendered.context("cannot render the page")?;
    Ok(page)
}

/// What stands at the foot of a page.
fn source() -> String {
    format!("firebrand {}", env!("CARGO_PKG_VERSION"))
}
