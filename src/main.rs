//! The program: one command, one exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: firebrand::allocator::ProgramAllocator = firebrand::allocator::ProgramAllocator;

fn main() -> ExitCode {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    #[cfg(feature = "gpu")]
    for (name, value) in firebrand::cli::kernel_variables(&arguments) {
        #[expect(unsafe_code)]
        // SAFETY: no other thread runs yet that could read the environment.
        unsafe {
            std::env::set_var(name, value);
        }
    }
    if let Ok(program) = std::env::current_exe() {
        // That is what it is, here alone.
        #[cfg(feature = "gpu")]
        firebrand::device::probe_with(program.clone());
        firebrand::data::render_with(program);
    }
    firebrand::cli::run(arguments)
}
