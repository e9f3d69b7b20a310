//! Names of devices.

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
