//! Memory and steps of points, as `plan` predicts them for one run.

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
    let mut known: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for point in points.iter_mut() {
        let shape = point.shape.to_string();
        let (memory, steps) = match known.get(&shape) {
            Some(found) => *found,
            None => {
                let found = look(point, access)
                    .map_err(|error| error.because(format!("of the point {}", point.id)))?;
                known.insert(shape, found);
                found
            }
        };
        (point.memory_bytes, point.steps) = (Some(memory), Some(steps));
    }
    Ok(known.len())
}

fn look(point: &Point, access: &Access) -> Result<(u64, u64)> {
    let from = Path::new(&point.from);
    let loaded = settings::parse(from, point.config.as_bytes(), &[])?;
    let supply = supply_for(from, None, access)?;
    let prepared = prepare(&loaded, &supply, Extent::AsNeeded, &mut Unheard)?;
    Ok((prepared.memory().total(), prepared.total_steps))
}
