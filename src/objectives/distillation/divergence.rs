//! Divergences between two distributions of few outcomes.

/// The generalised Jensen-Shannon divergence of Agarwal et al. 2024, equation 1, as TRL's
/// `GKDTrainer` has it, from log-probabilities: `β·KL(p ‖ m) + (1 − β)·KL(q ‖ m)` with
/// `m = β·p + (1 − β)·q`, `p` of the teacher and `q` of the model; at β = 0 `KL(p ‖ q)`, at β = 1
/// `KL(q ‖ p)`. With its derivative by each probability of the model, up to a number that is the
/// same for all, which changes nothing where probabilities sum up to 1.
pub fn generalised_jsd(teacher: &[f64], model: &[f64], beta: f64) -> (f64, Vec<f64>) {
    let mut slopes = Vec::with_capacity(model.len());
    let mut loss = 0.0;
    for (p, q) in teacher.iter().zip(model) {
        if beta <= 0.0 {
            loss += p.exp() * (p - q);
            slopes.push(-(p - q).exp());
        } else if beta >= 1.0 {
            loss += q.exp() * (q - p);
            slopes.push(q - p);
        } else {
            let m = log_sum(beta.ln() + p, (1.0 - beta).ln() + q);
            loss += beta * p.exp() * (p - m) + (1.0 - beta) * q.exp() * (q - m);
            slopes.push((1.0 - beta) * (q - m));
        }
    }
    (loss, slopes)
}

/// `ln(eᵃ + eᵇ)`.
fn log_sum(a: f64, b: f64) -> f64 {
    let (most, least) = (a.max(b), a.min(b));
    most + (least - most).exp().ln_1p()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(scores: &[f64]) -> Vec<f64> {
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        scores.iter().map(|score| score - sum.ln()).collect()
    }

    /// By scores: `q·(h − Σ q·h)`.
    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let teacher = softmax(&[0.3, -1.0, 2.0, -9.0]);
        let scores = [1.5, 0.2, -0.4, -3.0];
        for beta in [0.0, 0.1, 0.5, 0.9, 1.0] {
            let at = |scores: &[f64]| generalised_jsd(&teacher, &softmax(scores), beta);
            let q = softmax(&scores);
            let (_, slopes) = at(&scores);
            let mean: f64 = q.iter().zip(&slopes).map(|(q, h)| q.exp() * h).sum();
            for place in 0..scores.len() {
                let step = 1e-6;
                let moved = |by: f64| {
                    let mut scores = scores;
                    scores[place] += by;
                    at(&scores).0
                };
                let wanted = (moved(step) - moved(-step)) / (2.0 * step);
                let ours = q[place].exp() * (slopes[place] - mean);
                assert!((ours - wanted).abs() < 1e-8, "{beta} {place}: {ours} {wanted}");
            }
        }
    }

    #[test]
    fn nothing_lies_between_equal_distributions() {
        let p = softmax(&[0.3, -1.0, 2.0]);
        for beta in [0.0, 0.3, 1.0] {
            let (loss, slopes) = generalised_jsd(&p, &p, beta);
            let mean: f64 = p.iter().zip(&slopes).map(|(p, h)| p.exp() * h).sum();
            assert!(loss.abs() < 1e-12);
            assert!(slopes.iter().all(|slope| (slope - mean).abs() < 1e-12), "{beta}");
        }
        // Far apart, it stays a number.
        let far = generalised_jsd(&[-1e-30, -100.0], &[-90.0, -1e-30], 0.5);
        assert!(far.0 > 0.6 && far.0 < 0.7 && far.1.iter().all(|slope| slope.is_finite()));
    }
}
