//! The largest singular values of a matrix with their vectors: Golub–Kahan–Lanczos
//! bidiagonalisation with full reorthogonalisation (Golub and Van Loan, Matrix Computations, 10.4),
//! in 64 bits. Sums are made in a fixed order, so that the same matrix gives the same bits on any
//! number of threads.

use rayon::prelude::*;

use crate::random::Stream;

/// How far from a singular triplet, as a share of the largest value, one may be.
const TOLERANCE: f64 = 1e-10;
/// A vector that much shorter than the largest singular value is none.
const NOTHING: f64 = 1e-14;
/// Singular values that are a smaller share of the largest are none.
const SMALLEST: f64 = 1e-12;
/// Columns of which a thread makes sums at a time.
const STRIP: usize = 64;

/// Singular values, the largest first, and vectors of length one for each.
pub struct Triplets {
    pub values: Vec<f64>,
    /// As long as a column of the matrix.
    pub left: Vec<Vec<f64>>,
    /// As long as a row.
    pub right: Vec<Vec<f64>>,
}

/// The `count` largest of a matrix `[rows, columns]`, `count` at most the smaller of both; `chance`
/// is where the first vector is drawn from. The largest number of each right vector is positive.
pub fn largest((matrix, columns): (&[f32], usize), count: usize, chance: Stream) -> Triplets {
    let rows = matrix.len() / columns;
    let both = Sides { matrix, columns, transposed: rows < columns };
    let mut found = Lanczos::new(both, chance);
    let all = rows.min(columns);
    let mut steps = (4 * count + 32).min(all);
    loop {
        found.extend(steps);
        let (triplets, error) = found.triplets(count);
        if steps == all || error <= TOLERANCE * triplets.values[0] {
            return triplets.positive();
        }
        steps = (2 * steps).min(all);
    }
}

impl Triplets {
    fn positive(mut self) -> Self {
        for (left, right) in self.left.iter_mut().zip(&mut self.right) {
            let largest = right.iter().fold(0.0_f64, |a, b| if b.abs() > a.abs() { *b } else { a });
            if largest < 0.0 {
                left.iter_mut().chain(right).for_each(|x| *x = -*x);
            }
        }
        self
    }
}

/// A matrix seen so that it has no fewer rows than columns.
#[derive(Clone, Copy)]
struct Sides<'a> {
    matrix: &'a [f32],
    columns: usize,
    transposed: bool,
}

impl Sides<'_> {
    fn of_rows(self, x: &[f64]) -> Vec<f64> {
        let dot = |row: &[f32]| row.iter().zip(x).map(|(a, b)| f64::from(*a) * b).sum::<f64>();
        self.matrix.par_chunks(self.columns).map(dot).collect()
    }

    fn of_columns(self, y: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.columns];
        sums.par_chunks_mut(STRIP).enumerate().for_each(|(strip, sums)| {
            for (row, y) in self.matrix.chunks(self.columns).zip(y) {
                let row = &row[strip * STRIP..][..sums.len()];
                sums.iter_mut().zip(row).for_each(|(sum, a)| *sum += f64::from(*a) * y);
            }
        });
        sums
    }

    /// `A·x`.
    fn times(self, x: &[f64]) -> Vec<f64> {
        if self.transposed { self.of_columns(x) } else { self.of_rows(x) }
    }

    /// `Aᵀ·y`.
    fn transposed_times(self, y: &[f64]) -> Vec<f64> {
        if self.transposed { self.of_rows(y) } else { self.of_columns(y) }
    }

    /// Its rows and columns.
    fn dims(self) -> [usize; 2] {
        let rows = self.matrix.len() / self.columns;
        if self.transposed { [self.columns, rows] } else { [rows, self.columns] }
    }
}

/// `A·V = U·B` with orthonormal `U` and `V`, and `B` with the numbers `alphas` on its diagonal and
/// `betas` above it.
struct Lanczos<'a> {
    both: Sides<'a>,
    left: Vec<Vec<f64>>,
    right: Vec<Vec<f64>>,
    alphas: Vec<f64>,
    /// One more than fit into `B`: what the next step has.
    betas: Vec<f64>,
    /// The next right vector.
    next: Vec<f64>,
    chance: Stream,
    drawn: u64,
    /// The length of the longest vector so far.
    most: f64,
}

