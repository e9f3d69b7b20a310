//! The program: one command, one exit code.

use std::ffi::c_int;
use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of the allocator: after how long memory that was freed is given back to
/// the system.
const PURGE_DELAY: c_int = 15;

fn main() -> ExitCode {
    // Every step asks for the same memory again. Given back in between, it would be cleared page by
    // page by the system, which took a quarter of the processor's time.
    #[expect(unsafe_code)]
    // SAFETY: it stores a number, before any other thread runs.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, -1);
    }
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
