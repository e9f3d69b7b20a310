//! Whole steps: losses of twenty, optimizers, and what must not change them.

use firebrand::document::Value;
use firebrand::engine::ParameterRule;
use firebrand::engine::optimizers::UpdatedParameter;

use super::*;

#[test]
fn twenty_steps_have_the_losses_of_pytorch() {
    for (name, kernels) in each_case() {
        let expected = expected(name);
        let text = std::fs::read_to_string(case(name).join("expected.json")).unwrap();
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let batch = expected.batch();
        let micro_batches = [row(&batch, 0), row(&batch, 1)];
        let mut full = by(kernels, model(name));
        adapters::unfreeze_all(&mut full);
        for (kind, model) in
            [("lora_steps", by(kernels, with_lora(name, &expected))), ("full_steps", full)]
        {
            let rate = json[kind]["learning_rate"].as_f64().unwrap();
            let mut trainer = Trainer::new(model, step_settings(rate), adamw());
            for step in 0..20 {
                let (report, _) = trainer.step(&micro_batches, 0.0).unwrap();
                // Norms drift faster than losses: the tiny models are steep.
                let pairs =
                    [(report.loss, "losses", 1e-3), (report.grad_norm, "gradient_norms", 1e-2)];
                for (ours, list, limit) in pairs {
                    let reference = json[kind][list][step].as_f64().unwrap();
                    let difference = (ours / reference - 1.0).abs();
                    assert!(difference < limit, "{name} {kind} {list} {step}: {ours} {reference}");
                }
            }
        }
    }
}

fn list(value: &serde_json::Value) -> Vec<f32> {
    value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap() as f32).collect()
}

fn sides(case: &serde_json::Value) -> Vec<usize> {
    list(&case["shape"]).into_iter().map(|side| side as usize).collect()
}

