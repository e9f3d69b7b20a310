//! A linear layer with a place beside it, into which an adapter may be put.

use std::sync::Arc;

use burn::tensor::{Device, Tensor};

use crate::model::{Parameter, PassContext, Visitor};
use crate::ops::{
    CodedFactor, DeviceCodes, FrozenMatrix, LowRankFactors, coded_strips, cpu, from_vec, project,
    project_frozen, wide,
};
use crate::weights::formats::{CodedMatrix, dequantised};

/// `y = x·Wᵀ + b`, or what an adapter makes of it.
pub struct Linear {
    /// `[out, in]`, as Hugging Face stores it.
    pub weight: Matrix,
    /// `[out]`.
    pub bias: Option<Parameter<1>>,
    /// An adapter.
    pub adapter: Option<Box<dyn AdapterBranch>>,
}

/// The matrix of a linear layer.
pub enum Matrix {
    /// A tensor of the device, which may be trained.
    Tensor(Parameter<2>),
    /// Codes on the host: they stay as they are, and are no parameter.
    Coded(Arc<dyn CodedMatrix>),
    /// Codes in the memory of a GPU, which are no parameter, either.
    OnGpu(DeviceCodes),
}

impl Matrix {
    fn trainable(&self) -> bool {
        match self {
            Self::Tensor(weight) => weight.trainable,
            Self::Coded(_) | Self::OnGpu(_) => false,
        }
    }

    fn held(&self) -> Option<cpu::HostTensor> {
        match self {
            Self::Tensor(weight) => cpu::HostTensor::of(&weight.value),
            Self::Coded(codes) => Some(cpu::HostTensor::coded(codes.clone())),
            Self::OnGpu(_) => None,
        }
    }

    fn tracked(&self) -> Self {
        match self {
            Self::Tensor(weight) => Self::Tensor(weight.tracked()),
            Self::Coded(codes) => Self::Coded(codes.clone()),
            Self::OnGpu(codes) => Self::OnGpu(codes.clone()),
        }
    }
}

/// What an adapter makes of one linear layer.
pub trait AdapterBranch: Send + Sync {
    /// What the layer gives for `x: [tokens, in]`, without its bias: `[tokens, out]`.
    fn forward(&self, x: Tensor<2>, linear: &Linear, context: &PassContext) -> Tensor<2>;
    /// Whether inputs are dropped in training.
    fn drops(&self) -> bool;
    /// Visits its parameters; `path` is the module path of the linear layer.
    fn visit(&mut self, path: &str, visitor: &mut dyn Visitor);
    /// A copy whose trainable parameters are leaves of a tape.
    fn tracked(&self) -> Box<dyn AdapterBranch>;
    /// What other programs put beside the layer as it is in files, where that is another.
    fn published(&self) -> Option<Box<dyn AdapterBranch>> {
        None
    }
    /// Its factors, where `s·(x·Aᵀ)·Bᵀ` of the whole input is all that it adds.
    fn factors(&self, _context: &PassContext) -> Option<LowRankFactors> {
        None
    }
    /// The same as the kernels of the CPU know it, beside `weight`; none on other devices, or if
    /// it is something that they do not know.
    fn low_rank(&self, weight: &cpu::HostTensor, context: &PassContext) -> Option<cpu::LowRank>;
}

impl Linear {
    /// `[out, in]`.
    pub fn dims(&self) -> [usize; 2] {
        match &self.weight {
            Matrix::Tensor(weight) => weight.value.dims(),
            Matrix::Coded(codes) => codes.shape(),
            Matrix::OnGpu(codes) => codes.dims(),
        }
    }

    /// Whether its matrix is trained.
    pub fn trainable(&self) -> bool {
        self.weight.trainable()
    }

    /// Its matrix as a constant of the device, if it is one.
    pub fn constant(&self) -> Option<FrozenMatrix> {
        match &self.weight {
            Matrix::Tensor(weight) if !weight.trainable => Some(weight.value.clone().into()),
            Matrix::OnGpu(codes) => Some(FrozenMatrix::Codes(codes.clone())),
            Matrix::Tensor(_) | Matrix::Coded(_) => None,
        }
    }

