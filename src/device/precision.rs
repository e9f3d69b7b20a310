//! In which arithmetic a device computes, and why.

use burn::tensor::{DType, FloatDType};

use super::{DeviceLimits, OpenedDevice, multiplies_bfloat16};
use crate::config::{Kernels, PrecisionChoice};
use crate::error::{Error, Result};
use crate::weights::formats;

/// How matrices are multiplied. Everything else is in 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Arithmetic {
    /// Factors, sums and results in 32 bits.
    #[default]
    F32,
    /// Factors rounded to IEEE half precision; sums and results in 32 bits.
    MixedF16,
    /// Factors rounded to bfloat16; sums and results in 32 bits.
    MixedBf16,
}

impl Arithmetic {
    /// As the configuration calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::MixedF16 => "mixed-f16",
            Self::MixedBf16 => "mixed-bf16",
        }
    }

    /// The format of the factors of products.
    pub fn factors(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::MixedF16 => DType::F16,
            Self::MixedBf16 => DType::BF16,
        }
    }

    /// Bytes of a weight that does not learn.
    pub fn frozen_bytes(self, on_cpu: bool) -> u64 {
        let dtype = match self {
            Self::MixedBf16 => FloatDType::BF16,
            Self::MixedF16 if !on_cpu => FloatDType::F16,
            _ => FloatDType::F32,
        };
        formats::of_tensors(dtype).bytes([1, 1])
    }
}

/// How everything is computed on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComputeConfig {
    /// How matrices are multiplied.
    pub arithmetic: Arithmetic,
    /// How large tensors and pieces of work may be.
    pub limits: DeviceLimits,
    /// Rows of a batch, and lists of what they are to predict, are filled up to a multiple of so
    /// many tokens: where kernels are compiled for each size of a tensor, few sizes shall occur. 1
    /// fills up nothing.
    pub pad_multiple: usize,
    /// How the CPU computes; other devices have one way.
    pub kernels: Kernels,
    /// Tokens of which an MLP is computed at once; all of them where this is `None`.
    pub mlp_tile: Option<usize>,
}

impl ComputeConfig {
    /// Whether matrices that are frozen stay in bfloat16 where files have them so. Kernels of
    /// the CPU read them as they are for products in 32 bits, too.
    pub fn keeps_bfloat16(self, on_cpu: bool) -> bool {
        match self.arithmetic {
            Arithmetic::MixedBf16 => true,
            Arithmetic::F32 => on_cpu && self.kernels == Kernels::Fast,
            Arithmetic::MixedF16 => false,
        }
    }
}

/// 32 bits, without limits, in any size: as on the CPU.
impl Default for ComputeConfig {
    fn default() -> Self {
        Self {
            arithmetic: Arithmetic::F32,
            limits: DeviceLimits::NONE,
            pad_multiple: 1,
            kernels: Kernels::Fast,
            mlp_tile: None,
        }
    }
}

/// The arithmetic of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precision {
    /// What it is.
    pub arithmetic: Arithmetic,
    /// Why.
    pub reason: String,
}

/// Chooses the arithmetic on a device.
///
/// # Errors
/// When the device does not have the one that is asked for.
pub fn precision(wanted: PrecisionChoice, opened: &OpenedDevice) -> Result<Precision> {
    let cpu = opened.backend == "flex";
    let (arithmetic, reason) = match wanted {
        PrecisionChoice::F32 => (Arithmetic::F32, "asked for"),
        PrecisionChoice::MixedF16 if cpu => {
            (Arithmetic::MixedF16, "asked for; the CPU rounds and then computes in 32 bits")
        }
        PrecisionChoice::MixedF16 if opened.f16 => (Arithmetic::MixedF16, "asked for"),
        PrecisionChoice::MixedBf16 if cpu && multiplies_bfloat16() => {
            (Arithmetic::MixedBf16, "asked for; this CPU multiplies bfloat16")
        }
        PrecisionChoice::MixedBf16 if cpu => {
            (Arithmetic::MixedBf16, "asked for; this CPU rounds and then computes in 32 bits")
        }
        PrecisionChoice::MixedBf16 if opened.bf16 => (Arithmetic::MixedBf16, "asked for"),
        PrecisionChoice::MixedF16 | PrecisionChoice::MixedBf16 => {
            return Err(refusal(wanted, opened));
        }
        PrecisionChoice::Auto => return Ok(automatic(opened, cpu)),
    };
    Ok(Precision { arithmetic, reason: reason.to_owned() })
}