impl<'a> Lanczos<'a> {
    fn new(both: Sides<'a>, chance: Stream) -> Self {
        let (left, right, alphas, betas) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let next = Vec::new();
        let mut new = Self { both, left, right, alphas, betas, next, chance, drawn: 0, most: 0.0 };
        new.next = new.draw(both.dims()[1], &[]);
        new
    }

    /// A unit vector at right angles to others.
    fn draw(&mut self, length: usize, others: &[Vec<f64>]) -> Vec<f64> {
        loop {
            self.drawn += 1;
            let chance = self.chance.number(self.drawn);
            let mut x: Vec<f64> = (0..length as u64).map(|index| chance.normal(index)).collect();
            let before = norm(&x);
            orthogonalise(&mut x, others);
            let after = norm(&x);
            if after > 1e-6 * before {
                x.iter_mut().for_each(|x| *x /= after);
                return x;
            }
        }
    }

    /// Makes steps until there are so many, at most as many as the matrix has columns.
    fn extend(&mut self, steps: usize) {
        let [rows, columns] = self.both.dims();
        while self.right.len() < steps {
            let v = std::mem::take(&mut self.next);
            let mut u = self.both.times(&v);
            if let (Some(last), Some(beta)) = (self.left.last(), self.betas.last()) {
                u.iter_mut().zip(last).for_each(|(u, last)| *u -= beta * last);
            }
            orthogonalise(&mut u, &self.left);
            let alpha = self.unit(&mut u);
            if alpha == 0.0 {
                let others = std::mem::take(&mut self.left);
                u = self.draw(rows, &others);
                self.left = others;
            }
            let mut next = self.both.transposed_times(&u);
            next.iter_mut().zip(&v).for_each(|(next, v)| *next -= alpha * v);
            self.left.push(u);
            self.right.push(v);
            self.alphas.push(alpha);
            orthogonalise(&mut next, &self.right);
            let beta = self.unit(&mut next);
            if beta == 0.0 && self.right.len() < columns {
                // Nothing of the rest of the matrix is seen from here.
                let others = std::mem::take(&mut self.right);
                next = self.draw(columns, &others);
                self.right = others;
            }
            self.betas.push(beta);
            self.next = next;
        }
    }

    /// Makes a vector one of length one, and gives what it had: exactly zero where it was nothing.
    fn unit(&mut self, x: &mut [f64]) -> f64 {
        let length = norm(x);
        self.most = self.most.max(length);
        if length <= NOTHING * self.most {
            return 0.0;
        }
        x.iter_mut().for_each(|x| *x /= length);
        length
    }

    /// The largest triplets of what was seen of the matrix, and how far the worst of them is from
    /// one of the whole.
    fn triplets(&self, count: usize) -> (Triplets, f64) {
        let steps = self.alphas.len();
        // BᵀB has these numbers on its diagonal and beside it.
        let before = |index: usize| if index == 0 { 0.0 } else { self.betas[index - 1] };
        let mut diagonal: Vec<f64> =
            (0..steps).map(|i| self.alphas[i].powi(2) + before(i).powi(2)).collect();
        let mut beside: Vec<f64> = (0..steps).map(|i| self.alphas[i] * self.betas[i]).collect();
        beside[steps - 1] = 0.0;
        let vectors = tridiagonal(&mut diagonal, &mut beside);
        let mut order: Vec<usize> = (0..steps).collect();
        order.sort_by(|a, b| diagonal[*b].total_cmp(&diagonal[*a]).then(a.cmp(b)));
        let mut found = Triplets { values: Vec::new(), left: Vec::new(), right: Vec::new() };
        let mut worst = 0.0_f64;
        for index in order.into_iter().take(count) {
            let y = &vectors[index];
            // B·y is the value times the left vector.
            let mut x: Vec<f64> = (0..steps)
                .map(|i| {
                    let above = y.get(i + 1).map_or(0.0, |next| self.betas[i] * next);
                    self.alphas[i] * y[i] + above
                })
                .collect();
            let mut value = norm(&x);
            if value > SMALLEST * self.most {
                x.iter_mut().for_each(|x| *x /= value);
            } else {
                (value, x) = (0.0, vec![0.0; steps]); // rounding, which has no direction
            }
            worst = worst.max(self.betas[steps - 1] * x[steps - 1].abs());
            found.values.push(value);
            let (mut left, mut right) = (combined(&self.left, &x), combined(&self.right, y));
            if self.both.transposed {
                std::mem::swap(&mut left, &mut right);
            }
            found.left.push(left);
            found.right.push(right);
        }
        (found, worst)
    }
}

