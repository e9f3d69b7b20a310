//! A model of each family on a software adapter of wgpu, against the CPU.

use std::collections::BTreeMap;
use std::io::Write;

use firebrand::adapters::{self, Lora, LoraSettings};
use firebrand::config::DeviceChoice;
use firebrand::device::ComputeConfig;
use firebrand::model::{FrozenWeights, Init, Matrix, load, load_for};
use firebrand::random::Stream;
use firebrand::weights::formats;

use super::{Case, gradients, pass};
use crate::common::{cpu, relative};

/// Mixtures whose routers differ from that of the case which stands for their family.
const MORE: [&str; 2] = ["gemma4-moe", "qwen3-moe"];

/// One case of each family whose weights can be trained: the one with the most to say in its
/// configuration, and of those the first.
fn cases() -> Vec<Case> {
    let mut of_families: BTreeMap<String, Case> = BTreeMap::new();
    let mut more = Vec::new();
    let coded = |case: &Case| case.json["config"].get("quantization_config").is_some();
    for case in Case::all().into_iter().filter(|case| !coded(case)) {
        let family = case.json["config"]["model_type"].as_str().unwrap().to_owned();
        let length = |case: &Case| case.json["config"].to_string().len();
        match of_families.get(&family) {
            Some(known) if length(known) >= length(&case) => more.push(case),
            _ => more.extend(of_families.insert(family, case)),
        }
    }
    more.retain(|case| MORE.contains(&case.name.as_str()));
    of_families.into_values().chain(more).collect()
}

fn say_that_nothing_is_tested() {
    // Past the harness, which keeps what passing tests say to itself.
    let _ = writeln!(std::io::stderr(), "SKIPPED: families on wgpu are not tested");
}

/// A software adapter stands for a GPU. Choices of experts are made on the host, all else is done
/// there.
#[test]
fn each_family_on_another_device_has_the_gradients_of_the_cpu() {
    let Ok(opened) = firebrand::device::open(DeviceChoice::Software, 0) else {
        return say_that_nothing_is_tested();
    };
    let cases = cases();
    for name in MORE {
        assert!(cases.iter().any(|case| case.name == name), "{name}");
    }
    assert!(cases.len() > 25, "{}", cases.len());
    for case in cases {
        let (name, batch) = (&case.name, case.batch());
        let found = [&opened.device, &cpu()].map(|device| {
            let mut model = load(case.folder.path(), Init::Pretrained, device).unwrap().model;
            adapters::unfreeze_all(&mut model);
            gradients(&model, &batch, pass(&batch))
        });
        let [(there, sums), (here, wanted)] = &found;
        assert!((there / here - 1.0).abs() < 1e-4, "{name}: {there} for {here}");
        assert!(sums.keys().eq(wanted.keys()), "{name}");
        for (path, sum) in sums {
            let found = relative(sum, &wanted[path]);
            assert!(found < 1e-3, "{name} {path}: {found}");
        }
    }
}

/// Experts that files have in MXFP4, and those of formats that a user chooses, are codes there as
/// they are on the CPU.
#[test]
fn experts_in_codes_have_the_gradients_of_the_cpu() {
    let Ok(opened) = firebrand::device::open(DeviceChoice::Software, 0) else {
        return say_that_nothing_is_tested();
    };
    let cases = [("gpt-oss-mxfp4", None), ("qwen3-moe", Some("nf4")), ("qwen3-moe", Some("int8"))];
    for (name, format) in cases {
        let (case, linears) = (Case::read(name), format.and_then(formats::named));
        let frozen = FrozenWeights { linears, ..FrozenWeights::from(true) };
        let batch = case.batch();
        let found = [&opened.device, &cpu()].map(|device| {
            let (folder, computing) = (case.folder.path(), ComputeConfig::default());
            let loaded = load_for(folder, Init::Pretrained, device, computing, frozen).unwrap();
            let (mut model, mut experts) = (loaded.model, 0);
            model.linears(&mut |path, linear| {
                let coded = matches!(linear.weight, Matrix::OnGpu(_) | Matrix::Coded(_));
                experts += usize::from(coded && path.contains(".experts"));
            });
            let settings = LoraSettings::new(4, 8.0);
            adapters::attach(&mut model, &Lora { settings }, Stream::new(1)).unwrap();
            (experts, gradients(&model, &batch, pass(&batch)))
        });
        let [(coded, (there, sums)), (coded_here, (here, wanted))] = &found;
        assert!(coded == coded_here && *coded > 0, "{name}: {coded} for {coded_here}");
        assert!((there / here - 1.0).abs() < 1e-4, "{name}: {there} for {here}");
        assert!(sums.keys().eq(wanted.keys()), "{name}");
        for (path, sum) in sums {
            let none = wanted[path].iter().all(|number| *number == 0.0);
            let found = if none { 0.0 } else { relative(sum, &wanted[path]) };
            assert!(found < 1e-3, "{name} {path}: {found}");
        }
    }
}
