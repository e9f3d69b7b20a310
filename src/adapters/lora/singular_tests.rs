//! Singular triplets are those of the matrix, whatever it is and however many threads there are.

use super::*;

fn matrix(rows: usize, columns: usize, rank: usize) -> Vec<f32> {
    let chance = Stream::new(3);
    let of = |site: &str, count: usize| -> Vec<f64> {
        (0..count as u64).map(|i| chance.site(site).normal(i)).collect()
    };
    let (a, b) = (of("a", rows * rank), of("b", rank * columns));
    let sum = |row: usize, column: usize| -> f64 {
        let each = (0..rank).map(|k| a[row * rank + k] * b[k * columns + column] / (k + 1) as f64);
        each.sum()
    };
    (0..rows * columns).map(|at| sum(at / columns, at % columns) as f32).collect()
}

/// `A·v = σ·u`, `Aᵀ·u = σ·v`, at right angles to each other, and no larger one is left.
fn check(matrix: &[f32], columns: usize, count: usize) {
    let rows = matrix.len() / columns;
    let found = largest((matrix, columns), count, Stream::new(1));
    let both = Sides { matrix, columns, transposed: false };
    let most = found.values[0];
    for i in 0..count {
        let (value, left, right) = (found.values[i], &found.left[i], &found.right[i]);
        assert!(i == 0 || value <= found.values[i - 1] + 1e-7 * most);
        // One of the vectors is made of the other, by a division by the value.
        let limit = if value > 0.0 { 1e-9 + 1e-14 * most / value } else { 0.0 };
        for (a, b) in both.times(right).iter().zip(left) {
            assert!((a - value * b).abs() <= limit * most, "{i}: {a} {}", value * b);
        }
        for (a, b) in both.transposed_times(left).iter().zip(right) {
            assert!((a - value * b).abs() <= limit * most, "{i}: {a} {}", value * b);
        }
        for j in 0..=i {
            let dot: f64 = right.iter().zip(&found.right[j]).map(|(a, b)| a * b).sum();
            assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-9, "{i} {j} {dot}");
        }
    }
    // What is left over has the sum of the squares of the others.
    let mut rest: Vec<f64> = matrix.iter().map(|x| f64::from(*x)).collect();
    let whole: f64 = rest.iter().map(|x| x * x).sum();
    for i in 0..count {
        for row in 0..rows {
            for column in 0..columns {
                let (u, v) = (found.left[i][row], found.right[i][column]);
                rest[row * columns + column] -= found.values[i] * u * v;
            }
        }
    }
    let left: f64 = rest.iter().map(|x| x * x).sum();
    let taken: f64 = found.values.iter().map(|x| x * x).sum();
    assert!((whole - taken - left).abs() < 1e-9 * whole, "{whole} {taken} {left}");
    if count == rows.min(columns) {
        assert!(left < 1e-12 * whole, "{left} of {whole}");
    }
}

#[test]
fn triplets_are_those_of_the_matrix() {
    for (rows, columns, rank) in [(70, 150, 60), (150, 70, 60), (64, 64, 64)] {
        let matrix = matrix(rows, columns, rank);
        check(&matrix, columns, 1);
        check(&matrix, columns, 7);
        check(&matrix, columns, rows.min(columns));
    }
}

/// Values that come several times, and matrices with less in them than is asked for.
#[test]
fn what_a_single_vector_does_not_see_is_found() {
    let unit: Vec<f32> = (0..20 * 20).map(|at| f32::from(u8::from(at % 21 == 0))).collect();
    check(&unit, 20, 5);
    check(&matrix(30, 12, 3), 12, 12);
    let nothing = largest((&[0.0; 12], 4), 2, Stream::new(1));
    assert_eq!(nothing.values, [0.0, 0.0]);
}

#[test]
fn another_number_of_threads_gives_the_same_bits() {
    let matrix = matrix(200, 90, 40);
    let of = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let found = pool.install(|| largest((&matrix, 90), 6, Stream::new(1)));
        (found.values, found.left, found.right)
    };
    assert_eq!(of(1), of(3));
}
