//! Tables of plain facts, the raw material of every sentence in the data sets.

mod everyday;
mod nature;
mod people;
mod world;

pub use everyday::{BOOKS, COLOURS, MIXTURES, MONTHS, OPPOSITES, THINGS, UNITS, WEEKDAYS, WORDS};
pub use nature::{ANIMALS, ELEMENTS, PLANETS};
pub use people::{CITIES, HOBBIES, JOBS, MEN, SURNAMES, WOMEN};
pub use world::COUNTRIES;
