//! The points of a sweep: which values its parameters have together.

use super::keys::{Method, POINTS_MAX, Scale};
use super::setting::Setting;
use super::sobol::Sobol;
use super::spec::{Domain, Parameter, Sweep};
use crate::error::{Error, Result};
use crate::random::Stream;

/// Values of parameters that are tried together.
pub type Assignment = Vec<Setting>;

/// The points, in their order; the same sweep gives the same ones.
///
/// # Errors
/// When there are too many.
pub fn assignments(sweep: &Sweep) -> Result<Vec<Assignment>> {
    let each = sweep.configs.len() * sweep.datasets.len().max(1);
    let most = usize::try_from(POINTS_MAX).unwrap_or(usize::MAX) / each.max(1);
    let too_many = || {
        Error::config(format!("the sweep has more than {POINTS_MAX} points"))
            .at(&sweep.path)
            .hint("give fewer values, or draw some with `method = \"sobol\"` and `points`")
    };
    let parameters = &sweep.parameters;
    let drawn = sweep.points.unwrap_or(0);
    match sweep.method {
        Method::Grid => grid(parameters, most).ok_or_else(too_many),
        _ if drawn > most as u64 => Err(too_many()),
        Method::Random => {
            let stream = Stream::new(sweep.seed).site("sweep");
            let of_key = |parameter: &Parameter| stream.site(&parameter.key);
            let streams: Vec<Stream> = parameters.iter().map(of_key).collect();
            let numbers =
                |at: u64| streams.iter().map(|stream| stream.uniform(at)).collect::<Vec<_>>();
            Ok((0..drawn).map(|at| at_place(parameters, &numbers(at))).collect())
        }
        Method::Sobol => {
            let sequence = Sobol::new(parameters.len(), sweep.seed);
            let count = u32::try_from(drawn).unwrap_or(u32::MAX);
            Ok((0..count).map(|at| at_place(parameters, &sequence.point(at))).collect())
        }
    }
}

/// Every combination, the last parameter first; `None` if there are more than `most`.
fn grid(parameters: &[Parameter], most: usize) -> Option<Vec<Assignment>> {
    // A parameter that a point does not vary has no value in it.
    let mut points: Vec<Vec<Option<Setting>>> = vec![Vec::new()];
    for parameter in parameters {
        let values = all_values(parameter, most)?;
        let mut next = Vec::new();
        for point in points {
            if !is_varied(parameter, &point) {
                next.push([point, vec![None]].concat());
            } else {
                let with = |value: &Setting| {
                    let mut point = point.clone();
                    point.push(Some(value.clone()));
                    point
                };
                next.extend(values.iter().map(with));
            }
            if next.len() > most {
                return None;
            }
        }
        points = next;
    }
    Some(points.into_iter().map(|point| point.into_iter().flatten().collect()).collect())
}

/// The point at a place of the unit cube.
fn at_place(parameters: &[Parameter], place: &[f64]) -> Assignment {
    let mut point: Vec<Option<Setting>> = Vec::new();
    for (parameter, share) in parameters.iter().zip(place) {
        let value = is_varied(parameter, &point).then(|| value_at(parameter, *share));
        point.push(value);
    }
    point.into_iter().flatten().collect()
}

/// Whether the values of the parameters before are those that a parameter wants.
fn is_varied(parameter: &Parameter, point: &[Option<Setting>]) -> bool {
    parameter.when.iter().all(|(number, wanted)| {
        let value = point[*number].as_ref().and_then(|it| crate::document::literal(&it.toml));
        value.is_some_and(|value| wanted.contains(&value.to_string()))
    })
}

/// All values that a grid has of a parameter.
fn all_values(parameter: &Parameter, most: usize) -> Option<Vec<Setting>> {
    match &parameter.domain {
        Domain::List(listed) => {
            let one = |(toml, written): &(String, _)| Setting {
                key: parameter.key.clone(),
                toml: toml.clone(),
                written: Clone::clone(written),
            };
            Some(listed.iter().map(one).collect())
        }
        Domain::Range { count, .. } if *count > most as u64 => None,
        Domain::Range { count, .. } => {
            #[expect(clippy::cast_precision_loss)] // a small number
            let share = |at: u64| at as f64 / (*count - 1) as f64;
            let mut values: Vec<Setting> =
                (0..*count).map(|at| of_range(parameter, share(at), false)).collect();
            values.dedup(); // whole numbers may be fewer
            Some(values)
        }
    }
}

/// The value at a place in [0, 1).
fn value_at(parameter: &Parameter, share: f64) -> Setting {
    match &parameter.domain {
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation)]
        #[expect(clippy::cast_sign_loss)]
        Domain::List(listed) => {
            let index = (share * listed.len() as f64) as usize;
            let (toml, written) = listed[index.min(listed.len() - 1)].clone();
            Setting { key: parameter.key.clone(), toml, written }
        }
        Domain::Range { .. } => of_range(parameter, share, true),
    }
}

/// A value between the ends. Of whole numbers each is drawn equally often: the last one has as much
/// room as the others.
fn of_range(parameter: &Parameter, share: f64, drawn: bool) -> Setting {
    let Domain::Range { min, max, scale, whole, .. } = parameter.domain else {
        unreachable!("a list has no ends");
    };
    let top = if whole && drawn { max + 1.0 } else { max };
    let number = match scale {
        Scale::Linear => min + share * (top - min),
        Scale::Log => (min.ln() + share * (top.ln() - min.ln())).exp(),
    };
    let number = match (whole, drawn) {
        (true, true) => number.floor().clamp(min, max),
        (true, false) => number.round().clamp(min, max),
        (false, _) => rounded(number).clamp(min, max),
    };
    let toml = if whole { format!("{number}") } else { format!("{number:?}") };
    Setting { key: parameter.key.clone(), toml, written: parameter.written.clone() }
}

/// Twelve digits, so that what is meant as 1e-4 is not 1.0000000000000002e-4.
fn rounded(number: f64) -> f64 {
    format!("{number:.11e}").parse().unwrap_or(number)
}
