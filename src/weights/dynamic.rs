//! Eight bits that stand for numbers of many sizes: the dynamic maps of Dettmers 2016 ("8-bit
//! approximations for parallelism in deep learning"). Reference: bitsandbytes 0.50.2 on the CPU,
//! `create_dynamic_map` and `quantize_blockwise`.

use std::sync::{Arc, LazyLock};

/// Bins between -1 and 1 to which numbers are rounded before their codes are looked up.
const BINS: u16 = u16::MAX;

/// What eight bits stand for, and the code of each bin.
pub struct DynamicMap {
    /// The number of each code, rising.
    pub numbers: Arc<[f32; 256]>,
    codes: Vec<u8>,
}

/// Numbers between -1 and 1.
pub static SIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(numbers(0)));
/// Numbers between 0 and 1, in steps half as wide.
pub static UNSIGNED: LazyLock<DynamicMap> = LazyLock::new(|| DynamicMap::new(numbers(1)));

impl DynamicMap {
    fn new(numbers: [f32; 256]) -> Self {
        let (mut code, mut codes) = (0_u8, Vec::new());
        for bin in 0..=BINS {
            let number = -1.0 + 2.0 * f32::from(bin) / f32::from(BINS);
            let above = |code: u8| {
                let place = usize::from(code);
                0.5 * (numbers[place] + numbers[place + 1]) < number
            };
            while code < u8::MAX && above(code) {
                code += 1;
            }
            codes.push(code);
        }
        Self { numbers: Arc::new(numbers), codes }
    }

    /// The code of a number between -1 and 1.
    pub fn code(&self, number: f32) -> u8 {
        let place = (number.clamp(-1.0, 1.0) + 1.0) * 0.5 * f32::from(BINS) + 0.5;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and 65535
        let bin = place as u16;
        self.codes[usize::from(bin)]
    }

    /// The codes of a block; returns the largest size of its numbers, by which they are divided.
    pub fn code_block(&self, block: &[f32], codes: &mut [u8]) -> f32 {
        let absmax = block.iter().fold(0.0_f32, |most, number| number.abs().max(most));
        if absmax == 0.0 {
            codes.fill(self.code(0.0));
            return absmax;
        }
        let inverse = 1.0 / absmax;
        for (code, number) in codes.iter_mut().zip(block) {
            *code = self.code(number * inverse);
        }
        absmax
    }
}

/// Zero, one, and seven powers of ten, the middles of 1 to 64 equal parts of each on both sides, or
/// of `2 << finer` times as many on one.
fn numbers(finer: u32) -> [f32; 256] {
    const POWERS: [f32; 7] = [1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0];
    let mut numbers = vec![0.0, 1.0];
    for (number, power) in (0..).zip(POWERS) {
        let parts = 1_u16 << (number + finer);
        let step = (1.0 - 0.1) / f32::from(parts);
        // As torch.linspace: from both ends to the middle, rounded once.
        let boundary = |place: u16| match place < parts.div_ceil(2) {
            true => step.mul_add(f32::from(place), 0.1),
            false => (-step).mul_add(f32::from(parts - place), 1.0),
        };
        for part in 0..parts {
            let middle = power * ((boundary(part) + boundary(part + 1)) / 2.0);
            numbers.push(middle);
            if finer == 0 {
                numbers.push(-middle);
            }
        }
    }
    numbers.sort_by(f32::total_cmp);
    numbers.try_into().expect("254 numbers, zero and one")
}
