//! Tables of `firebrand doctor --profile`: what a step launches, moves and computes, and how long
//! it would take on cards.

use crate::device::{Launches, Ledger};
use crate::engine::{CARDS, PredictedStep, StepLaunches};
use crate::event::bytes;

/// A count of bytes or operations that is not negative.
fn size(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// Operations for people.
#[expect(clippy::cast_precision_loss)] // for people
fn operations(count: u64) -> String {
    format!("{:.2}", count as f64 / 1e6)
}

/// Kernels of a layer, the most launches first, and then those that are beside the layers alone.
fn names<'a>(layer: &'a Launches, rest: &'a Launches) -> Vec<&'a str> {
    let mut names: Vec<&str> = layer.sorted().iter().map(|(name, _)| *name).collect();
    let beside = rest.sorted().into_iter().map(|(name, _)| name);
    let more: Vec<&str> = beside.filter(|name| !names.contains(name)).collect();
    names.extend(more);
    names
}

/// A table: kernel, launches of each layer, and of what is beside the layers, and what these do.
pub(super) fn launches(step: &StepLaunches) -> Vec<String> {
    let StepLaunches { arithmetic, layer, rest, moves } = step;
    let mut lines = vec![
        String::new(),
        format!(
            "launches of a LoRA step in {arithmetic}, of a layer and beside the layers; bytes that \
             they move, and millions of operations, of a model of width 64:"
        ),
    ];
    let line = |name: &str, launches: [i64; 2], of: &dyn Fn(&Ledger) -> [i64; 2]| {
        let ([layer, rest], [both, others]) = (launches, [&moves.layer, &moves.rest].map(of));
        let ([b, f], [b_rest, f_rest]) = (both.map(size), others.map(size));
        format!(
            "{layer:>8} {rest:>8} {:>9} {:>9} {:>7} {:>7}  {name}",
            bytes(b),
            bytes(b_rest),
            operations(f),
            operations(f_rest)
        )
    };
    for name in names(layer, rest) {
        let of = |ledger: &Ledger| [ledger.of(name).bytes, ledger.of(name).flops];
        lines.push(line(name, [layer.of(name), rest.of(name)], &of));
    }
    let of = |ledger: &Ledger| [ledger.total().bytes, ledger.total().flops];
    lines.push(line("all", [layer.total(), rest.total()], &of));
    if layer.total() == 0 {
        return lines;
    }
    let transfers =
        |of: crate::device::Transfers| format!("{} of {}", of.times, bytes(size(of.bytes)));
    lines.push(format!(
        "uploads of the step: {}; read-backs: {}",
        transfers(moves.rest.uploads),
        transfers(moves.rest.read_backs)
    ));
    if !moves.unknown.is_empty() {
        lines.push(format!("bytes are not known of: {}", moves.unknown.join(", ")));
    }
    if !moves.over_ideal.is_empty() {
        let over = moves.over_ideal.iter().map(|of| format!("{} {:.2}", of.part, of.times));
        let over = over.collect::<Vec<_>>().join(", ");
        lines.push(format!("bytes over those of a perfectly fused step: {over}"));
        if moves.differs.is_empty() {
            lines.push("launches, bytes and operations are those of the formula".to_owned());
        }
    }
    lines.extend(moves.differs.iter().map(|what| format!("not as the formula has it: {what}")));
    lines
}

/// A table in Markdown, as `docs/gpu.md` has it.
pub(super) fn predicted(steps: &[PredictedStep]) -> Vec<String> {
    let mut lines = vec![
        String::new(),
        "predicted, not measured: a LoRA step, by the bytes and operations of its kernels and the \
         data sheets of cards"
            .to_owned(),
        "| model, rows | card | launches | GB, over ideal | TFLOP | device ms | host ms | step ms \
         | tokens/s |"
            .to_owned(),
        "|---|---|---|---|---|---|---|---|---|".to_owned(),
    ];
    lines.extend(steps.iter().map(predicted_line));
    let sources = CARDS.iter().map(|card| format!("{}: {}", card.name, card.source));
    lines.extend(sources);
    lines
}

#[expect(clippy::cast_precision_loss)] // for people
fn predicted_line(step: &PredictedStep) -> String {
    let over = step.bytes as f64 / step.ideal_bytes as f64;
    let of_model = format!(
        "| {}, {} × {} | {} | {} | {:.1}, {over:.2} | {:.2}",
        step.model,
        step.rows.0,
        step.rows.1,
        step.card,
        step.launches,
        step.bytes as f64 / 1e9,
        step.flops as f64 / 1e12
    );
    if !step.fits {
        return format!("{of_model} | | | weights do not fit | |");
    }
    format!(
        "{of_model} | {:.0} | {:.0} | {:.0} | {:.0} |",
        1e3 * step.device_seconds,
        1e3 * step.host_seconds,
        1e3 * step.step_seconds,
        step.tokens_per_second
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::predicted_steps;

    #[test]
    fn the_page_about_gpus_has_the_table_that_is_printed() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/gpu.md");
        let page = std::fs::read_to_string(page).unwrap();
        let printed = predicted(&predicted_steps());
        let table: Vec<&str> =
            printed.iter().map(String::as_str).filter(|line| line.starts_with('|')).collect();
        assert_eq!(table.len(), 17);
        assert!(page.contains(&table.join("\n")), "it is to be:\n{}", table.join("\n"));
    }
}
