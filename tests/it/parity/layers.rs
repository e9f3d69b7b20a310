//! LoRA beside some decoder layers, against PEFT (`tests/reference/lora_layers.py`).

use firebrand::artifact::adapter_directory::AdapterDirectory;
use firebrand::artifact::open::with_adapter;

use super::*;

#[test]
fn an_adapter_of_one_layer_has_the_logits_of_peft() {
    let folder = crate::common::repository("tests/reference/lora_layers");
    let (found, _) = AdapterDirectory::read_hashed(&folder).unwrap();
    let expected = Expected::read(&folder.join("expected.safetensors"));
    let adapter = found.adapter.as_ref();
    let batch = super::expected("biases").batch();
    for kernels in KERNELS {
        let base = case("biases");
        let loaded = with_adapter((base.as_path(), None), &folder, adapter, &cpu()).unwrap();
        let model = by(kernels, loaded.model);
        let (ours, reference) = (logits(&model, &batch), expected.floats("logits"));
        assert_near("logits", &real(&batch, &ours), &real(&batch, reference), LIMIT);
    }
    // What is written for PEFT names the layer, too.
    let modules = ["q_proj".to_owned()].into();
    assert_eq!(adapter.to_peft(&modules)["layers_to_transform"], serde_json::json!([1]));
    let json = ModelJson::read(&case("biases")).unwrap();
    let layers = adapter.layers(&families::describe(&json).unwrap()).unwrap();
    assert_eq!(layers.len(), 7);
    assert!(layers.iter().all(|(path, _)| path.starts_with("model.layers.1.")));
}

#[test]
fn layers_that_there_are_not_are_refused() {
    let json = ModelJson::read(&case("biases")).unwrap();
    let description = families::describe(&json).unwrap();
    let refused = |settings| {
        use firebrand::adapters::Adapter as _;
        Lora { settings }.layers(&description).unwrap_err().to_string()
    };
    let settings = lora(0.0).settings;
    let beyond = LoraSettings { layers_to_transform: vec![0, 2], ..settings.clone() };
    says(
        refused(beyond),
        str![[r#"
error[adapter]: `lora.layers_to_transform` names the layer 2
  because the model has the layers 0 to 1
"#]],
    );
}