fn norm(x: &[f64]) -> f64 {
    x.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// Takes from a vector what it has in the direction of others, which have length one and stand at
/// right angles to each other; twice, since rounding leaves some of it.
fn orthogonalise(x: &mut [f64], others: &[Vec<f64>]) {
    for _ in 0..2 {
        let shares: Vec<f64> = others
            .par_iter()
            .map(|other| other.iter().zip(&*x).map(|(a, b)| a * b).sum::<f64>())
            .collect();
        x.par_chunks_mut(STRIP).enumerate().for_each(|(strip, x)| {
            for (other, share) in others.iter().zip(&shares) {
                let other = &other[strip * STRIP..][..x.len()];
                x.iter_mut().zip(other).for_each(|(x, other)| *x -= share * other);
            }
        });
    }
}

/// The sum of vectors, each times a number.
fn combined(vectors: &[Vec<f64>], factors: &[f64]) -> Vec<f64> {
    let mut sum = vec![0.0; vectors[0].len()];
    for (vector, factor) in vectors.iter().zip(factors) {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += factor * x);
    }
    sum
}

/// Eigenvalues, which take the place of the diagonal, and eigenvectors of a symmetric tridiagonal
/// matrix: QL with implicit shifts (Golub and Van Loan, 8.3). `beside[i]` stands between the places
/// `i` and `i + 1` of the diagonal.
fn tridiagonal(diagonal: &mut [f64], beside: &mut [f64]) -> Vec<Vec<f64>> {
    let size = diagonal.len();
    let unit = |place| (0..size).map(|i| f64::from(u8::from(i == place))).collect();
    let mut rows: Vec<Vec<f64>> = (0..size).map(unit).collect();
    for first in 0..size {
        loop {
            let is_split = |place: &usize| {
                let around = diagonal[*place].abs() + diagonal[*place + 1].abs();
                beside[*place].abs() <= f64::EPSILON * around
            };
            let last = (first..size - 1).find(is_split).unwrap_or(size - 1);
            if last == first {
                break;
            }
            chase((&mut *diagonal, &mut *beside), &mut rows, first, last);
        }
    }
    rows
}

/// One sweep of rotations from `last` to `first`.
fn chase(
    (diagonal, beside): (&mut [f64], &mut [f64]),
    rows: &mut [Vec<f64>],
    first: usize,
    last: usize,
) {
    // The eigenvalue of the leading two by two block that is the nearer to its corner.
    let half = (diagonal[first + 1] - diagonal[first]) / (2.0 * beside[first]);
    let shift = beside[first] / (half + half.hypot(1.0).copysign(half));
    let mut g = diagonal[last] - diagonal[first] + shift;
    let (mut sine, mut cosine, mut taken) = (1.0, 1.0, 0.0);
    for i in (first..last).rev() {
        let (f, b) = (sine * beside[i], cosine * beside[i]);
        let length = f.hypot(g);
        beside[i + 1] = length;
        if length == 0.0 {
            diagonal[i + 1] -= taken;
            beside[last] = 0.0;
            return;
        }
        (sine, cosine) = (f / length, g / length);
        g = diagonal[i + 1] - taken;
        let both = (diagonal[i] - g) * sine + 2.0 * cosine * b;
        taken = sine * both;
        diagonal[i + 1] = g + taken;
        g = cosine * both - b;
        let (low, high) = rows.split_at_mut(i + 1);
        for (low, high) in low[i].iter_mut().zip(&mut high[0]) {
            (*high, *low) = (sine * *low + cosine * *high, cosine * *low - sine * *high);
        }
    }
    diagonal[first] -= taken;
    beside[first] = g;
    beside[last] = 0.0;
}

#[cfg(test)]
#[path = "singular_tests.rs"]
mod tests;
