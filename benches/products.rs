//! Products of the shapes of a training step as shares of what the processor's units can do: ours
//! by every tile of the instructions that are used, and those of `gemm`, the library below Burn's
//! CPU backend.
//!
//! `cargo bench --bench products` prints a table in Markdown: for each shape the largest share in
//! any of some tries. `FIREBRAND_TILE=avx2 cargo bench --bench products` measures the tiles of
//! other instructions; the peak, and what the library uses, stay those of the processor.
//! `cargo bench --bench products -- 1B` measures the shapes whose names have that in them.

use firebrand::device::{Tile, instruction_set, multiplies_bfloat16, processor, tile_problem};
use firebrand::ops::cpu::{
    Bf16, F32, chosen_tile, gflops_by, gflops_counted, gflops_packing, peak_gflops, set_step_depth,
    step_depth,
};

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
/// The fastest of so many of the library's counts, as of ours.
const TRIES: usize = 5;

fn main() {
    if let Ok(value) = std::env::var(firebrand::device::TILE)
        && let Some((why, instead)) = tile_problem(&value)
    {
        eprintln!("`{}` is `{value}`: {why}; {instead}", firebrand::device::TILE);
        std::process::exit(2);
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let processor = processor();
    let name = processor.name.as_deref().unwrap_or("a processor that does not say its name");
    let (depth, peak) = (step_depth(), peak_gflops());
    println!("{name}, {} threads: {peak:.0} GFLOP/s in registers, in f32", processor.threads);
    println!("chosen: {}, steps of {depth}", chosen_tile::<F32>().name());
    let tiles = Tile::supported().into_iter().filter(|it| it.instructions == instruction_set());
    let tiles: Vec<Tile> = tiles.collect();
    let mut columns = vec!["product".to_owned()];
    for tile in &tiles {
        columns.extend(DEPTHS.map(|depth| format!("{}, {depth}", tile.name())));
    }
    columns.extend(["chosen, packing".to_owned(), "gemm".to_owned()]);
    if multiplies_bfloat16() {
        println!("chosen for bfloat16: {}", chosen_tile::<Bf16>().name());
        columns.extend(tiles.iter().map(|tile| format!("bf16, {}", tile.name())));
    }
    println!("\n| {} |\n|{}", columns.join(" | "), "---|".repeat(columns.len()));
    for (name, inner, outputs) in SHAPES {
        if !wanted.is_empty() && !wanted.iter().any(|wanted| name.contains(wanted.as_str())) {
            continue;
        }
        let shape = [ROWS, inner, outputs];
        let mut all = Vec::new();
        for tile in &tiles {
            for depth in DEPTHS {
                set_step_depth(depth);
                all.push(gflops_by::<F32>(*tile, shape));
            }
        }
        set_step_depth(depth);
        all.extend([gflops_packing::<F32>(shape), library(shape)]);
        if multiplies_bfloat16() {
            all.extend(tiles.iter().map(|tile| gflops_by::<Bf16>(*tile, shape)));
        }
        let shares: Vec<String> = all.iter().map(|it| format!("{:.2}", it / peak)).collect();
        println!("| {name}, {inner} x {outputs} | {} |", shares.join(" | "));
    }
    println!("\n{:.0} GFLOP/s in registers at the end", peak_gflops());
}

/// 10⁹ operations in a second of the library's product of matrices that lie row after row, on all
/// threads; it packs both factors for each.
fn library([rows, inner, outputs]: [usize; 3]) -> f64 {
    let numbers = |count: usize| (0..count).map(|at| (at % 31) as f32 - 15.0).collect::<Vec<_>>();
    let (left, right) = (numbers(rows * inner), numbers(inner * outputs));
    let mut product = vec![0.0_f32; rows * outputs];
    gflops_counted([rows, inner, outputs], TRIES, || {
        let [inner_stride, outputs_stride] = [inner, outputs].map(usize::cast_signed);
        // SAFETY: the vectors are matrices of these shapes with these strides, and the target is no
        // other's.
        #[expect(unsafe_code)]
        unsafe {
            gemm::gemm(
                rows,
                outputs,
                inner,
                product.as_mut_ptr(),
                1,
                outputs_stride,
                false,
                left.as_ptr(),
                1,
                inner_stride,
                right.as_ptr(),
                1,
                outputs_stride,
                0.0,
                1.0,
                false,
                false,
                false,
                gemm::Parallelism::Rayon(0),
            );
        }
        std::hint::black_box(&product);
    })
}
