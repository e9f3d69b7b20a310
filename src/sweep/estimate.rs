//! Memory, steps and time of points, as `plan` predicts them for one run.

use std::collections::BTreeMap;
use std::path::Path;

use super::points::Point;
use crate::data::Extent;
use crate::error::Result;
use crate::event::{Event, Observer};
use crate::settings;
use crate::train::{Access, prepare, supply_for};

/// Nobody listens.
struct Unheard;

impl Observer for Unheard {
    fn on(&mut self, _: Event) {}
}

/// Looks at models and data as far as runs of different shapes need it, and notes what they take.
/// Points that differ in learning rates and seeds alone have the same shape. Returns how many
/// shapes there are.
///
/// # Errors
/// When a point could not be run.
pub fn estimate(points: &mut [Point], access: &Access) -> Result<usize> {
    let mut known: BTreeMap<String, Predicted> = BTreeMap::new();
    for point in points.iter_mut() {
        let shape = point.shape.to_string();
        let found = match known.get(&shape) {
            Some(found) => *found,
            None => {
                let found = look(point, access)
                    .map_err(|error| error.because(format!("of the point {}", point.id)))?;
                known.insert(shape, found);
                found
            }
        };
        (point.memory_bytes, point.steps) = (Some(found.memory_bytes), Some(found.steps));
        point.seconds = found.seconds;
    }
    Ok(known.len())
}

/// What is predicted of a point.
#[derive(Clone, Copy)]
struct Predicted {
    memory_bytes: u64,
    steps: u64,
    seconds: Option<f64>,
}

fn look(point: &Point, access: &Access) -> Result<Predicted> {
    let from = Path::new(&point.from);
    let loaded = settings::parse(from, point.config.as_bytes(), &[])?;
    let supply = supply_for(from, None, access)?;
    let mut prepared = prepare(&loaded, &supply, Extent::AsNeeded, &mut Unheard)?;
    let seconds = prepared.predict_seconds()?;
    let memory_bytes = prepared.memory().total();
    Ok(Predicted { memory_bytes, steps: prepared.total_steps, seconds })
}
