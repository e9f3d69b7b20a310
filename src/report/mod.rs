//! Events on the screen and on disk.

mod chart;
mod compare_page;
mod console;
mod dashboard;
mod live;
mod coverage_page;
mod history_page;
mod markup;
mod notify;
mod page;
mod picture;
mod recent_steps;
mod signals;
mod sweep_page;
mod transfers;

pub use compare_page::write_compare_page;
pub use console::Console;
pub use coverage_page::coverage_page;
pub use dashboard::Dashboard;
pub use history_page::history_page;
pub use live::LivePage;
pub use notify::NotifyTarget;
pub use page::{FILE as PAGE_FILE, write_page};
pub use picture::picture;
pub use recent_steps::RecentSteps;
pub use signals::{Signals, stop_at_end_of_input};
pub use sweep_page::sweep_page;
pub use transfers::Transfers;
