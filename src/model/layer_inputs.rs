//! Inputs that each layer has of its own for every token (Gemma 3n, Gemma 4): numbers of a table
//! with a row for each token, and as many that are made of the token's embedding.

use burn::tensor::{Int, Tensor};

use crate::error::Result;
use crate::model::blocks::{NamedLinear, Norm, NormOnCpu};
use crate::model::description::LayerInputsDescription;
use crate::model::{Gradients, PassContext, Visitor, VocabularyMatrix, WeightSource};
use crate::ops::cpu::{
    AsLhs, Back, Bf16, F32, F32RoundedToBf16, FEW_ROWS, HostTensor, Left, Narrow, PathGradients,
    Products, Projection, View,
};
use crate::ops::{from_vec, host};

/// The weights.
pub struct LayerInputs {
    /// `[vocabulary, layers · width]`.
    pub table: VocabularyMatrix,
    projection: NamedLinear,
    norm: Norm,
    description: LayerInputsDescription,
}

impl LayerInputs {
    /// Takes its weights.
    pub fn read(description: &LayerInputsDescription, weights: &mut WeightSource) -> Result<Self> {
        let LayerInputsDescription { table, vocabulary, projection, norm, .. } = description;
        let linear = weights.linear(projection.name, projection.dims, projection.bias)?;
        let mut table = weights.table(table, [*vocabulary, projection.dims[0]])?;
        table.padding = description.padding;
        Ok(Self {
            table,
            projection: NamedLinear { name: projection.name, linear },
            norm: Norm::read(None, norm, weights)?,
            description: *description,
        })
    }

    /// The same weights once more, in memory once.
    pub(super) fn sharing(&self) -> Self {
        let Self { table, projection, norm, description } = self;
        let (projection, norm) = (projection.tracked(), norm.tracked());
        Self { table: table.sharing(), projection, norm, description: *description }
    }

    /// The linear layer, whose name is its whole module path.
    pub fn projection(&mut self) -> &mut NamedLinear {
        &mut self.projection
    }

    /// Visits every parameter.
    pub fn visit(&mut self, visitor: &mut dyn Visitor) {
        self.table.visit(visitor);
        self.projection.linear.visit(self.projection.name, visitor);
        self.norm.visit(None, visitor);
    }

    /// Whether something of it is trained.
    fn learns(&self) -> bool {
        let linear = &self.projection.linear;
        self.table.trainable()
            || self.norm.gain.trainable
            || linear.adapter.is_some()
            || linear.trainable()
    }

    /// Puts the inputs of all layers into the side streams, for tokens and their embeddings,
    /// `[tokens, hidden]`; `passes_on` says whether these learn.
    pub fn forward(
        &self,
        tokens: &Tensor<1, Int>,
        embedded: &Tensor<2>,
        passes_on: bool,
        context: &PassContext,
    ) {
        let of = &self.description;
        let made = match LayerInputsOnCpu::of(self, embedded, context) {
            Some(here) => here.forward(),
            None => self.made(embedded.clone(), context),
        };
        let rows = self.table.rows(tokens).mul_scalar(of.table_scale);
        let all = (made + rows).mul_scalar(of.scale);
        context.side.set_inputs(all, of.width, passes_on || self.learns());
    }

    /// What is made of embeddings, as tensor operations.
    fn made(&self, embedded: Tensor<2>, context: &PassContext) -> Tensor<2> {
        let projected = self.projection.linear.forward(embedded, context);
        self.norm.forward(projected.mul_scalar(self.description.projection_scale))
    }

