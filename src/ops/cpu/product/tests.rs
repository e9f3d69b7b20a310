//! Products against plain sums in double precision.

use half::bf16;

use super::*;
use crate::device::InstructionSet;
use crate::ops::cpu::element::Number;
use crate::ops::cpu::packed::Left;
use crate::random::Stream;

fn random(count: usize, name: &str) -> Vec<f32> {
    let stream = Stream::new(2).site(name);
    #[expect(clippy::cast_possible_truncation)]
    (0..count as u64).map(|index| stream.normal(index) as f32).collect()
}

/// Rows, inner and outputs: whole tiles and panels, one more, one less, one, more than a pass.
const SIZES: [[usize; 3]; 9] = [
    [6, 64, 64],
    [7, 65, 65],
    [5, 63, 63],
    [1, 1, 1],
    [13, 3, 130],
    [200, 20, 17],
    [12, 5000, 16],
    [97, 128, 48],
    [3, 2, 33],
];

/// In f64, of rounded factors.
fn reference<F: Format>(a: &[f32], b: &[f32], [rows, inner, outputs]: [usize; 3]) -> Vec<f64> {
    let of = |x: f32| f64::from(F::of(x).wide());
    let mut sums = vec![0.0; rows * outputs];
    for row in 0..rows {
        for k in 0..inner {
            for output in 0..outputs {
                sums[row * outputs + output] +=
                    of(a[row * inner + k]) * of(b[k * outputs + output]);
            }
        }
    }
    sums
}

fn transposed(matrix: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| matrix[r * columns + c])).collect()
}

fn near(what: &str, ours: &[f32], reference: &[f64], inner: usize) {
    assert_eq!(ours.len(), reference.len());
    for (ours, reference) in ours.iter().zip(reference) {
        #[expect(clippy::cast_precision_loss)]
        let limit = 1e-6 * (inner as f64).sqrt() * 3.0 + 1e-6 * reference.abs();
        assert!((f64::from(*ours) - reference).abs() < limit, "{what}: {ours} for {reference}");
    }
}

/// `step` is between one number of the format and the next, as a share.
fn check<F: Multiply>(step: f64) {
    let name = std::any::type_name::<F>();
    for size in SIZES {
        let [rows, inner, outputs] = size;
        let (a, b) = (random(rows * inner, "a"), random(inner * outputs, "b"));
        let wanted = reference::<F>(&a, &b, size);
        let left = Left::<F>::of(View::new(&a, rows, inner));
        let turned_a = transposed(&a, rows, inner);
        let left_turned = Left::<F>::transposed(View::new(&turned_a, inner, rows));
        let right = PackedRhs::<F>::pack_cols(View::new(&b, inner, outputs));
        let turned_b = transposed(&b, inner, outputs);
        let right_turned = PackedRhs::<F>::pack_rows(View::new(&turned_b, outputs, inner));
        let what = format!("{name} {size:?}");
        for (left, right) in [(&left, &right), (&left_turned, &right_turned)] {
            let term = Term { left: left.view(), right };
            let ours = product(&[term]);
            near(&what, &ours, &wanted, inner);
            // Two terms, on top of what is there.
            let mut sum = vec![0.5; rows * outputs];
            add_product(&mut sum, &[term, term]);
            let twice: Vec<f64> = wanted.iter().map(|x| 2.0 * x + 0.5).collect();
            near(&what, &sum, &twice, 4 * inner);
            // As a factor: rounded once, at the end.
            let factor = factor_product(&[term]);
            let factor = factor.view().part((0, rows), (0, outputs));
            for (row, wanted) in wanted.chunks_exact(outputs).enumerate() {
                for (ours, wanted) in factor.row(row).iter().zip(wanted) {
                    #[expect(clippy::cast_possible_truncation)]
                    let rounded = f64::from(F::of(*wanted as f32).wide());
                    let limit = 1e-6 * (inner as f64) + wanted.abs() * step;
                    assert!((f64::from(ours.wide()) - rounded).abs() <= limit, "{what}");
                }
            }
        }
    }
}

