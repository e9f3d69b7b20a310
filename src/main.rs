//! The program: one command, one exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    firebrand::cli::run(std::env::args_os())
}
