//! `[device]`: where the work is done.

use crate::config::Effect;
use crate::config::device_choice::DeviceChoice;
use crate::config::key::{DefaultValue, Key, Section, ValueKind};
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
    /// How the CPU computes a training step.
    pub kernels: Kernels,
    /// Whether compiled kernels are kept beside the run.
    pub pin_kernels: bool,
}

choices! {
    /// How the CPU computes a training step.
    Kernels {
        /// By operations written for it.
        Fast = "fast",
        /// By the tensor operations that every device has.
        Portable = "portable",
    }
}

pub(in crate::config) const SECTION: Section = Section::new(
    "device",
    "Where the work is done.",
    &[
        Key::new(
            "device.name",
            ValueKind::Device,
            DefaultValue::Value("\"auto\""),
            "Which device computes. `auto` takes a GPU where there is one, else the CPU, and \
             says why; `firebrand devices` lists what there is. `gpu:1` is the second GPU, \
             `vulkan:1` the second adapter of that interface.",
        )
        .effect(Effect::Device)
        .example("\"cpu\"")
        .names(&[("TRL", "use_cpu")]),
        Key::new(
            "device.threads",
            ValueKind::Integer { min: 0, max: 4096 },
            DefaultValue::Value("0"),
            "Threads on the CPU. 0 takes one per core.",
        )
        .effect(Effect::Speed)
        .example("2")
        .names(&[("other tools", "num_threads")]),
        Key::new(
            "device.parallel_micro_batches",
            ValueKind::Integer { min: 1, max: 4096 },
            DefaultValue::Value("1"),
            "How many of a step's micro-batches the CPU works on at the same time. Changes no \
             number, only speed, and memory, which grows with it. A GPU takes one at a time.",
        )
        .effect(Effect::Speed)
        .example("2"),
        Key::new(
            "device.kernels",
            ValueKind::Choice(Kernels::NAMES),
            DefaultValue::Value("\"fast\""),
            "How the CPU computes a step. `fast`: operations written for it, with the vector \
             instructions that it has. `portable`: the tensor operations that every device has, \
             to compare with. Results differ by rounding; a run keeps to one of them.",
        )
        .effect(Effect::Device)
        .example("\"portable\"")
        .internal(),
        Key::new(
            "device.pin_kernels",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "The kernels that a GPU's driver compiles are kept in the run's directory instead of \
             the user's cache folder, so that they go where the run goes. Drivers on Linux can be \
             told so (Mesa, NVIDIA); where it cannot be had, the run says so and goes on. They are \
             machine code: use it for runs of your own.",
        )
        .effect(Effect::Speed)
        .example("true"),
    ],
);

impl DeviceConfig {
    pub(in crate::config) fn read(values: &Values) -> Self {
        Self {
            name: values.choice("device.name", DeviceChoice::from_name),
            threads: values.size("device.threads"),
            parallel_micro_batches: values.size("device.parallel_micro_batches"),
            kernels: values.choice("device.kernels", Kernels::from_name),
            pin_kernels: values.boolean("device.pin_kernels"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.text("device.name", &self.name.to_string());
        out.size("device.threads", self.threads);
        out.size("device.parallel_micro_batches", self.parallel_micro_batches);
        out.text("device.kernels", self.kernels.name());
        out.boolean("device.pin_kernels", self.pin_kernels);
    }
}
