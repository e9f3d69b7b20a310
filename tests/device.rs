//! The wgpu device against the CPU, on a software adapter where one is installed (Mesa's llvmpipe
//! through OpenGL). It proves that the operations are right there, and nothing about speed.
#![cfg(feature = "gpu")]

mod common;

use std::io::Write;

use burn::tensor::wgpu::WgpuBackend;
use burn::tensor::{Device, DeviceKind};
use common::{Expected, assert_near, case, cpu, step_settings};
use firebrand::adapters;
use firebrand::config::{LoraConfig, TargetModules};
use firebrand::engine::{Trainer, upload};
use firebrand::model::{Init, Model, load};
use firebrand::ops::host;
use firebrand::random::Stream;

/// Sums are made in another order there.
const LIMIT: f64 = 1e-4;

fn software() -> Option<Device> {
    let options = Device::wgpu_options().graphics_api(WgpuBackend::Gl);
    match options.device_kind(DeviceKind::Cpu).init() {
        Ok(device) => Some(device),
        Err(error) => {
            let why = error.to_string();
            let why = why.lines().next().unwrap_or_default();
            // Past the harness, which keeps what passing tests say to itself.
            let what = "SKIPPED: no software OpenGL adapter, wgpu is not tested";
            let _ = writeln!(std::io::stderr(), "{what}: {why}");
            None
        }
    }
}

fn model(device: &Device) -> Model {
    let mut model = load(&case("gqa-tied"), Init::Pretrained, device).unwrap().model;
    let settings = LoraConfig {
        r: 4,
        lora_alpha: 8.0,
        lora_dropout: 0.0,
        target_modules: TargetModules::AllLinear,
        use_rslora: false,
    };
    adapters::attach_lora(&mut model, &settings, Stream::new(1)).unwrap();
    model
}

fn trainer(device: &Device) -> Trainer {
    Trainer::new(model(device), step_settings(1e-2))
}

#[test]
fn logits_and_steps_on_wgpu_equal_those_on_the_cpu() {
    let Some(device) = software() else { return };
    let batch = Expected::read(&case("gqa-tied").join("expected.safetensors")).batch();
    let real = |logits: Vec<f32>| -> Vec<f32> {
        let rows = logits.chunks_exact(96).zip(&batch.documents);
        rows.filter(|(_, document)| **document > 0).flat_map(|(row, _)| row.to_vec()).collect()
    };
    let logits = |device: &Device| {
        let model = model(device);
        let (tokens, context) = upload(&model, &batch);
        real(host(model.logits(model.hidden(tokens, &context))))
    };
    assert_near("logits", &logits(&device), &logits(&cpu()), LIMIT);

    let (mut there, mut here) = (trainer(&device), trainer(&cpu()));
    for step in 1..=4 {
        let (ours, _) = there.step(std::slice::from_ref(&batch), 0.0).unwrap();
        let (reference, _) = here.step(std::slice::from_ref(&batch), 0.0).unwrap();
        for (what, a, b) in [
            ("loss", ours.loss, reference.loss),
            ("gradient norm", ours.grad_norm, reference.grad_norm),
        ] {
            assert!((a / b - 1.0).abs() < 1e-3, "{what} of step {step}: {a} there, {b} here");
        }
    }
}