#[test]
fn products_are_those_of_double_precision_in_every_format_and_size() {
    check::<F32>(1e-6);
    check::<F32RoundedToBf16>(0.008);
    check::<Bf16>(0.008);
}

#[test]
fn weights_kept_in_bfloat16_are_the_same_factors() {
    let b = random(40 * 30, "b");
    let kept: Vec<bf16> = b.iter().map(|x| x.rounded()).collect();
    let a = random(9 * 40, "a");
    let left = Left::<F32RoundedToBf16>::of(View::new(&a, 9, 40));
    let of = |right: &PackedRhs<F32RoundedToBf16>| product(&[Term { left: left.view(), right }]);
    let rounded = of(&PackedRhs::pack_cols(View::new(&b, 40, 30)));
    assert_eq!(rounded, of(&PackedRhs::pack_cols(View::new(&kept, 40, 30))));
}

/// Leaving out the ends of long right factors, and whole panels of outputs.
#[test]
fn right_factors_may_be_longer_and_wider() {
    let (a, b) = (random(10 * 20, "a"), random(50 * 200, "b"));
    let left = Left::<F32>::of(View::new(&a, 10, 20));
    let right = PackedRhs::<F32>::pack_cols(View::new(&b, 50, 200));
    let mut part = vec![7.0; 3];
    let terms = [Term { left: left.view(), right: &right }];
    for (skip_outputs, skip_inner, outputs) in [(0, 0, 128), (64, 4, 64), (128, 30, 72)] {
        let skipped = Skipped { outputs: skip_outputs, inner: skip_inner };
        let rows = b.chunks(200).skip(skip_inner).take(20);
        let b: Vec<f32> = rows.flat_map(|row| row[skip_outputs..][..outputs].to_vec()).collect();
        let wanted = reference::<F32>(&a, &b, [10, 20, outputs]);
        for tile in Tile::supported() {
            product_here_by(tile, &mut part, outputs, &terms, skipped);
            near(tile.name(), &part, &wanted, 20);
        }
        product_here(&mut part, outputs, &terms, skipped);
        near("part", &part, &wanted, 20);
    }
}

/// Steps that fit caches of any size, one of a whole pass among them.
#[test]
fn the_depth_of_steps_changes_no_bit() {
    fn bits<F: Multiply>(depth: usize) -> Vec<u32> {
        set_step_depth(depth);
        let (a, b) = (random(20 * 5000, "a"), random(5000 * 70, "b"));
        let left = Left::<F>::of(View::new(&a, 20, 5000));
        let right = PackedRhs::<F>::pack_cols(View::new(&b, 5000, 70));
        let term = Term { left: left.view(), right: &right };
        let mut sum = product(&[term, term]);
        add_product(&mut sum, &[term]);
        let factor = factor_product(&[term, term]);
        let factor = factor.numbers().iter().map(|number| number.wide());
        sum.iter().copied().chain(factor).map(f32::to_bits).collect()
    }
    let by_processor = step_depth();
    for depth in [16, 96, 144, 1024] {
        assert!(bits::<F32>(depth) == bits::<F32>(2048), "{depth}");
        assert!(bits::<Bf16>(depth) == bits::<Bf16>(2048), "{depth}");
    }
    set_step_depth(by_processor);
}

/// What is asked of a tile: sums in passes and steps, of two terms, and of rounded factors.
fn bits_by<F: Multiply>(tile: Tile, [rows, inner, outputs]: [usize; 3]) -> Vec<u32> {
    let (a, b) = (random(rows * inner, "a"), random(inner * outputs, "b"));
    let left = Left::<F>::of(View::new(&a, rows, inner));
    let right = PackedRhs::<F>::pack_cols(View::new(&b, inner, outputs));
    let term = Term { left: left.view(), right: &right };
    let mut all = product_by(tile, &[term, term]);
    if outputs.is_multiple_of(F::GROUP) {
        let factor = make(tile, &[term], outputs, usize::MAX, |room| Target::Factor(room));
        all.extend(factor.into_iter().map(|number: F::Stored| number.wide()));
    }
    all.into_iter().map(f32::to_bits).collect()
}