fn references() -> serde_json::Value {
    let path = crate::common::repository("tests/reference/optimizers.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The optimizer of a case, with its settings.
fn optimizer_of(case: &serde_json::Value) -> OptimizerState {
    let decay = Value::Number(case["weight_decay"].as_f64().unwrap());
    let mut set = vec![("train.weight_decay", decay)];
    for (key, value) in case["settings"].as_object().into_iter().flatten() {
        let value = match value {
            serde_json::Value::Bool(flag) => Value::Boolean(*flag),
            serde_json::Value::String(text) => Value::Text(text.clone()),
            _ => Value::Number(value.as_f64().unwrap()),
        };
        set.push((String::leak(key.clone()), value));
    }
    OptimizerState::new(optimizers::with_values(case["optimizer"].as_str().unwrap(), &set))
}

#[test]
fn optimizers_make_the_steps_of_their_references() {
    let json = references();
    let rate = json["learning_rate"].as_f64().unwrap();
    let mut compared = std::collections::BTreeSet::new();
    for case in json["cases"].as_array().unwrap().iter().filter(|case| case["kept"].is_null()) {
        let dims = sides(case);
        let matrices = json["matrices"].as_array().unwrap();
        let of = matrices.iter().find(|matrix| matrix["shape"] == case["shape"]).unwrap_or(&json);
        let (start, gradients) = (list(&of["start"]), of["gradients"].as_array().unwrap());
        let mut optimizer = optimizer_of(case);
        let name = case["optimizer"].as_str().unwrap();
        // What is divided by its own root has the rounding of the division.
        let limit = if dims.len() == 1 { 1e-6 } else { 1e-5 };
        let mut value = from_vec(start.clone(), [start.len()], &cpu());
        for (gradient, after) in gradients.iter().zip(case["after"].as_array().unwrap()) {
            optimizer.begin_update();
            let gradient = from_vec(list(gradient), [start.len()], &cpu());
            let of = UpdatedParameter::new("x", &dims);
            value = optimizer.update(of, value, gradient, rate).unwrap();
            assert_near(name, &host(value.clone()), &list(after), limit);
        }
        assert_eq!(optimizer.updates(), 10);
        assert_eq!(optimizer.averages(), !case["averaged"].is_null(), "{name}");
        if optimizer.averages() {
            let averaged = host(optimizer.averaged("x", value));
            assert_near(name, &averaged, &list(&case["averaged"]), 1e-5);
        }
        compared.insert(name.to_owned());
    }
    for entry in optimizers::OPTIMIZERS {
        assert!(compared.contains(entry.name), "`{}` has no reference", entry.name);
    }
}

/// The numbers of the reference: of integers, exact in 32 bits.
fn made_of_integers(count: u64, step: u64) -> Vec<f32> {
    let number = |place: u64| {
        let mixed = (place * 40503 + step * 9973 + 12345) % 65536;
        let number = (mixed as f32 - 32768.0) / 32768.0;
        number * number * number
    };
    (0..count).map(number).collect()
}

#[test]
fn adamw_in_eight_bits_makes_the_steps_and_codes_of_bitsandbytes() {
    let json = references();
    let rate = json["learning_rate"].as_f64().unwrap();
    let cases: Vec<_> =
        json["cases"].as_array().unwrap().iter().filter(|case| !case["kept"].is_null()).collect();
    assert_eq!(cases.len(), 2);
    for case in cases {
        let dims = sides(case);
        let (count, kept) = (dims[0] * dims[1], case["kept"].as_u64().unwrap() as usize);
        let thinned = |all: Vec<f32>| -> Vec<f32> { all.into_iter().step_by(kept).collect() };
        let parameter = UpdatedParameter::new("layers.0.weight", &dims);
        let mut optimizer = optimizer_of(case);
        let numbers = |step| from_vec(made_of_integers(count as u64, step), [count], &cpu());
        let mut value = numbers(100);
        for (step, after) in case["after"].as_array().unwrap().iter().enumerate() {
            optimizer.begin_update();
            let gradient = numbers(step as u64);
            value = optimizer.update(parameter.clone(), value, gradient, rate).unwrap();
            assert_near("8 bits", &thinned(host(value.clone())), &list(after), 1e-5);
        }
        let state = optimizer.by_path()["layers.0.weight"].clone();
        let bytes: u64 = optimizer.specs(&parameter).iter().map(|spec| spec.bytes()).sum();
        assert_eq!(bytes, 2 * (count + 4 * count.div_ceil(256)) as u64);
        for moment in 0..2 {
            let codes = state[2 * moment].clone().codes();
            let codes = thinned(codes.iter().map(|code| f32::from(*code)).collect());
            let wanted = list(&case["codes"][moment]);
            let apart = codes.iter().zip(&wanted).filter(|(a, b)| a != b).count();
            // A number beside the middle of two codes may be rounded to the other.
            assert!(apart <= 1, "{codes:?} {wanted:?}");
            let absmax = host(state[2 * moment + 1].clone().numbers());
            assert_near("scales", &absmax, &list(&case["absmax"][moment]), 1e-5);
        }
    }
}

/// Values of everything that learns, by path.
fn learning(model: &mut Model) -> BTreeMap<String, Vec<f32>> {
    struct Values(BTreeMap<String, Vec<f32>>);
    impl Visitor for Values {
        fn vector(&mut self, path: &str, parameter: &mut Parameter<1>) {
            if parameter.trainable {
                self.0.insert(path.to_owned(), host(parameter.value.clone()));
            }
        }
        fn matrix(&mut self, path: &str, parameter: &mut Parameter<2>) {
            if parameter.trainable {
                self.0.insert(path.to_owned(), host(parameter.value.clone()));
            }
        }
    }
    let mut values = Values(BTreeMap::new());
    model.visit(&mut values);
    values.0
}

/// The lines of groups: what JSON has are values of TOML as well.
fn lines_of(groups: &serde_json::Value) -> String {
    let line = |(key, value): (&String, &serde_json::Value)| format!("{key} = {value}\n");
    let table = |group: &serde_json::Value| {
        let lines: String = group.as_object().unwrap().iter().map(line).collect();
        format!("[[train.param_groups]]\n{lines}")
    };
    groups.as_array().unwrap().iter().map(table).collect()
}

/// `tests/reference/param_groups.py` made the file.
#[test]
fn ten_steps_of_groups_of_parameters_are_those_of_pytorch() {
    let path = crate::common::repository("tests/reference/param_groups.json");
    let json: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let expected = expected("gqa-tied");
    let batch = expected.batch();
    for (kind, kernels) in ["full", "lora"].into_iter().flat_map(|it| KERNELS.map(|by| (it, by))) {
        let of = &json[kind];
        let mut model = match kind {
            "full" => model("gqa-tied"),
            _ => with_lora("gqa-tied", &expected),
        };
        if kind == "full" {
            adapters::unfreeze_all(&mut model);
        }
        let before = learning(&mut model);
        let rate = of["learning_rate"].as_f64().unwrap();
        let mut settings = step_settings(rate);
        settings.schedule.total_steps = 10;
        settings.schedule.shape = firebrand::engine::Shape::Linear;
        let mut trainer = Trainer::new(by(kernels, model), settings, adamw());
        let groups = groups_of(&lines_of(&of["groups"]));
        let rules = groups.rules(&mut trainer.model, rate, BTreeMap::new());
        trainer.optimizer.set_rules(rules);
        for wanted in of["losses"].as_array().unwrap() {
            let (report, _) = trainer.step(&[row(&batch, 0), row(&batch, 1)], 0.0).unwrap();
            let difference = report.loss / wanted.as_f64().unwrap() - 1.0;
            assert!(difference.abs() < 1e-3, "{kind} {kernels} {}: {difference}", report.step);
        }
        let after = learning(&mut trainer.model);
        let moved = of["moved"].as_object().unwrap();
        assert_eq!(after.len(), moved.len());
        for (path, after) in after {
            let squares = after.iter().zip(&before[&path]).map(|(a, b)| f64::from(a - b).powi(2));
            let difference = squares.sum::<f64>().sqrt() / moved[&path].as_f64().unwrap() - 1.0;
            assert!(difference.abs() < 1e-3, "{kind} {kernels} {path}: {difference}");
        }
    }
}

/// By one and together, bit for bit: a rate and a decay of a parameter's own are those of a run
/// that has them for all.
#[test]
fn every_optimizer_takes_a_rate_and_a_decay_of_a_parameters_own() {
    let numbers = |seed: u64| from_vec(made_of_integers(24, seed), [24], &cpu());
    let steps = |name: &str, decay: f64, rate: f64, own: Option<ParameterRule>, dims: &[usize]| {
        let set = [("train.weight_decay", decay)];
        let [mut one, mut together] =
            [(); 2].map(|()| OptimizerState::new(optimizers::with(name, &set)));
        let rules: BTreeMap<_, _> = own.map(|own| ("x".to_owned(), own)).into_iter().collect();
        one.set_rules(rules.clone());
        together.set_rules(rules);
        let of = |path| UpdatedParameter::new(path, dims);
        let (mut value, mut values) = (numbers(100), [numbers(100), numbers(101)]);
        for step in 0..3 {
            one.begin_update();
            together.begin_update();
            value = one.update(of("x"), value, numbers(step), rate).unwrap();
            let all = ["x", "y"].into_iter().zip(values);
            let all = all.map(|(path, value)| (of(path), [value, numbers(step)]));
            let factor = from_vec(vec![1.0], [1], &cpu());
            let mut moved = together.update_together(all.collect(), &factor, rate).unwrap();
            values = ["x", "y"].map(|path| moved.remove(path).unwrap());
        }
        let [x, y] = values.map(host);
        assert_eq!(x, host(value), "{name}");
        (x, y)
    };
    for (entry, dims) in
        optimizers::OPTIMIZERS.iter().flat_map(|entry| [(entry, &[4, 6][..]), (entry, &[24])])
    {
        let name = entry.name;
        let own = ParameterRule { rate_ratio: 4.0, weight_decay: Some(0.25) };
        let (x, y) = steps(name, 0.5, 1e-2, Some(own), dims);
        assert_eq!(x, steps(name, 0.25, 4e-2, None, dims).0, "{name} {dims:?}");
        // The others do not notice.
        let plain = steps(name, 0.5, 1e-2, None, dims);
        assert_eq!(y, plain.1, "{name} {dims:?}");
        assert_ne!(x, plain.0, "{name} {dims:?}");
    }
}

#[test]
fn the_average_of_weights_is_that_of_pytorch() {
    let json = references();
    let (rate, of) = (json["learning_rate"].as_f64().unwrap(), &json["average"]);
    let number = |key: &str| Value::Number(of[key].as_f64().unwrap());
    let set =
        [("train.weight_decay", number("weight_decay")), ("train.ema_decay", number("decay"))];
    let mut optimizer = OptimizerState::new(optimizers::with_values("adamw", &set));
    let start = list(&json["start"]);
    let mut value = from_vec(start.clone(), [start.len()], &cpu());
    for gradient in json["gradients"].as_array().unwrap() {
        optimizer.begin_update();
        let gradient = from_vec(list(gradient), [start.len()], &cpu());
        let of = UpdatedParameter::new("x", &[8]);
        value = optimizer.update(of, value, gradient, rate).unwrap();
    }
    let averaged = host(optimizer.averaged("x", value));
    assert_near("average", &averaged, &list(&of["after"]), 1e-6);
}

#[test]
fn a_loss_that_is_not_finite_stops_the_step_and_names_it() {
    let expected = expected("gqa-tied");
    let mut model = with_lora("gqa-tied", &expected);
    model.head.norm.gain.value = model.head.norm.gain.value.clone().mul_scalar(f32::NAN);
    let mut trainer = Trainer::new(model, step_settings(1e-2), adamw());
    let error = trainer.step(&[expected.batch()], 0.0).unwrap_err().to_string();
    says(
        &error,
        str![[r#"
error[device]: the loss is not finite at step 1; nothing was published

hint: try a smaller `train.learning_rate` or a longer warm-up, and look at these records
"#]],
    );
    assert_eq!(trainer.step, 0);
    assert_eq!(trainer.optimizer.updates(), 0);
}

/// A trainer that fills up rows, micro-batches and lists of targets, as those of a GPU are.
fn grained(name: &str, pad_multiple: usize, dropout: Option<f64>) -> Trainer {
    let computing = firebrand::device::ComputeConfig { pad_multiple, ..Default::default() };
    let loaded =
        firebrand::model::load_for(&case(name), Init::Pretrained, &cpu(), computing, false);
    let mut model = loaded.unwrap().model;
    match dropout {
        Some(dropout) => {
            adapters::attach(&mut model, &lora(dropout), Stream::new(1)).unwrap();
        }
        None => adapters::unfreeze_all(&mut model),
    }
    let settings = firebrand::engine::StepSettings { rows: 3, ..step_settings(1e-3) };
    Trainer::new(model, settings, adamw())
}

fn near(a: f64, b: f64, limit: f64, what: &str) {
    assert!((a / b - 1.0).abs() < limit, "{what}: {a} and {b}");
}

#[test]
fn rows_that_are_filled_up_change_nothing_but_rounding() {
    for (name, lora) in [("gqa-tied", None), ("mha-untied", None), ("biases", Some(0.4))] {
        let batch = expected(name).batch();
        let short = crate::common::row(&batch, 1);
        let (mut plain, mut filled) = (grained(name, 1, lora), grained(name, 64, lora));
        for micro_batches in [vec![batch.clone()], vec![batch, short.clone()], vec![short]] {
            let (a, _) = plain.step(&micro_batches, 0.0).unwrap();
            let (b, _) = filled.step(&micro_batches, 0.0).unwrap();
            near(b.loss, a.loss, 1e-6, name);
            near(b.grad_norm, a.grad_norm, 1e-4, name);
            assert_eq!((a.tokens, a.target_tokens), (b.tokens, b.target_tokens));
            let judged = |trainer: &Trainer| {
                firebrand::engine::evaluate(
                    &trainer.model,
                    &*trainer.objective,
                    &micro_batches,
                    1,
                    (Some(1), 7),
                )
                .unwrap()
            };
            let (a, b) = (judged(&plain), judged(&filled));
            near(b.eval_loss, a.eval_loss, 1e-5, name);
            assert_eq!(a.target_tokens, b.target_tokens);
        }
        for ((path, a), (_, b)) in
            trainable(&mut plain.model).iter().zip(&trainable(&mut filled.model))
        {
            assert_near(path, b, a, 1e-3);
        }
    }
}

#[test]
fn a_step_that_nobody_waits_for_is_the_same_step() {
    let batch = expected("gqa-tied").batch();
    let (mut waited, mut ahead) = (grained("gqa-tied", 1, None), grained("gqa-tied", 1, None));
    let mut before: Option<firebrand::engine::InFlight> = None;
    let mut reports = Vec::new();
    let mut wanted = Vec::new();
    for _ in 0..4 {
        wanted.push(waited.step(std::slice::from_ref(&batch), 0.0).unwrap().0);
        let begun = ahead.begin(std::slice::from_ref(&batch), 0.0, true).unwrap();
        assert!(begun.waits());
        reports.extend(before.replace(begun).map(|step| step.finish().unwrap().0));
    }
    reports.extend(before.map(|step| step.finish().unwrap().0));
    assert_eq!(reports.len(), wanted.len());
    assert!(wanted[0].grad_norm > 1.0, "it is not clipped: {}", wanted[0].grad_norm);
    for (ours, wanted) in reports.iter().zip(&wanted) {
        assert_eq!(ours.step, wanted.step);
        near(ours.loss, wanted.loss, 1e-5, "loss");
        near(ours.grad_norm, wanted.grad_norm, 1e-4, "norm");
    }
    for ((path, a), (_, b)) in trainable(&mut waited.model).iter().zip(&trainable(&mut ahead.model))
    {
        assert_near(path, b, a, 1e-4);
    }
}

#[test]
fn what_is_not_finite_is_told_of_the_step_that_it_came_of() {
    let mut batch = expected("gqa-tied").batch();
    batch.sources = Vec::new();
    let mut trainer = grained("gqa-tied", 1, None);
    trainer.begin(std::slice::from_ref(&batch), 0.0, true).unwrap().finish().unwrap();
    let gain = &mut trainer.model.head.norm.gain.value;
    *gain = gain.clone().mul_scalar(f32::INFINITY);
    // On the CPU the loss is known at once; on a device the norm tells.
    let error = match trainer.begin(std::slice::from_ref(&batch), 0.0, true) {
        Ok(begun) => begun.finish().unwrap_err(),
        Err(error) => error,
    };
    says(
        &error,
        str![[r#"
error[device]: the loss is not finite at step 2; nothing was published

hint: try a smaller `train.learning_rate` or a longer warm-up, and look at these records
"#]],
    );
}

#[test]
fn warming_up_changes_no_step() {
    let batch = expected("gqa-tied").batch();
    let (mut cold, mut warm) =
        (grained("gqa-tied", 64, Some(0.4)), grained("gqa-tied", 64, Some(0.4)));
    let sizes = warm.new_sizes([&batch, &crate::common::row(&batch, 0)]);
    let found: Vec<_> = sizes.iter().map(|size| (size.rows, size.length)).collect();
    assert_eq!(found, [(3, 64)], "both are filled up to one size");
    warm.warm_up(sizes).unwrap();
    assert!(warm.new_sizes([&batch]).is_empty());
    for _ in 0..2 {
        let (a, _) = cold.step(std::slice::from_ref(&batch), 0.0).unwrap();
        let (b, _) = warm.step(std::slice::from_ref(&batch), 0.0).unwrap();
        assert_eq!(a, b);
    }
    assert_eq!(trainable(&mut cold.model), trainable(&mut warm.model));
}

/// A micro-batch may have no target tokens, a step may not: the mean of no losses is not a number,
/// and weights would move by what was trained on before.
#[test]
fn a_step_holds_something_to_learn() {
    let batch = expected("gqa-tied").batch();
    let nothing = Batch { targets: Vec::new(), ..batch.clone() };
    for pad_multiple in [1, 64] {
        let (mut one, mut both) =
            (grained("gqa-tied", pad_multiple, None), grained("gqa-tied", pad_multiple, None));
        for ahead in [false, true] {
            let before = trainable(&mut one.model);
            let refused = one.begin(&[nothing.clone(), nothing.clone()], 0.0, ahead);
            let error = refused.err().unwrap();
            assert_eq!(error.what, "step 1 has no target tokens");
            assert!(one.step == 0 && trainable(&mut one.model) == before, "as it was before");
        }
        let (a, _) = one.step(std::slice::from_ref(&batch), 0.0).unwrap();
        let (b, _) = both.step(&[nothing.clone(), batch.clone()], 0.0).unwrap();
        near(a.loss, b.loss, 1e-6, "loss");
        near(a.grad_norm, b.grad_norm, 1e-6, "norm");
    }
}
