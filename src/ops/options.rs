//! Options of operations: plain data without tensors, of which descriptions of models are made.

/// Queries, or keys, that a workgroup of a GPU has at once in fused attention.
pub const ATTENTION_TILE: usize = 64;

/// How queries, keys and values are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub queries: usize,
    /// Heads of keys and values; divides `queries`.
    pub kv_heads: usize,
    /// Width of a head.
    pub width: usize,
}

/// How attention is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionConfig {
    /// How queries, keys and values are laid out.
    pub heads: Heads,
    /// What scores are multiplied with.
    pub scale: f32,
    /// A query sees so many keys at most, its own among them; all before it where this is `None`.
    pub window: Option<usize>,
    /// Scores `s` become `c · tanh(s / c)` (Gemma 2).
    pub soft_cap: Option<f32>,
}

impl AttentionConfig {
    /// Scores over the root of a head's width, without a window or a cap (Vaswani et al. 2017).
    pub fn of(heads: Heads) -> Self {
        #[expect(clippy::cast_precision_loss)] // head sizes are small
        let width = heads.width as f32;
        Self { heads, scale: 1.0 / width.sqrt(), window: None, soft_cap: None }
    }

    /// Numbers of the queries of a token.
    pub fn query_width(self) -> usize {
        self.heads.queries * self.heads.width
    }

    /// Numbers of the keys of a token, and of its values.
    pub fn key_width(self) -> usize {
        self.heads.kv_heads * self.heads.width
    }
}

/// How the inputs of a gated delta rule are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeltaHeads {
    /// Heads of queries, and of keys.
    pub keys: usize,
    /// Width of such a head.
    pub key_width: usize,
    /// Heads of values, a multiple of `keys`: those that follow each other share queries and keys.
    pub values: usize,
    /// Width of such a head.
    pub value_width: usize,
}

impl DeltaHeads {
    /// Numbers of the queries of a token, and of its keys.
    pub fn keys_wide(self) -> usize {
        self.keys * self.key_width
    }

    /// Numbers of the values of a token.
    pub fn values_wide(self) -> usize {
        self.values * self.value_width
    }

    /// Numbers of queries, keys and values of a token.
    pub fn wide(self) -> usize {
        2 * self.keys_wide() + self.values_wide()
    }

    /// Heads of values for one of keys.
    pub fn repeat(self) -> usize {
        self.values / self.keys
    }

    /// What queries are multiplied with after they are normalised.
    pub fn scale(self) -> f32 {
        #[expect(clippy::cast_precision_loss)] // head sizes are small
        let width = self.key_width as f32;
        1.0 / width.sqrt()
    }
}

/// What is done to the scores over the vocabulary before their softmax.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogitConfig {
    /// They are multiplied with this.
    pub scale: f32,
    /// Then they become `cap · tanh(score / cap)`, which keeps them within ±cap (Gemma 2).
    pub soft_cap: Option<f32>,
}

impl Default for LogitConfig {
    fn default() -> Self {
        Self { scale: 1.0, soft_cap: None }
    }
}

/// What a gated layer does to its gate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    /// `x · σ(x)`.
    Silu,
    /// `x · Φ(x)` in the approximation by tanh (Hendrycks, Gimpel 2016): `x · σ(2u)` with
    /// `u = √(2/π) · (x + 0.044715 x³)`.
    GeluTanh,
    /// `x · σ(α · x)` of a gate that ends at a limit; it lets one more than up through, which ends
    /// at ± the limit (gpt-oss).
    Clamped {
        /// α.
        alpha: f32,
        /// Where both end.
        limit: f32,
    },
}

/// √(2/π), and the factor of x³ beside x in the tanh form of GELU.
pub(super) const GELU: (f32, f32) = (0.797_884_56, 0.044_715);

/// How long contexts stretch the rotation of positions.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// As trained.
    None,
    /// Every frequency divided by `factor` (position interpolation).
    Linear {
        /// The divisor.
        factor: f32,
    },
    /// A base that grows with documents that are longer than those of the training (NTK).
    Dynamic {
        /// How much it grows.
        factor: f32,
        /// Longest document of the training.
        trained: u32,
    },
    /// Llama 3: low frequencies divided by `factor`, high ones kept, a ramp between
    /// (transformers `_compute_llama3_parameters`).
    Llama3 {
        /// The divisor of low frequencies.
        factor: f32,
        /// Wavelengths above `original / low_frequency_factor` are scaled wholly.
        low_frequency_factor: f32,
        /// Wavelengths below `original / high_frequency_factor` are not scaled.
        high_frequency_factor: f32,
        /// Context length of the original training.
        original: f32,
    },
    /// Yarn (Peng et al. 2023): planes before a ramp are kept, those after it slowed down.
    Yarn {
        /// The divisor of speeds after the ramp.
        factor: f32,
        /// Number of the plane where the ramp begins, and of that where it ends.
        ramp: [f32; 2],
        /// Turns within the original context, from which the ramp follows: of the plane where it
        /// begins, and of that where it ends.
        betas: [f32; 2],
        /// Context length of the original training.
        original: u32,
        /// What cosines and sines are multiplied with.
        attention_factor: f32,
    },
    /// Divisors of the speeds of each plane, of short documents and of long ones (Ding et al.
    /// 2024).
    LongRope {
        /// Of documents that are not longer than the original context.
        short: Vec<f32>,
        /// Of longer ones.
        long: Vec<f32>,
        /// Context length of the original training.
        original: u32,
        /// What cosines and sines are multiplied with.
        attention_factor: f32,
    },
    /// Gemma 4: some planes turn as those of the whole head, the others stand still.
    Proportional {
        /// How many turn, the first ones.
        planes: usize,
        /// The divisor of their speeds.
        factor: f32,
    },
}

/// Queries at position `p` are multiplied with `1 + β · ln(1 + ⌊p / original⌋)` (Ministral 3).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QueryScale {
    /// β.
    pub beta: f32,
    /// Context length of the original training.
    pub original: f32,
}
