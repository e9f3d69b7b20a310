//! The Sobol sequence: points that fill a cube more evenly than independent draws do.
//!
//! Primitive polynomials and first direction numbers are those of Joe and Kuo 2008, "Constructing
//! Sobol sequences with better two-dimensional projections" (their list `new-joe-kuo-6`); the order
//! of points is that of Antonov and Saleev 1979. A seed shifts the points (Cranley and Patterson
//! 1976, here bit by bit), which keeps their evenness.

use crate::random::Stream;

/// More dimensions than this have no direction numbers here.
pub const DIMENSIONS_MAX: usize = 64;

const BITS: u32 = 32;

/// Of each dimension but the first: the inner coefficients of its polynomial as bits, and its first
/// direction numbers, as many as the degree.
const DIRECTIONS: [(u32, &[u32]); DIMENSIONS_MAX - 1] = [
    (0, &[1]),
    (1, &[1, 3]),
    (1, &[1, 3, 1]),
    (2, &[1, 1, 1]),
    (1, &[1, 1, 3, 3]),
    (4, &[1, 3, 5, 13]),
    (2, &[1, 1, 5, 5, 17]),
    (4, &[1, 1, 5, 5, 5]),
    (7, &[1, 1, 7, 11, 19]),
    (11, &[1, 1, 5, 1, 1]),
    (13, &[1, 1, 1, 3, 11]),
    (14, &[1, 3, 5, 5, 31]),
    (1, &[1, 3, 3, 9, 7, 49]),
    (13, &[1, 1, 1, 15, 21, 21]),
    (16, &[1, 3, 1, 13, 27, 49]),
    (19, &[1, 1, 1, 15, 7, 5]),
    (22, &[1, 3, 1, 15, 13, 25]),
    (25, &[1, 1, 5, 5, 19, 61]),
    (1, &[1, 3, 7, 11, 23, 15, 103]),
    (4, &[1, 3, 7, 13, 13, 15, 69]),
    (7, &[1, 1, 3, 13, 7, 35, 63]),
    (8, &[1, 3, 5, 9, 1, 25, 53]),
    (14, &[1, 3, 1, 13, 9, 35, 107]),
    (19, &[1, 3, 1, 5, 27, 61, 31]),
    (21, &[1, 1, 5, 11, 19, 41, 61]),
    (28, &[1, 3, 5, 3, 3, 13, 69]),
    (31, &[1, 1, 7, 13, 1, 19, 1]),
    (32, &[1, 3, 7, 5, 13, 19, 59]),
    (37, &[1, 1, 3, 9, 25, 29, 41]),
    (41, &[1, 3, 5, 13, 23, 1, 55]),
    (42, &[1, 3, 7, 3, 13, 59, 17]),
    (50, &[1, 3, 1, 3, 5, 53, 69]),
    (55, &[1, 1, 5, 5, 23, 33, 13]),
    (56, &[1, 1, 7, 7, 1, 61, 123]),
    (59, &[1, 1, 7, 9, 13, 61, 49]),
    (62, &[1, 3, 3, 5, 3, 55, 33]),
    (14, &[1, 3, 1, 15, 31, 13, 49, 245]),
    (21, &[1, 3, 5, 15, 31, 59, 63, 97]),
    (22, &[1, 3, 1, 11, 11, 11, 77, 249]),
    (38, &[1, 3, 1, 11, 27, 43, 71, 9]),
    (47, &[1, 1, 7, 15, 21, 11, 81, 45]),
    (49, &[1, 3, 7, 3, 25, 31, 65, 79]),
    (50, &[1, 3, 1, 1, 19, 11, 3, 205]),
    (52, &[1, 1, 5, 9, 19, 21, 29, 157]),
    (56, &[1, 3, 7, 11, 1, 33, 89, 185]),
    (67, &[1, 3, 3, 3, 15, 9, 79, 71]),
    (70, &[1, 3, 7, 11, 15, 39, 119, 27]),
    (84, &[1, 1, 3, 1, 11, 31, 97, 225]),
    (97, &[1, 1, 1, 3, 23, 43, 57, 177]),
    (103, &[1, 3, 7, 7, 17, 17, 37, 71]),
    (115, &[1, 3, 1, 5, 27, 63, 123, 213]),
    (122, &[1, 1, 3, 5, 11, 43, 53, 133]),
    (8, &[1, 3, 5, 5, 29, 17, 47, 173, 479]),
    (13, &[1, 3, 3, 11, 3, 1, 109, 9, 69]),
    (16, &[1, 1, 1, 5, 17, 39, 23, 5, 343]),
    (22, &[1, 3, 1, 5, 25, 15, 31, 103, 499]),
    (25, &[1, 1, 1, 11, 11, 17, 63, 105, 183]),
    (44, &[1, 1, 5, 11, 9, 29, 97, 231, 363]),
    (47, &[1, 1, 5, 15, 19, 45, 41, 7, 383]),
    (52, &[1, 3, 7, 7, 31, 19, 83, 137, 221]),
    (55, &[1, 1, 1, 3, 23, 15, 111, 223, 83]),
    (59, &[1, 1, 5, 13, 31, 15, 55, 25, 161]),
    (62, &[1, 1, 3, 13, 25, 47, 39, 87, 257]),
];