fn automatic(opened: &OpenedDevice, cpu: bool) -> Precision {
    let (arithmetic, reason) = match (opened.bf16, opened.f16) {
        // One machine of a fleet that multiplies bfloat16 shall not train other weights.
        _ if cpu && multiplies_bfloat16() => {
            (Arithmetic::F32, "every CPU has it; `mixed-bf16` is faster on this one")
        }
        _ if cpu => (Arithmetic::F32, "every CPU has it"),
        _ if opened.software => (Arithmetic::F32, "a software adapter gains nothing from 16 bits"),
        (true, _) => (
            Arithmetic::MixedBf16,
            "the device multiplies bfloat16 and sums in 32 bits, which needs no loss scale",
        ),
        (false, true) => (Arithmetic::MixedF16, "the device has 16-bit floats, but no bfloat16"),
        (false, false) => (Arithmetic::F32, "the device has no 16-bit floats"),
    };
    let mut reason = reason.to_owned();
    if let Some(why) = opened.bf16_problem.as_ref().filter(|_| !cpu && !opened.software) {
        reason = format!("{reason} that can be used: {why}");
    }
    Precision { arithmetic, reason }
}

fn refusal(wanted: PrecisionChoice, opened: &OpenedDevice) -> Error {
    let what = format!("`train.precision = \"{wanted}\"` is not available on {}", opened.name);
    let error = Error::device(what);
    match wanted {
        PrecisionChoice::MixedBf16 => {
            let error = match &opened.bf16_problem {
                Some(why) => error.because(format!("in a trial of bfloat16, {why}")),
                None => error.because("its kernels have no bfloat16"),
            };
            error.hint(if opened.f16 { "use `\"mixed-f16\"`" } else { "use `\"f32\"`" })
        }
        _ => error.because("its kernels have no 16-bit floats").hint("use `\"f32\"`"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{cpu, fixture::on_card};
    use super::*;
    use crate::snapshots::says;

    #[test]
    fn auto_takes_the_best_of_the_device_and_says_why() {
        for (f16, bf16, arithmetic) in [
            (false, false, Arithmetic::F32),
            (true, false, Arithmetic::MixedF16),
            (true, true, Arithmetic::MixedBf16),
        ] {
            let found = precision(PrecisionChoice::Auto, &on_card(f16, bf16)).unwrap();
            assert_eq!(found.arithmetic, arithmetic);
            assert!(!found.reason.is_empty());
        }
        // Where bfloat16 was tried and came out wrong, that is said.
        let problem = Some("a product came out wrong by 5.0e-1".to_owned());
        let wrong = OpenedDevice { bf16_problem: problem, ..on_card(true, false) };
        let found = precision(PrecisionChoice::Auto, &wrong).unwrap();
        assert_eq!(found.arithmetic, Arithmetic::MixedF16);
        let refused = precision(PrecisionChoice::MixedBf16, &wrong).unwrap_err();
        says(
            format!("{}\n{refused}", found.reason),
            snapbox::str![[r#"
the device has 16-bit floats, but no bfloat16 that can be used: a product came out wrong by 5.0e-1
error[device]: `train.precision = "mixed-bf16"` is not available on Discrete 0
  because in a trial of bfloat16, a product came out wrong by 5.0e-1

hint: use `"mixed-f16"`
"#]],
        );
        let software = OpenedDevice { software: true, ..on_card(true, false) };
        let found = precision(PrecisionChoice::Auto, &software).unwrap();
        assert_eq!(found.arithmetic, Arithmetic::F32);
        let found = precision(PrecisionChoice::Auto, &cpu(1, "test")).unwrap();
        assert_eq!(found.arithmetic, Arithmetic::F32);
    }

    #[test]
    fn what_a_device_does_not_have_is_refused_with_what_it_has() {
        let refused =
            |wanted, opened: &OpenedDevice| precision(wanted, opened).unwrap_err().to_string();
        let none = refused(PrecisionChoice::MixedF16, &on_card(false, false));
        says(
            &none,
            snapbox::str![[r#"
error[device]: `train.precision = "mixed-f16"` is not available on Discrete 0
  because its kernels have no 16-bit floats

hint: use `"f32"`
"#]],
        );
        let half = refused(PrecisionChoice::MixedBf16, &on_card(true, false));
        says(
            &half,
            snapbox::str![[r#"
error[device]: `train.precision = "mixed-bf16"` is not available on Discrete 0
  because its kernels have no bfloat16

hint: use `"mixed-f16"`
"#]],
        );
        let all = [PrecisionChoice::F32, PrecisionChoice::MixedF16, PrecisionChoice::MixedBf16];
        for wanted in all {
            assert_eq!(
                precision(wanted, &super::super::cpu(1, "test")).unwrap().arithmetic.name(),
                wanted.name()
            );
        }
    }
}
