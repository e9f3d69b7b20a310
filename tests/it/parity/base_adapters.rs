//! An adapter on top of another one against PEFT (`tests/reference/base_adapters.py`).

use std::sync::Arc;

use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::open::with_adapter;
use firebrand::artifact::stack::Stack;
use firebrand::hub::{Policy, Supply, resolve};

use super::*;

#[test]
fn the_logits_are_those_of_peft_with_the_first_merged_and_with_both_active() {
    let folder = crate::common::repository("tests/reference/base_adapters");
    let found = |path: &std::path::Path| resolve(path.to_str().unwrap()).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let policy = Policy { offline: true, ..Policy::default() };
    let silence = Arc::new(firebrand::event::Silence);
    let supply = Supply::new(policy, silence, Arc::new(|| false), cache.path());
    let stack = Stack::look(found(&case("biases")), vec![found(&folder.join("first"))]).unwrap();
    let merged = stack.merged(&supply).unwrap();
    assert_eq!(merged.id, found(&case("biases")).id);
    let second = folder.join("second");
    let (own, _) = AdapterDirectory::read_hashed(&second).unwrap();
    let expected = Expected::read(&folder.join("expected.safetensors"));
    let batch = super::expected("biases").batch();
    for kernels in KERNELS {
        let base = (merged.path.as_path(), None);
        let loaded = with_adapter(base, &second, own.adapter.as_ref(), &cpu()).unwrap();
        let model = by(kernels, loaded.model);
        let (ours, reference) = (logits(&model, &batch), expected.floats("logits"));
        assert_near("logits", &real(&batch, &ours), &real(&batch, reference), LIMIT);
    }
}
