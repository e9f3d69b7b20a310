//! Scales and codes of numbers that share them, as the K-quants of ggml look for them: codes are
//! tried on grids somewhat wider and narrower than the range of the numbers, each with the scale
//! and the minimum that fit its codes best, and the best of all is taken (`make_qkx2_quants` and
//! `make_qx_quants` in `ggml-quants.c`). The order of additions is theirs, so that bytes agree.

/// Numbers below this are none.
pub const NOTHING: f32 = 1e-15;

/// The nearest whole number, halves to even. What is beyond 22 bits wraps, as it does in ggml.
pub fn nearest(value: f32) -> i32 {
    /// 1.5 · 2²³: behind it, neighbours of f32 are whole numbers.
    const SHIFT: f32 = 12_582_912.0;
    let bits = (value + SHIFT).to_bits() & 0x007f_ffff;
    bits.cast_signed() - 0x0040_0000
}

#[expect(clippy::cast_precision_loss)] // codes have six bits
fn float(code: i32) -> f32 {
    code as f32
}

/// How scales with a minimum are looked for.
#[derive(Debug, Clone, Copy)]
pub struct FitWithMinimum {
    /// The largest code.
    pub largest: u8,
    /// By how many steps of the grid the first one tried is wider than the range.
    pub first: f32,
    /// Tenths of a step that are added to that, one after the other.
    pub steps: u8,
}

impl FitWithMinimum {
    /// The code of a number of steps.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 31
    pub fn code(self, steps: f32) -> u8 {
        nearest(steps).clamp(0, i32::from(self.largest)) as u8
    }

    /// Scale and minimum, of which the latter is taken away, of numbers, of which it writes the
    /// codes.
    pub fn of(self, values: &[f32; 32], codes: &mut [u8]) -> [f32; 2] {
        let mean_square = values.iter().fold(0.0_f32, |sum, x| sum + x * x) / 32.0;
        let usual = mean_square.sqrt();
        let weights = values.map(|x| usual + x.abs());
        let (mut least, mut most) = (values[0], values[0]);
        for x in &values[1..] {
            least = if *x < least { *x } else { least };
            most = if *x > most { *x } else { most };
        }
        let mut minimum = if least > 0.0 { 0.0 } else { least };
        if most == minimum {
            codes.fill(0);
            return [0.0, -minimum];
        }
        let largest = f32::from(self.largest);
        let grid = largest / (most - minimum);
        let mut scale = 1.0 / grid;
        let tried = values.map(|x| self.code(grid * (x - minimum)));
        let mut least_error = error(values, &weights, &tried, [scale, minimum]);
        codes.copy_from_slice(&tried);
        let sums = Sums::of(values, &weights);
        for step in 0..=self.steps {
            let wider = self.first + 0.1 * f32::from(step) + largest;
            let grid = wider / (most - minimum);
            let tried = values.map(|x| self.code(grid * (x - minimum)));
            let Some(found) = sums.best(values, &weights, &tried) else { continue };
            let error = error(values, &weights, &tried, found);
            if error < least_error {
                codes.copy_from_slice(&tried);
                least_error = error;
                [scale, minimum] = found;
            }
        }
        [scale, -minimum]
    }
}

/// The weighted sum of squares by which `scale · code + minimum` is off.
fn error(values: &[f32; 32], weights: &[f32; 32], codes: &[u8; 32], fit: [f32; 2]) -> f32 {
    let [scale, minimum] = fit;
    let all = values.iter().zip(weights).zip(codes);
    all.fold(0.0, |sum, ((x, weight), code)| {
        let off = scale * f32::from(*code) + minimum - x;
        sum + weight * (off * off)
    })
}

/// Weighted sums over the numbers.
struct Sums {
    weights: f32,
    values: f32,
}

impl Sums {
    fn of(values: &[f32; 32], weights: &[f32; 32]) -> Self {
        let first = Self { weights: weights[0], values: weights[0] * values[0] };
        values.iter().zip(weights).skip(1).fold(first, |sums, (x, weight)| Self {
            weights: sums.weights + weight,
            values: sums.values + weight * x,
        })
    }

    /// Scale and minimum that fit codes best: those of weighted least squares, without a minimum
    /// above zero.
    fn best(&self, values: &[f32; 32], weights: &[f32; 32], codes: &[u8; 32]) -> Option<[f32; 2]> {
        let (mut of_codes, mut of_squares, mut of_products) = (0.0_f32, 0.0_f32, 0.0_f32);
        for ((x, weight), code) in values.iter().zip(weights).zip(codes) {
            let code = f32::from(*code);
            of_codes += weight * code;
            of_squares += weight * code * code;
            of_products += weight * code * x;
        }
        let determinant = self.weights * of_squares - of_codes * of_codes;
        if determinant.is_nan() || determinant <= 0.0 {
            return None;
        }
        let scale = (self.weights * of_products - self.values * of_codes) / determinant;
        let minimum = (of_squares * self.values - of_codes * of_products) / determinant;
        Some(match minimum > 0.0 {
            true => [of_products / of_squares, 0.0],
            false => [scale, minimum],
        })
    }
}

/// The scale of numbers without a minimum, of which it writes the codes, 32 more than what they
/// multiply the scale with. The number of the largest size gets −32 of it, or nearly so.
pub fn fit_symmetric(values: &[f32; 16], codes: &mut [u8; 16]) -> f32 {
    let far = values.iter().fold(0.0_f32, |far, x| if x.abs() > far.abs() { *x } else { far });
    if far.abs() < NOTHING {
        codes.fill(0);
        return 0.0;
    }
    let on_grid = |grid: f32| values.map(|x| nearest(grid * x).clamp(-32, 31));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 0 to 63
    let mut keep = |tried: [i32; 16]| *codes = tried.map(|code| (code + 32) as u8);
    // Weighted with their squares: of products with codes, and of squares of codes.
    let sums = |tried: &[i32; 16]| {
        values.iter().zip(tried).fold([0.0_f32; 2], |[products, squares], (x, code)| {
            let (weight, code) = (x * x, float(*code));
            [products + weight * x * code, squares + weight * code * code]
        })
    };
    let tried = on_grid(-32.0 / far);
    let [products, squares] = sums(&tried);
    keep(tried);
    let mut scale = if squares == 0.0 { 0.0 } else { products / squares };
    let mut best = scale * products;
    for step in (-9..=9).filter(|step| *step != 0) {
        let tried = on_grid(-(32.0 + 0.1 * float(step)) / far);
        let [products, squares] = sums(&tried);
        if squares > 0.0 && products * products > best * squares {
            keep(tried);
            scale = products / squares;
            best = scale * products;
        }
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_the_nearest_and_halves_are_even() {
        let numbers = [-1.5, -0.5, 0.5, 1.5, 2.5, 2.4999, -7.7, 4_000_000.0];
        assert_eq!(numbers.map(nearest), [-2, 0, 0, 2, 2, 2, -8, 4_000_000]);
    }

    #[test]
    fn numbers_on_a_grid_are_kept_exactly() {
        // 15 steps from -1 to 2: scale 0.2, minimum 1.
        let values: [f32; 32] = std::array::from_fn(|at| (at % 16) as f32 * 0.25 - 1.0);
        let mut codes = [0; 32];
        let fit = FitWithMinimum { largest: 15, first: -1.0, steps: 20 };
        let [scale, minimum] = fit.of(&values, &mut codes);
        assert!((scale - 0.25).abs() < 1e-6 && (minimum - 1.0).abs() < 1e-6, "{scale} {minimum}");
        assert!(codes.iter().enumerate().all(|(at, code)| usize::from(*code) == at % 16));
    }
}
