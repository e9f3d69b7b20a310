//! Products of the shapes of a training step as a share of what the processor's units can do.
//!
//! `cargo bench --bench products`: for each shape the largest share in any of some tries, with
//! parts of right factors that fit the first-level cache and with such that fit the second.

use firebrand::device::{multiplies_bfloat16, processor};
use firebrand::ops::cpu::{Bf16, F32, gflops_of, peak_gflops, set_step_depth, step_depth};

/// Rows of a batch.
const ROWS: usize = 512;
/// Name, inner numbers and outputs, forward or back.
const SHAPES: [(&str, usize, usize); 12] = [
    ("SmolLM2-135M, queries", 576, 576),
    ("SmolLM2-135M, keys", 576, 192),
    ("SmolLM2-135M, up", 576, 1536),
    ("SmolLM2-135M, down", 1536, 576),
    ("SmolLM2-135M, LoRA a", 576, 16),
    ("SmolLM2-135M, scores", 576, 4096),
    ("Llama 1B, queries", 2048, 2048),
    ("Llama 1B, keys", 2048, 512),
    ("Llama 1B, up", 2048, 8192),
    ("Llama 1B, down", 8192, 2048),
    ("Qwen3 4B, up", 2560, 9728),
    ("Qwen3 4B, down", 9728, 2560),
];
/// As deep as 32 KiB and 48 KiB of a first-level cache ask for, and as the second level does.
const DEPTHS: [usize; 3] = [96, 144, 2048];

fn main() {
    let processor = processor();
    let name = processor.name.as_deref().unwrap_or("a processor that does not say its name");
    let (chosen, before) = (step_depth(), peak_gflops());
    println!("{name}, {} threads: {before:.0} GFLOP/s in registers", processor.threads);
    println!(
        "steps of {chosen} are chosen; share of that by depth of a step, bf16 with the chosen"
    );
    for (name, inner, outputs) in SHAPES {
        let shape = [ROWS, inner, outputs];
        let shares = DEPTHS.map(|depth| {
            set_step_depth(depth);
            format!("{depth}: {:.2}", gflops_of::<F32>(shape) / before)
        });
        set_step_depth(chosen);
        let bf16 = match multiplies_bfloat16() {
            true => format!("bf16 {:.2}", gflops_of::<Bf16>(shape) / before),
            false => "no bf16".to_owned(),
        };
        println!("{name:24} {inner:5} x {outputs:5}  {}  {bf16}", shares.join("  "));
    }
    println!("{:.0} GFLOP/s in registers at the end", peak_gflops());
}
