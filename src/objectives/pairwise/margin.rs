//! Losses of a margin, each with its derivative.

/// log σ(x) without overflow.
pub fn log_sigmoid(x: f64) -> f64 {
    x.min(0.0) - (-x.abs()).exp().ln_1p()
}

/// σ(x) without overflow.
pub fn sigmoid(x: f64) -> f64 {
    log_sigmoid(x).exp()
}

/// The cross-entropy of the margin being positive, where `smoothing` of the labels are taken to be
/// wrong (Mitchell 2023, "A note on DPO with noisy preferences": conservative DPO).
pub fn logistic(margin: f64, smoothing: f64) -> (f64, f64) {
    let right = 1.0 - smoothing;
    let loss = -right * log_sigmoid(margin) - smoothing * log_sigmoid(-margin);
    (loss, smoothing * sigmoid(margin) - right * sigmoid(-margin))
}

/// The same without the bias of labels of which `smoothing` are wrong, which is below a half
/// (Chowdhury et al. 2024, "Provably Robust DPO: Aligning Language Models with Noisy Feedback").
pub fn robust(margin: f64, smoothing: f64) -> (f64, f64) {
    let (right, all) = (1.0 - smoothing, 1.0 - 2.0 * smoothing);
    let loss = smoothing * log_sigmoid(-margin) - right * log_sigmoid(margin);
    let slope = -right * sigmoid(-margin) - smoothing * sigmoid(margin);
    (loss / all, slope / all)
}

/// What a margin lacks to one (Zhao et al. 2023, "SLiC-HF").
pub fn hinge(margin: f64) -> (f64, f64) {
    if margin < 1.0 { (1.0 - margin, -1.0) } else { (0.0, 0.0) }
}

/// The square of what a margin differs by from the one that is wanted (Azar et al. 2023, "A General
/// Theoretical Paradigm to Understand Learning from Human Preferences": IPO).
pub fn squared(margin: f64, wanted: f64) -> (f64, f64) {
    ((margin - wanted).powi(2), 2.0 * (margin - wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_are_those_of_finite_differences() {
        let losses: [(&str, &dyn Fn(f64) -> (f64, f64)); 5] = [
            ("logistic", &|x| logistic(x, 0.0)),
            ("smoothed", &|x| logistic(x, 0.2)),
            ("robust", &|x| robust(x, 0.2)),
            ("hinge", &hinge),
            ("squared", &|x| squared(x, 1.7)),
        ];
        for (name, loss) in losses {
            for x in [-30.0, -2.0, -0.1, 0.0, 0.3, 0.999, 1.5, 30.0] {
                let step = 1e-6;
                let by_difference = (loss(x + step).0 - loss(x - step).0) / (2.0 * step);
                let (_, slope) = loss(x);
                assert!(
                    (slope - by_difference).abs() < 1e-4,
                    "{name} {x}: {slope} {by_difference}"
                );
            }
            let ends = [loss(-1e4), loss(1e4)];
            assert!(ends.iter().all(|(loss, slope)| loss.is_finite() && slope.is_finite()));
        }
    }
}
