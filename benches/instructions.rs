//! One operation on fixed input, so many times, on one thread: for an instruction counter, which
//! is not disturbed by what else the machine does. `instructions.sh` runs it.
//!
//! `instructions NAME COUNT`; without a name, the names.

use std::hint::black_box;

use firebrand::data::{Packing, pack, permuted};
use firebrand::ops::Activation;
use firebrand::ops::cpu::{
    Bf16, F32, F32RoundedToBf16, Left, Norm, PackedRhs, Rotation, Scores, Term, View,
    factor_product, gated, gated_backward, product,
};
use firebrand::random::Stream;

/// Tokens and features of a matrix.
const TOKENS: usize = 128;
const FEATURES: usize = 576;

fn numbers(count: usize) -> Vec<f32> {
    let stream = Stream::new(7);
    #[expect(clippy::cast_possible_truncation)]
    (0..count as u64).map(|index| stream.normal(index) as f32).collect()
}

fn matrix(data: &[f32]) -> View<'_, f32> {
    View::new(data, data.len() / FEATURES, FEATURES)
}

/// What is measured: its name, and an operation whose result nobody knows before.
type Operation = (&'static str, Box<dyn Fn() + Send + Sync>);

fn operation<R>(name: &'static str, run: impl Fn() -> R + Send + Sync + 'static) -> Operation {
    (name, Box::new(move || drop(black_box(run()))))
}

fn data() -> Vec<Operation> {
    let lengths: Vec<(u32, usize)> =
        (0..4096).map(|place| (place, 40 + place as usize * 37 % 1500)).collect();
    vec![
        operation("permutation", || -> u64 {
            (0..4096).map(|position| permuted(Stream::new(3), 1_000_003, position)).sum()
        }),
        operation("packer", move || pack(lengths.iter().copied(), 2048, Packing::BestFit)),
    ]
}

fn pointwise() -> Vec<Operation> {
    fn norm(gain: &[f32]) -> Norm<'_> {
        Norm { gain, epsilon: 1e-5 }
    }
    let (gain, x) = (vec![1.5; FEATURES], numbers(TOKENS * FEATURES));
    let (gain_back, x_back, turned) = (gain.clone(), x.clone(), x.clone());
    let angles = numbers(TOKENS * 64);
    let gate = Left::<F32>::of(matrix(&x));
    let gate_back = gate.clone();
    vec![
        operation("norm", move || norm(&gain).forward::<F32>(&x)),
        operation("norm-backward", move || {
            let mut dx = vec![0.0; x_back.len()];
            (norm(&gain_back).backward(&x_back, &x_back, &mut dx, true), dx)
        }),
        operation("rotation", move || {
            let rotation = Rotation { cosines: &angles, sines: &angles, width: 64, rotated: 64 };
            rotation.rows::<F32>(matrix(&turned))
        }),
        operation("gate", move || gated(Activation::Silu, &gate, &gate)),
        operation("gate-backward", move || {
            let (mut gate, mut up) = (gate_back.clone(), gate_back.clone());
            gated_backward(Activation::Silu, &mut gate, &mut up, &gate_back);
            (gate, up)
        }),
    ]
}

fn softmax() -> Vec<Operation> {
    fn scores(numbers: &[f32]) -> Scores<'_> {
        let seen = FEATURES - TOKENS;
        let (window, scale) = (usize::MAX, 0.125);
        Scores { numbers: matrix(numbers), seen, window, scale, soft_cap: None, sink: None }
    }
    let (x, logs, d) = (numbers(TOKENS * FEATURES), vec![6.0; TOKENS], numbers(TOKENS * 64));
    let x_back = x.clone();
    vec![
        operation("softmax", move || {
            let mut weights = vec![0.0; x.len()];
            (scores(&x).exponentials::<F32>(&mut weights), weights)
        }),
        operation("softmax-backward", move || {
            let [mut weights, mut d_scores] = [(); 2].map(|()| vec![0.0; x_back.len()]);
            let outputs = [View::new(&d, TOKENS, 64); 2];
            let targets = [weights.as_mut_slice(), d_scores.as_mut_slice()];
            scores(&x_back).gradients::<F32>(&logs, &x_back, outputs, targets);
            (weights, d_scores)
        }),
    ]
}

fn packing() -> Vec<Operation> {
    let [a, b, c, d] = [(); 4].map(|()| numbers(TOKENS * FEATURES));
    vec![
        operation("pack-outputs-f32", move || PackedRhs::<F32>::pack_rows(matrix(&a))),
        operation("pack-inner-f32", move || PackedRhs::<F32>::pack_cols(matrix(&b))),
        operation("pack-outputs-bf16", move || PackedRhs::<Bf16>::pack_rows(matrix(&c))),
        operation("transpose-bf16", move || Left::<Bf16>::transposed(matrix(&d))),
    ]
}

fn products() -> Vec<Operation> {
    let (x, weight) = (numbers(TOKENS * FEATURES), numbers(FEATURES * FEATURES));
    let (left, right) = (Left::<F32>::of(matrix(&x)), PackedRhs::<F32>::pack_rows(matrix(&weight)));
    let rounded = (
        Left::<F32RoundedToBf16>::of(matrix(&x)),
        PackedRhs::<F32RoundedToBf16>::pack_rows(matrix(&weight)),
    );
    vec![
        operation("product-f32", move || product(&[Term { left: left.view(), right: &right }])),
        operation("product-rounded", move || {
            factor_product(&[Term { left: rounded.0.view(), right: &rounded.1 }])
        }),
    ]
}

fn main() {
    let arguments: Vec<String> =
        std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let operations: Vec<Operation> =
        [data(), pointwise(), softmax(), packing(), products()].into_iter().flatten().collect();
    let Some(wanted) = arguments.first() else {
        operations.iter().for_each(|(name, _)| println!("{name}"));
        return;
    };
    let count: usize = arguments.get(1).map_or(1, |count| count.parse().expect("a number"));
    let found = operations.into_iter().find(|(name, _)| name == wanted);
    let (_, run) = found.unwrap_or_else(|| panic!("there is no operation `{wanted}`"));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("one thread");
    pool.install(|| (0..count).for_each(|_| run()));
}