/// Sizes of [`SIZES`], and rows and outputs around those of tall tiles.
fn sizes_of_tiles() -> Vec<[usize; 3]> {
    let more =
        [[14, 32, 64], [15, 33, 32], [13, 2100, 31], [29, 40, 100], [43, 17, 96], [4, 0, 40]];
    SIZES.into_iter().chain(more).collect()
}

/// Instructions differ in how many numbers they take at once, tiles in what is summed beside what:
/// each sum is made in one order.
#[test]
fn tiles_and_instructions_change_no_bit_in_32_bits() {
    let tiles = Tile::supported();
    for size in sizes_of_tiles() {
        let single = bits_by::<F32>(tiles[0], size);
        let rounded = bits_by::<F32RoundedToBf16>(tiles[0], size);
        for tile in &tiles[1..] {
            let what = format!("{} beside {}, {size:?}", tile.name(), tiles[0].name());
            assert!(bits_by::<F32>(*tile, size) == single, "{what}");
            assert!(bits_by::<F32RoundedToBf16>(*tile, size) == rounded, "{what}, rounded");
        }
    }
}

/// The instruction for bfloat16 rounds as no other does; what is summed beside what changes no bit
/// with it, and none without.
#[test]
fn tiles_change_no_bit_in_bfloat16() {
    for size in sizes_of_tiles() {
        let (inner, mut all) = (size[1], Vec::new());
        for rounds in [false, true] {
            let of = |tile: &Tile| (tile.instructions == InstructionSet::Avx512Bf16) == rounds;
            let tiles: Vec<Tile> = Tile::supported().into_iter().filter(of).collect();
            let found: Vec<_> = tiles.iter().map(|tile| bits_by::<Bf16>(*tile, size)).collect();
            assert!(found.windows(2).all(|pair| pair[0] == pair[1]), "{tiles:?}, {size:?}");
            all.extend(found.into_iter().next());
        }
        // Of sums alone: how a factor is rounded may turn around.
        let sums = size[0] * size[2];
        for pair in all.windows(2) {
            for (a, b) in pair[0][..sums].iter().zip(&pair[1][..sums]) {
                let difference = (f32::from_bits(*a) - f32::from_bits(*b)).abs();
                assert!(difference < 1e-5 * (1.0 + inner as f32), "{difference} in {size:?}");
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    fn bits<F: Multiply>(threads: usize) -> Vec<u32> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (a, b) = (random(301 * 130, "a"), random(130 * 200, "b"));
            let left = Left::<F>::of(View::new(&a, 301, 130));
            let right = PackedRhs::<F>::pack_cols(View::new(&b, 130, 200));
            let term = Term { left: left.view(), right: &right };
            let mut sum = product(&[term]);
            add_product(&mut sum, &[term]);
            sum.into_iter().map(f32::to_bits).collect()
        })
    }
    for threads in [2, 3, 16] {
        assert_eq!(bits::<F32>(threads), bits::<F32>(1));
        assert_eq!(bits::<Bf16>(threads), bits::<Bf16>(1));
    }
}

#[test]
fn what_is_no_number_stays_none() {
    for (place, number) in [(0, f32::NAN), (3, f32::INFINITY)] {
        let mut a = random(6 * 8, "a");
        a[place] = number;
        let b = random(8 * 16, "b");
        let left = Left::<Bf16>::of(View::new(&a, 6, 8));
        let right = PackedRhs::<Bf16>::pack_cols(View::new(&b, 8, 16));
        let product = product(&[Term { left: left.view(), right: &right }]);
        assert!(product[..16].iter().all(|x| !x.is_finite()));
        assert!(product[16..].iter().all(|x| x.is_finite()));
    }
}
