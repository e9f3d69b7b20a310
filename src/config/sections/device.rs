//! `[device]`: where the work is done.

use crate::config::key::{DefaultValue, Key, Kind, Section};
use crate::config::render::Entries;
use crate::config::value::Values;

/// Where the work is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceConfig {
    /// Which kind of device.
    pub name: DeviceChoice,
    /// Threads of the CPU; 0 means one per core.
    pub threads: usize,
    /// Micro-batches of a step that the CPU works on at the same time.
    pub parallel_micro_batches: usize,
}

choices! {
    /// Which kind of device.
    DeviceChoice {
        /// A GPU where there is one, else the CPU.
        Auto = "auto",
        /// The CPU.
        Cpu = "cpu",
        /// A GPU, or an error.
        Gpu = "gpu",
    }
}

pub(in crate::config) const SECTION: Section = Section::new(
    "device",
    "Where the work is done.",
    &[
        Key::new(
            "device.name",
            Kind::Choice(DeviceChoice::NAMES),
            DefaultValue::Value("\"auto\""),
            "Which device computes. `auto` takes a GPU where there is one, else the CPU, and \
             says why.",
        )
        .example("\"cpu\"")
        .names(&[("TRL", "use_cpu")]),
        Key::new(
            "device.threads",
            Kind::Integer { min: 0, max: 4096 },
            DefaultValue::Value("0"),
            "Threads on the CPU. 0 takes one per core.",
        )
        .example("2")
        .names(&[("other tools", "num_threads")]),
        Key::new(
            "device.parallel_micro_batches",
            Kind::Integer { min: 1, max: 4096 },
            DefaultValue::Value("1"),
            "How many of a step's micro-batches the CPU works on at the same time. Changes no \
             number, only speed, and memory, which grows with it. A GPU takes one at a time.",
        )
        .example("2"),
    ],
);

impl DeviceConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        Self {
            name: values.choice("device.name", DeviceChoice::from_name),
            threads: values.size("device.threads"),
            parallel_micro_batches: values.size("device.parallel_micro_batches"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.text("device.name", self.name.name());
        out.size("device.threads", self.threads);
        out.size("device.parallel_micro_batches", self.parallel_micro_batches);
    }
}
