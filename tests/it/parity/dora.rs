//! DoRA against PEFT, on an adapter that PEFT made (`tests/reference/dora.py`).

use std::sync::Arc;

use firebrand::adapters::{self, Adapter};
use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::open::with_adapter;

use super::*;

const NAME: &str = "biases";

fn of_peft() -> (Arc<dyn Adapter>, Expected, std::path::PathBuf) {
    let folder = crate::common::repository("tests/reference/dora");
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let expected = Expected::read(&folder.join("expected.safetensors"));
    (found.adapter, expected, folder)
}

fn opened(kernels: Kernels) -> (Model, Expected, Batch) {
    let (adapter, expected, folder) = of_peft();
    let loaded =
        with_adapter((case(NAME).as_path(), None), &folder, adapter.as_ref(), &cpu()).unwrap();
    (by(kernels, loaded.model), expected, super::expected(NAME).batch())
}

#[test]
fn logits_and_gradients_are_those_of_peft() {
    for kernels in KERNELS {
        let (model, expected, batch) = opened(kernels);
        let (ours, reference) = (logits(&model, &batch), expected.floats("logits"));
        assert_near("logits", &real(&batch, &ours), &real(&batch, reference), LIMIT);
        for pass in both_ways(&batch) {
            let (loss, sums) = gradients(&model, &batch, pass);
            assert!((loss - f64::from(expected.floats("loss")[0])).abs() < 1e-5, "{loss}");
            assert_eq!(sums.paths().count(), 2 * 7 * 3);
            for path in sums.paths() {
                let ours = host(sums.get(path).unwrap().clone());
                let name = format!("grad.{}", adapters::file_name_of(path));
                assert_near(&name, &ours, expected.floats(&name), LIMIT);
            }
        }
    }
}

#[test]
fn twenty_steps_have_the_losses_of_peft() {
    for kernels in KERNELS {
        let (model, expected, batch) = opened(kernels);
        let mut trainer = Trainer::new(model, step_settings(1e-2), adamw());
        for reference in expected.floats("losses") {
            let micro_batches = [row(&batch, 0), row(&batch, 1)];
            let (report, _) = trainer.step(&micro_batches, 0.0).unwrap();
            let difference = (report.loss / f64::from(*reference) - 1.0).abs();
            assert!(difference < 1e-3, "{kernels}: {} {reference}", report.loss);
        }
    }
}

/// Magnitudes begin as norms of the weights, and the layer computes what it did.
#[test]
fn before_its_first_step_it_is_the_base_model() {
    let (adapter, expected, _) = of_peft();
    let batch = super::expected(NAME).batch();
    for kernels in KERNELS {
        let base = by(kernels, model(NAME));
        let mut adapted = by(kernels, model(NAME));
        adapters::attach(&mut adapted, adapter.as_ref(), Stream::new(2)).unwrap();
        let [before, after] = [&base, &adapted].map(|model| logits(model, &batch));
        match kernels {
            Kernels::Fast => assert_eq!(before, after, "not one bit is another"),
            Kernels::Portable => assert_near("logits", &after, &before, 1e-5),
        }
        let mut magnitudes = 0;
        for (path, values) in trainable(&mut adapted) {
            if path.ends_with("magnitude_vector") {
                let name = format!("start.{}", adapters::file_name_of(&path));
                assert_near(&name, &values, expected.floats(&name), 1e-6);
                magnitudes += 1;
            }
        }
        assert_eq!(magnitudes, 2 * 7);
    }
}