    /// Takes the gradient of the inputs out of the side streams: adds those of the weights, and
    /// returns that of the embeddings. None where nothing learns.
    pub fn backward(
        &self,
        tokens: &Tensor<1, Int>,
        embedded: Tensor<2>,
        context: &PassContext,
        sums: &mut Gradients,
    ) -> Option<Tensor<2>> {
        let of = &self.description;
        let d = context.side.take_input_gradient()?.mul_scalar(of.scale);
        if self.table.trainable() {
            let d_rows = d.clone().mul_scalar(of.table_scale);
            self.table.add_rows_gradient(sums, tokens, &d_rows);
        }
        if let Some(here) = LayerInputsOnCpu::of(self, &embedded, context) {
            return Some(here.backward(d, sums));
        }
        let (projection, norm) = (self.projection.tracked(), self.norm.tracked());
        let input = embedded.autodiff().require_grad();
        let projected = projection.linear.forward(input.clone(), context);
        let made = norm.forward(projected.mul_scalar(of.projection_scale));
        let mut tapes = [(made * d).backward()];
        let d_embedded = input.grad_remove(&mut tapes[0]).expect("it is a leaf of the tape");
        let (mut projection, mut norm) = (projection, norm);
        sums.collect(&mut tapes, |visitor| {
            projection.linear.visit(projection.name, visitor);
            norm.visit(None, visitor);
        });
        Some(d_embedded)
    }
}

/// What is made of embeddings, by the kernels of the CPU.
struct LayerInputsOnCpu<'a> {
    scale: f32,
    projection: Projection,
    norm: NormOnCpu,
    embedded: HostTensor,
    products: Products,
    tensor: &'a Tensor<2>,
}

impl<'a> LayerInputsOnCpu<'a> {
    fn of(of: &LayerInputs, tensor: &'a Tensor<2>, context: &PassContext) -> Option<Self> {
        let products = Products::of(context.computing)?;
        // For a few tokens, of which a text is written, packing the weight would take longest.
        let embedded = HostTensor::of(tensor).filter(|x| x.rows() > FEW_ROWS)?;
        let (projection, norm) = (of.projection.on_cpu(context)?, of.norm.on_cpu()?);
        let scale = of.description.projection_scale;
        Some(Self { scale, projection, norm, embedded, products, tensor })
    }

    fn forward(&self) -> Tensor<2> {
        let projected = match self.products {
            Products::F32 => self.projected::<F32>().0,
            Products::Bf16 => self.projected::<Bf16>().0,
            Products::F32RoundedToBf16 => self.projected::<F32RoundedToBf16>().0,
        };
        let shape = [self.embedded.rows(), self.projection.weight.rows()];
        from_vec(self.norm.operation().rows(&projected), shape, &self.tensor.device())
    }

    /// The output of the projection, scaled.
    fn projected<F: AsLhs>(&self) -> (Vec<f32>, Narrow<F>) {
        let x = F::factor(self.embedded.numbers());
        let (mut y, narrow) = self.projection.forward::<F>(x.view());
        y.iter_mut().for_each(|y| *y *= self.scale);
        (y, narrow)
    }

    fn backward(&self, d: Tensor<2>, sums: &mut Gradients) -> Tensor<2> {
        let (d, device) = (host(d), self.tensor.device());
        let (d_embedded, gradients) = match self.products {
            Products::F32 => self.backward_in::<F32>(&d),
            Products::Bf16 => self.backward_in::<Bf16>(&d),
            Products::F32RoundedToBf16 => self.backward_in::<F32RoundedToBf16>(&d),
        };
        for (path, gradient) in gradients {
            let shape = [gradient.len()];
            sums.add(&path, from_vec(gradient, shape, &device));
        }
        from_vec(d_embedded, self.tensor.dims(), &device)
    }

    fn backward_in<F: AsLhs>(&self, d: &[f32]) -> (Vec<f32>, PathGradients) {
        let (y, narrow) = self.projected::<F>();
        let [rows, width] = [self.embedded.rows(), self.projection.weight.rows()];
        let mut gradients = PathGradients::new();
        let mut d_y = vec![0.0; y.len()];
        self.norm.backward(
            &Left::<F32>::of(View::new(&y, rows, width)),
            d,
            &mut d_y,
            &mut gradients,
        );
        d_y.iter_mut().for_each(|d| *d *= self.scale);
        let (factor, x) = (F::factor_of(&d_y, width), F::factor(self.embedded.numbers()));
        let given = [(&self.projection, factor.view(), &narrow)];
        let d_embedded = Back::through(&given, x.view(), &mut gradients).input();
        (d_embedded, gradients)
    }
}
