//! A model of each family on a software adapter of wgpu, against the CPU.

use std::collections::BTreeMap;
use std::io::Write;

use firebrand::adapters;
use firebrand::config::DeviceChoice;
use firebrand::model::{Init, load};

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

/// A software adapter stands for a GPU. Choices of experts are made on the host, all else is done
/// there.
#[test]
fn each_family_on_another_device_has_the_gradients_of_the_cpu() {
    let Ok(opened) = firebrand::device::open(DeviceChoice::Software, 0) else {
        // Past the harness, which keeps what passing tests say to itself.
        let _ = writeln!(std::io::stderr(), "SKIPPED: families on wgpu are not tested");
        return;
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