#[test]
fn merged_weights_are_those_of_peft_and_of_the_base_before_the_first_step() {
    let (adapter, expected, folder) = of_peft();
    let weights = Expected::read(&folder.join("adapter_model.safetensors"));
    let base = Expected::read(&case(NAME).join("model.safetensors"));
    for (layer, dims) in MERGED {
        let tensors = beside(adapter.as_ref(), &weights, layer);
        let weight = base.floats(&format!("{layer}.weight"));
        let (mut rows, mut added) = (weight.to_vec(), vec![0.0; weight.len()]);
        let change = adapter.change(layer, dims, tensors.clone());
        let half = dims[0] / 2 * dims[1];
        change.apply(0, &mut rows[..half], &mut added[..half]);
        change.apply(dims[0] / 2, &mut rows[half..], &mut added[half..]);
        let name = format!("merged.{layer}");
        assert_near(&name, &rows, expected.floats(&name), 1e-6);
        for ((before, added), after) in weight.iter().zip(&added).zip(&rows) {
            assert!((before + added - after).abs() <= 1e-6);
        }
        // The magnitudes of the first step, and no low-rank change: the same bits, −0 too.
        let start = expected.floats(&format!("start.{}", adapters::file_name(layer, NAME_OF_M)));
        let mut zero = tensors;
        zero.get_mut("lora_B.weight").unwrap().fill(0.0);
        let norms = rows_norms(weight, dims[1]);
        assert_near("norms", &norms, start, 1e-6);
        *zero.get_mut(NAME_OF_M).unwrap() = norms;
        let mut rows = weight.to_vec();
        rows[1] = -0.0;
        let before = rows.clone();
        let norm = rows_norms(&rows, dims[1]);
        zero.get_mut(NAME_OF_M).unwrap()[0] = norm[0];
        adapter.change(layer, dims, zero).apply(0, &mut rows, &mut added);
        assert!(rows.iter().zip(&before).all(|(a, b)| a.to_bits() == b.to_bits()));
        assert!(added.iter().all(|added| *added == 0.0));
    }
}

const NAME_OF_M: &str = "lora_magnitude_vector";

fn rows_norms(weight: &[f32], inputs: usize) -> Vec<f32> {
    let square = |row: &[f32]| row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
    weight.chunks(inputs).map(|row| square(row).sqrt() as f32).collect()
}

/// Dropped inputs are dropped for all that the magnitude changes, as PEFT has it; both kinds of
/// kernels, with what is kept and what is computed again.
#[test]
fn dropout_is_the_same_for_all_kernels() {
    let (_, _, folder) = of_peft();
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let settings = adapters::LoraSettings { lora_dropout: 0.4, ..lora(0.0).settings };
    let adapter = adapters::Dora { settings };
    assert_eq!(json["use_dora"], true);
    let batch = super::expected(NAME).batch();
    let adapted = |kernels| {
        let mut model = opened(kernels).0;
        let values: BTreeMap<_, _> = trainable(&mut model).into_iter().collect();
        adapters::attach(&mut model, &adapter, Stream::new(2)).unwrap();
        model.visit(&mut Put(&values));
        model
    };
    let plain = gradients(&opened(Kernels::Fast).0, &batch, pass(&batch));
    let fast = gradients(&adapted(Kernels::Fast), &batch, pass(&batch));
    assert!((fast.0 / plain.0 - 1.0).abs() > 1e-3, "something is dropped");
    let portable = gradients(&adapted(Kernels::Portable), &batch, pass(&batch));
    assert_same_gradients("dropout", fast, portable, 1e-5);
    let again = Pass { recompute: Recompute::Layers, ..pass(&batch) };
    let again = gradients(&adapted(Kernels::Fast), &batch, again);
    let fast = gradients(&adapted(Kernels::Fast), &batch, pass(&batch));
    assert_same_gradients("recompute", again, fast, 0.0);
    // What is dropped in training is there when the model is used.
    let (used, whole) = (adapted(Kernels::Fast), opened(Kernels::Fast).0);
    assert_eq!(logits(&used, &batch), logits(&whole, &batch));
}

struct Put<'a>(&'a BTreeMap<String, Vec<f32>>);

impl Put<'_> {
    fn put<const D: usize>(&self, path: &str, parameter: &mut Parameter<D>) {
        if let Some(values) = self.0.get(path) {
            parameter.value = from_vec(values.clone(), parameter.value.dims(), &cpu());
        }
    }
}

impl Visitor for Put<'_> {
    fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
        self.put(path, parameter);
    }
    fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
        self.put(path, parameter);
    }
}
