//! `FIREBRAND_TILE`: every instruction set and every tile that the processor has makes the same
//! training steps, to the last bit where the order of sums is the same.

use firebrand::device::{InstructionSet, TILE, Tile};
use serde_json::Value;
use snapbox::str;

use crate::common::{Run, says, weights_digest};

/// What came of three steps: the weights, loss and size of the gradient of each step, and the
/// difference of the gradients from those of tensor operations as a share of what it may be.
struct Trained {
    weights: String,
    steps: Vec<(f64, f64)>,
    difference: f64,
}

fn trained(run: &Run, file: &str, precision: &str, tile: &str) -> Trained {
    let name = format!("{}-{precision}-{tile}", file.trim_end_matches(".toml"));
    let settings = [
        format!("name={name}"),
        format!("train.precision={precision}"),
        "train.max_steps=3".to_owned(),
    ];
    let mut arguments = vec!["train", file, "--quiet"];
    settings.iter().for_each(|setting| arguments.extend(["--set", setting.as_str()]));
    let output = run.command(&arguments).env(TILE, tile).output().unwrap();
    assert!(output.status.success(), "{tile}: {}", String::from_utf8_lossy(&output.stderr));
    let json = |file: &str| run.read(&format!("checkpoints/{name}/{file}"));
    let check: Value = serde_json::from_str(&json("gradient-check.json")).unwrap();
    let of = |key: &str| check[key].as_f64().unwrap_or_else(|| panic!("{key} of {check}"));
    let lines = json("metrics.jsonl");
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let steps =
        lines.filter_map(|line| Some((line["loss"].as_f64()?, line["grad_norm"].as_f64()?)));
    Trained {
        weights: weights_digest(&run.path(&format!("checkpoints/{name}/artifact"))),
        steps: steps.collect(),
        difference: of("difference") / of("tolerance"),
    }
}

#[test]
fn every_tile_makes_the_same_steps() {
    let run = Run::new().with_base();
    // All weights, and an adapter.
    for file in ["tiny.toml", "lora.toml"] {
        let mut first: Option<Trained> = None;
        for tile in Tile::supported() {
            let found = trained(&run, file, "f32", tile.name());
            let what = format!("{file} by {}", tile.name());
            assert!(found.steps.len() == 3 && found.difference <= 1.0, "{what}");
            if let Some(first) = &first {
                assert_eq!(found.steps, first.steps, "{what}");
                assert_eq!(found.weights, first.weights, "{what}");
            }
            first.get_or_insert(found);
        }
    }
}

/// With the instruction for bfloat16 sums are rounded as no other instructions round them.
#[test]
fn tiles_of_bfloat16_make_the_same_steps_by_the_instruction_and_without() {
    let run = Run::new().with_base();
    let mut found: [Vec<Trained>; 2] = Default::default();
    for tile in Tile::supported() {
        let multiplies = tile.instructions == InstructionSet::Avx512Bf16;
        let trained = trained(&run, "lora.toml", "mixed-bf16", tile.name());
        assert!(trained.difference <= 1.0, "{}", tile.name());
        found[usize::from(multiplies)].push(trained);
    }
    for alike in &found {
        for pair in alike.windows(2) {
            assert_eq!(pair[0].steps, pair[1].steps);
            assert_eq!(pair[0].weights, pair[1].weights);
        }
    }
    if let [Some(without), Some(with)] = [found[0].first(), found[1].first()] {
        for (a, b) in without.steps.iter().zip(&with.steps) {
            assert!((a.0 / b.0 - 1.0).abs() < 1e-2, "losses {} and {}", a.0, b.0);
            assert!((a.1 / b.1 - 1.0).abs() < 5e-2, "gradients {} and {}", a.1, b.1);
        }
    }
}

#[test]
fn doctor_tells_the_tile_that_is_named() {
    let run = Run::new();
    let tile = *Tile::supported().last().unwrap();
    let doctor = ["doctor", "--device", "cpu", "--json"];
    let output = run.command(&doctor).env(TILE, tile.name()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["products"]["tile"], tile.name());
    for key in ["f32_gflops", "peak_gflops"] {
        assert!(report["products"][key].as_f64().unwrap() > 0.0, "{report}");
    }
}

#[test]
fn a_tile_that_there_is_not_is_an_error() {
    let run = Run::new();
    let said = |tile: &str| {
        let output = run.command(&["runs", "."]).env(TILE, tile).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{tile}");
        String::from_utf8(output.stderr).unwrap()
    };
    says(
        said("avx1024"),
        str![[r#"
error[usage]: the environment variable `FIREBRAND_TILE` is `avx1024`
  because there are no such instructions, and no such tile

hint: unset it, or name one of `portable`, [..]`

"#]],
    );
    let other = if cfg!(target_arch = "aarch64") { "avx2" } else { "neon" };
    says(
        said(other),
        str![[r#"
error[usage]: the environment variable `FIREBRAND_TILE` is `[..]`
  because this processor does not have these instructions

hint: unset it, or name one of `portable`, [..]`

"#]],
    );
}
