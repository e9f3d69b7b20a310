//! What a model computes forwards: logits, generation, and packed rows.

use super::*;

#[test]
fn logits_equal_those_of_transformers_packed_rows_included() {
    for (name, kernels) in each_case() {
        let expected = expected(name);
        let batch = expected.batch();
        let ours = real(&batch, &logits(&by(kernels, model(name)), &batch));
        assert_near(name, &ours, &real(&batch, expected.floats("logits")), LIMIT);
    }
}

#[test]
fn the_older_form_of_rope_settings_gives_the_same_model() {
    for name in ["classic-rope", "llama3-scaling", "linear-scaling"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(case(name).join("config.classic.json"), folder.path().join("config.json"))
            .unwrap();
        let weights = "model.safetensors";
        std::fs::copy(case(name).join(weights), folder.path().join(weights)).unwrap();
        let classic = load(folder.path(), Init::Pretrained, &cpu()).unwrap().model;
        let batch = expected(name).batch();
        assert_eq!(logits(&classic, &batch), logits(&model(name), &batch), "{name}");
    }
}

#[test]
fn facts_count_the_parameters_that_are_there() {
    for name in CASES {
        let json = ModelJson::read(&case(name)).unwrap();
        let facts = families::describe(&json).unwrap();
        let (_, all) = firebrand::model::count_trainable(&mut model(name));
        assert_eq!(facts.parameters, all, "{name}");
    }
}

#[test]
fn greedy_generation_equals_that_of_transformers() {
    let text = std::fs::read_to_string(case("gqa-tied").join("generate.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let model = model("gqa-tied");
    for case in cases.as_array().unwrap() {
        let list = |key: &str| -> Vec<u32> { serde_json::from_value(case[key].clone()).unwrap() };
        let sampling = Sampling::new(0.0, Stream::new(1), 16);
        let found = generate(&model, &list("prompt"), &[], sampling, &mut |_| true).unwrap();
        assert_eq!(found.tokens, list("continuation"));
        assert!(!found.ended);

        let end = [found.tokens[4]];
        let first = found.tokens.iter().position(|token| *token == end[0]).unwrap();
        let stopped = generate(&model, &list("prompt"), &end, sampling, &mut |_| true).unwrap();
        assert_eq!((stopped.tokens.len(), stopped.ended), (first, true));
    }
}

#[test]
fn several_prompts_at_once_have_the_continuations_of_each_alone() {
    let text = std::fs::read_to_string(case("gqa-tied").join("generate.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let model = model("gqa-tied");
    let prompts: Vec<Vec<u32>> = cases
        .as_array()
        .unwrap()
        .iter()
        .map(|case| serde_json::from_value(case["prompt"].clone()).unwrap())
        .collect();
    let sampling = |temperature, number: usize| {
        Sampling::new(temperature, Stream::new(number as u64), 3 + 2 * number)
    };
    for temperature in [0.0, 1.0] {
        let asked: Vec<(&[u32], Sampling)> = (0..)
            .zip(&prompts)
            .map(|(number, prompt)| (prompt.as_slice(), sampling(temperature, number)))
            .collect();
        let mut seen = vec![Vec::new(); prompts.len()];
        let together = generate_all(&model, &asked, &[], None, &mut |number, token| {
            seen[number].push(token);
            true
        })
        .unwrap();
        for (number, (prompt, sampling)) in asked.iter().enumerate() {
            let alone = generate(&model, prompt, &[], *sampling, &mut |_| true).unwrap();
            assert_eq!(together[number], alone);
            assert_eq!(seen[number], alone.tokens);
            assert_eq!(alone.tokens.len(), sampling.max_tokens);
        }
    }
}

#[test]
fn packed_documents_have_the_losses_of_documents_alone() {
    let expected = expected("gqa-tied");
    let batch = expected.batch();
    let model = with_lora("gqa-tied", &expected);
    let packed = row(&batch, 1);
    let together = real(&packed, &logits(&model, &packed));
    let mut alone = Vec::new();
    for document in [1, 2] {
        let places: Vec<usize> =
            (0..packed.length).filter(|&place| packed.documents[place] == document).collect();
        let pick = |list: &[u32]| places.iter().map(|&place| list[place]).collect::<Vec<_>>();
        let batch = Batch {
            rows: 1,
            length: places.len(),
            tokens: pick(&packed.tokens),
            positions: pick(&packed.positions),
            documents: vec![1; places.len()],
            targets: Vec::new(),
            ..Batch::default()
        };
        alone.extend(logits(&model, &batch));
    }
    assert_near("packed", &together, &alone, 1e-6);
}

/// A weight that the device cannot take is named, and nothing else happens.
#[test]
fn a_matrix_larger_than_the_device_takes_is_refused_by_name() {
    use firebrand::device::{ComputeConfig, DeviceLimits};
    let limits = DeviceLimits { tensor_bytes: 2000, ..DeviceLimits::NONE };
    let computing = ComputeConfig { limits, ..ComputeConfig::default() };
    let loaded =
        firebrand::model::load_for(&case("gqa-tied"), Init::Pretrained, &cpu(), computing, false);
    let error = loaded.err().expect("it is too large").to_string();
    says(
        &error,
        str![[r#"
error[model]: `model.layers.0.self_attn.q_proj.weight` is larger than the device takes at once
  because [32, 32] in 32 bits exceed 2.0 kB
"#]],
    );
}