    /// Its adapter, unless adapters are off.
    pub fn adapter_in(&self, context: &PassContext) -> Option<&dyn AdapterBranch> {
        self.adapter.as_deref().filter(|_| !context.adapters_off)
    }

    /// `x: [tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let y = match self.adapter_in(context) {
            Some(adapter) => adapter.forward(x, self, context),
            None => self.frozen(x, context),
        };
        match &self.bias {
            Some(bias) => y + bias.value.clone().unsqueeze::<2>(),
            None => y,
        }
    }

    /// `x·Wᵀ`, without bias and adapter.
    pub fn frozen(&self, x: Tensor<2>, context: &PassContext) -> Tensor<2> {
        match &self.weight {
            Matrix::Tensor(weight) => project(x, weight.value.clone(), context.computing),
            Matrix::Coded(codes) => {
                let held = cpu::HostTensor::coded(codes.clone());
                let y = cpu::project_with(&x, &held, context.computing);
                y.unwrap_or_else(|| {
                    CodedFactor::new(codes).project(x, context.computing.arithmetic)
                })
            }
            Matrix::OnGpu(codes) => {
                project_frozen(x, &FrozenMatrix::Codes(codes.clone()), context.computing)
            }
        }
    }

    /// `W`, in 32 bits.
    pub fn values(&self) -> Tensor<2> {
        match &self.weight {
            Matrix::Tensor(weight) => wide(weight.value.clone()),
            Matrix::Coded(codes) => {
                from_vec(dequantised(codes.as_ref()), codes.shape(), &Device::flex())
            }
            Matrix::OnGpu(codes) => codes.values(),
        }
    }

    /// What `make` gives of `W` in 32 bits, `[rows, …]` of `[rows, in]`: of a matrix that is kept
    /// as codes, some rows at a time. `make` is told the first of them.
    pub fn of_rows(&self, make: impl Fn(usize, Tensor<2>) -> Tensor<2>) -> Tensor<2> {
        let codes = match &self.weight {
            Matrix::Tensor(weight) => return make(0, wide(weight.value.clone())),
            Matrix::OnGpu(codes) => return make(0, codes.values()),
            Matrix::Coded(codes) => codes,
        };
        let mut first = 0;
        let parts = coded_strips(codes.as_ref()).map(|strip| {
            let rows = strip.dims()[0];
            first += rows;
            make(first - rows, strip)
        });
        Tensor::cat(parts.collect(), 0)
    }

    /// The layer as the kernels of the CPU know it, `path` within its decoder layer.
    pub fn projection(&self, path: &'static str, context: &PassContext) -> Option<cpu::Projection> {
        let bias = match &self.bias {
            Some(bias) => Some((cpu::HostTensor::of(&bias.value)?, bias.trainable)),
            None => None,
        };
        let weight = self.weight.held()?;
        let low_rank = match self.adapter_in(context) {
            Some(adapter) => Some(adapter.low_rank(&weight, context)?),
            None => None,
        };
        Some(cpu::Projection { path, weight, trainable: self.weight.trainable(), bias, low_rank })
    }

    /// Visits weight, bias and adapter.
    pub fn visit(&mut self, path: &str, visitor: &mut dyn Visitor) {
        if let Matrix::Tensor(weight) = &mut self.weight {
            visitor.matrix(&format!("{path}.weight"), weight);
        }
        if let Some(bias) = &mut self.bias {
            visitor.vector(&format!("{path}.bias"), bias);
        }
        if let Some(adapter) = &mut self.adapter {
            adapter.visit(path, visitor);
        }
    }

    /// A copy whose trainable parameters are leaves of a tape.
    #[must_use]
    pub fn tracked(&self) -> Self {
        Self {
            weight: self.weight.tracked(),
            bias: self.bias.as_ref().map(Parameter::tracked),
            adapter: self.adapter.as_ref().map(|adapter| adapter.tracked()),
        }
    }
}
