//! The program: one command, one exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    #[cfg(feature = "gpu")]
    if let Ok(program) = std::env::current_exe() {
        firebrand::device::probe_with(program); // that is what it is, here alone
    }
    firebrand::cli::run(std::env::args_os())
}
