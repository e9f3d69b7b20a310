//! Events on the screen and on disk.

mod console;
mod signals;

pub use console::{Console, duration};
pub use signals::Signals;
