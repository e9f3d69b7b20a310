//! The exponential function, in a form that compilers make vectors of.

/// The exponential function for x ≤ 88, zero below −87; within 2 units in the last place. As in
/// Cephes: 2ⁿ times a polynomial in what is left of x.
#[inline(always)]
pub fn exponential(x: f32) -> f32 {
    const LOG2_E: f32 = std::f32::consts::LOG2_E;
    const LN_2_HIGH: f32 = 0.693_359_375;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let below = x < -87.0;
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 · 2²³ rounds to a whole number, whose bits are the last ones of the sum.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x * LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH;
    let r = r - n * LN_2_LOW;
    let mut p = 1.987_569_2e-4;
    for factor in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 0.166_666_65, 0.5] {
        p = p * r + factor;
    }
    let p = p * (r * r) + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000));
    if below { 0.0 } else { p * power }
}
