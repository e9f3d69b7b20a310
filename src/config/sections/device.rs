//! `[device]`: where the work is done.

use crate::document::key::{DefaultValue, Key, Section, TextRule, ValueKind, quoted_list};
use crate::document::{Effect, Setting, Values, choices, settings};
use crate::error::nearest;

settings! {
    /// Where the work is done.
    pub struct DeviceConfig, KEYS {
        /// Which kind of device.
        name: DeviceChoice = Key::new(
            "device.name",
            ValueKind::Rule(&DEVICE),
            DefaultValue::Value("\"auto\""),
            "Which device computes. `auto` takes a GPU where there is one, else the CPU, and says \
             why; `firebrand devices` lists what there is. `gpu:1` is the second GPU, `vulkan:1` \
             the second adapter of that interface.",
        )
        .effect(Effect::Device)
        .example("\"cpu\"")
        .names(&[("TRL", "use_cpu")]);
        /// Threads of the CPU; 0 means one per core.
        threads: usize = Key::new(
            "device.threads",
            ValueKind::Integer { min: 0, max: 4096 },
            DefaultValue::Value("0"),
            "Threads on the CPU. 0 takes one per core.",
        )
        .effect(Effect::Speed)
        .example("2")
        .names(&[("other tools", "num_threads")]);
        /// Micro-batches of a step that the CPU works on at the same time.
        parallel_micro_batches: usize = Key::new(
            "device.parallel_micro_batches",
            ValueKind::Integer { min: 1, max: 4096 },
            DefaultValue::Value("1"),
            "How many of a step's micro-batches the CPU works on at the same time. Changes no \
             number, only speed, and memory, which grows with it. A GPU takes one at a time.",
        )
        .effect(Effect::Speed)
        .example("2");
        /// How many bytes a run may take at most.
        memory_limit: Option<u64> = Key::new(
            "device.memory_limit",
            ValueKind::Bytes { min: 1, max: 1 << 50 },
            DefaultValue::Absent("all that is free"),
            "Bytes of memory that the run may take at most, on a GPU of its memory. A run that \
             needs more by the estimate is refused; `train.memory = \"auto\"` takes a plan that \
             fits.",
        )
        .effect(Effect::Speed)
        .example("\"6 GB\"");
        /// How the CPU computes a training step.
        kernels: Kernels = Key::new(
            "device.kernels",
            ValueKind::Choice(Kernels::NAMES),
            DefaultValue::Value("\"fast\""),
            "How the CPU computes a step. `fast`: operations written for it, with the vector \
             instructions that it has. `portable`: the tensor operations that every device has, to \
             compare with. Results differ by rounding; a run keeps to one of them.",
        )
        .effect(Effect::Device)
        .example("\"portable\"")
        .internal();
        /// Whether compiled kernels are kept beside the run.
        pin_kernels: bool = Key::new(
            "device.pin_kernels",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "The kernels that a GPU's driver compiles are kept in the run's directory instead of \
             the user's cache folder, so that they go where the run goes. Drivers on Linux can be \
             told so (Mesa, NVIDIA); where it cannot be had, the run says so and goes on. They are \
             machine code: use it for runs of your own.",
        )
        .effect(Effect::Speed)
        .example("true");
    }
}

/// Which device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is one, else the CPU; never a software rasteriser.
    Auto,
    /// The CPU.
    Cpu,
    /// A GPU, or an error: the best, or the one of this number.
    Gpu(Option<u16>),
    /// An adapter of this interface, or an error: the best, or the one of this number.
    Api(GraphicsApi, Option<u16>),
    /// A software rasteriser, which only tests want.
    Software,
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

choices! {
    /// An interface to GPUs.
    GraphicsApi {
        /// Linux and Windows.
        Vulkan = "vulkan",
        /// macOS.
        Metal = "metal",
        /// Windows.
        Dx12 = "dx12",
        /// OpenGL.
        Gl = "gl",
    }
}

impl DeviceChoice {
    /// Every name, without numbers.
    pub const NAMES: &'static [&'static str] =
        &["auto", "cpu", "gpu", "vulkan", "metal", "dx12", "gl", "software"];

    /// The device of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        let (name, number) = match name.split_once(':') {
            Some((name, digits)) => {
                let plain = digits.len() <= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
                (name, Some(digits.parse().ok().filter(|_| plain)?))
            }
            None => (name, None),
        };
        match (name, number) {
            ("auto", None) => Some(Self::Auto),
            ("cpu", None) => Some(Self::Cpu),
            ("software", None) => Some(Self::Software),
            ("gpu", number) => Some(Self::Gpu(number)),
            (name, number) => GraphicsApi::from_name(name).map(|api| Self::Api(api, number)),
        }
    }
}

impl std::fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (name, number) = match self {
            Self::Auto => ("auto", None),
            Self::Cpu => ("cpu", None),
            Self::Gpu(number) => ("gpu", *number),
            Self::Api(api, number) => (api.name(), *number),
            Self::Software => ("software", None),
        };
        match number {
            Some(number) => write!(f, "{name}:{number}"),
            None => f.write_str(name),
        }
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("device", "Where the work is done.", KEYS)
        .plain_value("device.name", "the device itself is `name` in `[device]`");

/// The name of a device, with a number after those that have several.
const DEVICE: TextRule = TextRule {
    describe: || format!("one of {}", quoted_list(DeviceChoice::NAMES)),
    names: DeviceChoice::NAMES,
    pattern: Some("^(auto|cpu|software|(gpu|vulkan|metal|dx12|gl)(:[0-9]{1,3})?)$"),
    dates: false,
    check: |text| DeviceChoice::from_name(text).map(drop).ok_or_else(String::new),
    hint: |text| Some(device_hint(text)),
};

fn device_hint(text: &str) -> String {
    let name = text.split(':').next().unwrap_or(text);
    match nearest(name, DeviceChoice::NAMES.iter().copied()) {
        Some(near) if near != name => format!("did you mean `{near}`?"),
        _ => "a number may follow `gpu`, `vulkan`, `metal`, `dx12` and `gl`, as in `gpu:1`; it \
              counts from 0"
            .to_owned(),
    }
}

impl Setting for DeviceChoice {
    fn of(values: &Values, path: &str) -> Self {
        values.choice(path, Self::from_name)
    }
}
