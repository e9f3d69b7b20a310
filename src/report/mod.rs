//! Events on the screen and on disk.

mod console;
mod picture;
mod signals;
mod transfers;

pub use console::{Console, duration};
pub use picture::picture;
pub use signals::Signals;
pub use transfers::Transfers;
