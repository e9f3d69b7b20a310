//! Events on the screen and on disk.

mod console;
mod signals;
mod transfers;

pub use console::{Console, duration};
pub use signals::Signals;
pub use transfers::Transfers;