/// A sequence of points.
#[derive(Debug, Clone)]
pub struct Sobol {
    directions: Vec<[u32; BITS as usize]>,
    shifts: Vec<u32>,
}

impl Sobol {
    /// The sequence in so many dimensions, at most [`DIMENSIONS_MAX`], shifted by a seed.
    pub fn new(dimensions: usize, seed: u64) -> Self {
        let stream = Stream::new(seed).site("sobol");
        let shift = |dimension: usize| (stream.bits(dimension as u64) >> 32) as u32;
        let mut sequence = Self::plain(dimensions);
        sequence.shifts = (0..dimensions).map(shift).collect();
        sequence
    }

    /// The sequence itself, which begins at the origin.
    fn plain(dimensions: usize) -> Self {
        let directions = (0..dimensions).map(directions).collect();
        Self { directions, shifts: vec![0; dimensions] }
    }

    /// A point, counted from 0; each number is in [0, 1).
    pub fn point(&self, index: u32) -> Vec<f64> {
        let gray = index ^ (index >> 1);
        let at = |(directions, shift): (&[u32; BITS as usize], &u32)| {
            let set = directions.iter().enumerate().filter(|(bit, _)| gray >> bit & 1 == 1);
            let number = set.fold(*shift, |number, (_, direction)| number ^ direction);
            f64::from(number) / 2f64.powi(BITS.cast_signed())
        };
        self.directions.iter().zip(&self.shifts).map(at).collect()
    }
}

/// The direction numbers of a dimension, each as bits behind the point.
fn directions(dimension: usize) -> [u32; BITS as usize] {
    let mut numbers = [0; BITS as usize];
    let Some(before) = dimension.checked_sub(1) else {
        // The first dimension is the van der Corput sequence.
        for (bit, number) in numbers.iter_mut().enumerate() {
            *number = 1 << (BITS as usize - 1 - bit);
        }
        return numbers;
    };
    let (coefficients, first) = DIRECTIONS[before];
    let degree = first.len();
    for bit in 0..BITS as usize {
        numbers[bit] = match first.get(bit) {
            Some(number) => number << (BITS as usize - 1 - bit),
            None => {
                let start = numbers[bit - degree] ^ (numbers[bit - degree] >> degree);
                let inner = (1..degree).filter(|at| coefficients >> (degree - 1 - at) & 1 == 1);
                inner.fold(start, |number, at| number ^ numbers[bit - at])
            }
        };
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `tests/reference/sobol.py` made the file.
    #[test]
    fn points_are_those_of_pytorch() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/sobol.json");
        let json: serde_json::Value =
            serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let sequence = Sobol::plain(DIMENSIONS_MAX);
        let points = json["points"].as_array().unwrap();
        assert_eq!(points.len(), 40);
        for (index, wanted) in points.iter().enumerate() {
            let wanted: Vec<f64> =
                wanted.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
            assert_eq!(sequence.point(u32::try_from(index).unwrap()), wanted, "{index}");
        }
    }

    /// Of 2^k points of a dimension, one lies in each of 2^k equal parts, however they are shifted.
    #[test]
    fn a_shift_keeps_the_points_even() {
        let sequence = Sobol::new(DIMENSIONS_MAX, 7);
        for dimension in 0..DIMENSIONS_MAX {
            let mut parts: Vec<u32> =
                (0..256).map(|at| (sequence.point(at)[dimension] * 256.0) as u32).collect();
            parts.sort_unstable();
            assert!(parts.into_iter().eq(0..256), "{dimension}");
        }
        assert_ne!(sequence.point(3), Sobol::new(DIMENSIONS_MAX, 8).point(3));
    }
}
