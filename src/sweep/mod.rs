//! Many runs: a sweep is planned as a folder of configurations, run by whatever starts processes,
//! and collected from wherever the results lie.
//!
//! A run is a pure function of its configuration, so that no scheduler is needed. A sweep is read
//! (`spec`), its points are chosen (`space`), checked (`points`) and written down (`plan`,
//! `manifest`); they are run here (`run`, `queue`, `child`) or by workers elsewhere (`worker`,
//! `engines`); what came of them is read (`results`) and compared (`collect`, `tables`).

mod at_work;
mod board;
mod child;
mod collect;
mod datasets;
mod elsewhere;
pub mod engines;
mod estimate;
mod keys;
mod manifest;
mod others;
mod outcome;
mod plan;
mod point_thread;
mod points;
mod queue;
mod results;
mod run;
mod setting;
mod shared;
mod sobol;
mod space;
mod spec;
mod stopping;
pub mod tables;
mod worker;

pub use at_work::PointStarter;
pub use child::POINT_COMMAND;
pub use collect::{Collected, CollectedPoint, collect, plain};
pub use elsewhere::SweepStore;
pub use keys::{Direction, KEYS as SWEEP_KEYS, Method};
pub use manifest::{Manifest, PlannedPoint, SharedWith, SweepFolder};
pub use outcome::SweepOutcome;
pub use plan::{Planned, plan, usual_folder};
pub use point_thread::{ThreadRequest, expect_alike};
pub use results::{PointResult, PointStatus, curve};
pub use run::{SweepRequest, run_points};
pub use spec::Sweep;
pub use worker::Worker;
