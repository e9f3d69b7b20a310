//! How much each head of attention adds to the residual stream, and over how many tokens it spreads
//! its attention.

use rayon::prelude::*;

use super::on_cpu::{AttentionOnCpu, SavedAttention};
use crate::model::blocks::Setting;
use crate::ops::Heads;
use crate::ops::cpu::{AsLhs, F32, Left, PackedRhs, Term, View, dot, product};

/// What each head did, `[tokens, heads]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct HeadActivity {
    /// How many heads there are.
    pub heads: usize,
    /// The length of what the head adds to the residual stream: `|W_h · m_h|`, with the columns of
    /// the last linear layer that are the head's and what it has mixed (Kobayashi et al. 2020,
    /// arXiv:2004.10102). A bias, which is no head's, is left out.
    pub norms: Vec<f32>,
    /// The entropy of the head's attention over the logarithm of the number of keys that the token
    /// sees: 0 where it attends to one of them, 1 where to all alike; not a number where only one
    /// is seen. A sink's share is left out.
    pub entropies: Vec<f32>,
}

/// `W_hᵀ · W_h` of every head, by which the length of what a head adds is known without adding it.
#[derive(Debug, Clone)]
pub struct HeadWeights(Vec<PackedRhs<F32>>);

impl AttentionOnCpu {
    /// What is to be known of the last linear layer, adapter included.
    pub fn head_weights<F: AsLhs>(&self) -> HeadWeights {
        let Heads { queries, width, .. } = self.config.heads;
        let of_head = |head: usize| {
            let ones = Left::<F>::with(width, queries * width, |row, target| {
                target[head * width + row] = F::of(1.0_f32);
            });
            let (mut columns, _) = self.output.forward::<F>(ones.view());
            let hidden = columns.len() / width;
            if let Some((bias, _)) = &self.output.bias {
                for column in columns.chunks_exact_mut(hidden) {
                    column.iter_mut().zip(bias.single()).for_each(|(y, bias)| *y -= bias);
                }
            }
            let columns = View::new(&columns, width, hidden);
            let (left, right) = (Left::<F32>::of(columns), PackedRhs::<F32>::pack_rows(columns));
            let squares = product(&[Term { left: left.view(), right: &right }]);
            PackedRhs::pack_rows(View::new(&squares, width, width))
        };
        HeadWeights((0..queries).map(of_head).collect())
    }

    /// What each head did.
    pub fn activity<F: AsLhs>(
        &self,
        saved: &SavedAttention<F>,
        weights: &HeadWeights,
        setting: Setting,
    ) -> HeadActivity {
        let heads = self.config.heads.queries;
        let passed = Self::leaving(&saved.mixed, saved.gate.as_ref(), setting);
        let mixed = passed.as_ref().unwrap_or(&saved.mixed.output);
        let borrowed = saved.kv.is_none().then(|| self.borrowed::<F>());
        let keys = saved.kv.as_ref().or(borrowed.as_ref()).map(|[keys, _]| keys);
        let keys = keys.expect("keys are its own or another layer's");
        HeadActivity {
            heads,
            norms: self.norms_of(mixed, weights),
            entropies: self.entropies(&saved.q, keys, setting),
        }
    }

    /// `√(m_hᵀ · W_hᵀ · W_h · m_h)`.
    fn norms_of<F: AsLhs>(&self, mixed: &Left<F>, weights: &HeadWeights) -> Vec<f32> {
        let Heads { queries, width, .. } = self.config.heads;
        let tokens = mixed.view().rows;
        let mut norms = vec![0.0; tokens * queries];
        for (head, squares) in weights.0.iter().enumerate() {
            let part = mixed.view().part((0, tokens), (head * width, width));
            let left = Left::<F32>::of(part);
            let times = product(&[Term { left: left.view(), right: squares }]);
            for (token, times) in times.chunks_exact(width).enumerate() {
                let square = dot(times, left.view().row(token));
                norms[token * queries + head] = square.max(0.0).sqrt();
            }
        }
        norms
    }

    fn entropies<F: AsLhs>(&self, q: &Left<F>, k: &Left<F>, setting: Setting) -> Vec<f32> {
        let queries = self.config.heads.queries;
        let mut first_keys = vec![None; q.view().rows];
        for (first, count) in setting.documents {
            let window = self.config.window.unwrap_or(usize::MAX);
            for (token, of_token) in (*first..).zip(&mut first_keys[*first..first + count]) {
                *of_token = Some((*first).max((token + 1).saturating_sub(window)));
            }
        }
        let mut entropies = vec![f32::NAN; first_keys.len() * queries];
        let rows = entropies.par_chunks_exact_mut(queries.max(1)).zip(&first_keys);
        rows.enumerate().for_each(|(token, (row, first_key))| {
            let Some(first_key) = first_key.filter(|first| *first < token) else { return };
            let mut scores = Vec::with_capacity(token + 1 - first_key);
            for (head, entropy) in row.iter_mut().enumerate() {
                *entropy = self.entropy((q, k), (token, head), first_key, &mut scores);
            }
        });
        entropies
    }

    /// `−Σ p · ln p / ln n` of the keys from the first to the token's own.
    fn entropy<F: AsLhs>(
        &self,
        (q, k): (&Left<F>, &Left<F>),
        (token, head): (usize, usize),
        first_key: usize,
        scores: &mut Vec<f32>,
    ) -> f32 {
        let Heads { queries, kv_heads, width } = self.config.heads;
        let query = &q.view().row(token)[head * width..][..width];
        let group = head * kv_heads / queries;
        let keys = k.view();
        scores.clear();
        scores.extend((first_key..=token).map(|key| {
            let key = &keys.row(key)[group * width..][..width];
            let score = self.config.scale * dot(query, key);
            self.config.soft_cap.map_or(score, |cap| cap * (score / cap).tanh())
        }));
        let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let (mut sum, mut weighted) = (0.0_f64, 0.0_f64);
        for score in scores.iter().map(|score| score - most) {
            let share = f64::from(score.exp());
            sum += share;
            weighted += share * f64::from(score);
        }
        #[expect(clippy::cast_precision_loss)] // contexts stay far below 2^53 tokens
        let seen = scores.len() as f64;
        #[expect(clippy::cast_possible_truncation)] // between 0 and 1
        let entropy = ((sum.ln() - weighted / sum) / seen.ln()) as f32;
        entropy.clamp(0.0, 1.0)
    }
}
