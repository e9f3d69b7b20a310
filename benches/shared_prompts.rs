//! What it saves that documents which begin alike are computed once to where they part: a pass with
//! gradients, LoRA of rank 16 on all linear layers, with shared prompts and without, in turn.
//!
//! `cargo bench --bench shared_prompts -- MODEL_DIR [ROUNDS]`, on the CPU. A pass that drops inputs
//! of adapters shares nothing, since what is dropped is of each token where it stands; these
//! adapters drop nothing, so that such a pass computes the same numbers from all tokens.

use std::path::Path;
use std::time::Instant;

use firebrand::adapters::{Lora, LoraSettings, attach};
use firebrand::config::{DeviceChoice, Recompute};
use firebrand::data::{Batch, CorpusEntry, Example, RecordId, SampledToken};
use firebrand::device::{Arithmetic, ComputeConfig};
use firebrand::engine::{Pass, forward_backward};
use firebrand::error::{Error, Result};
use firebrand::files::Digest;
use firebrand::model::{FrozenWeights, Gradients, Init, Model, load_for};
use firebrand::objectives::{self, Objective};
use firebrand::ops::host;
use firebrand::random::Stream;

/// Answers of a prompt, tokens of the prompt and of each answer.
const DPO: [(usize, usize, usize); 4] = [(2, 32, 32), (2, 128, 128), (2, 256, 64), (2, 512, 64)];
const GRPO: [(usize, usize, usize); 3] = [(8, 32, 64), (8, 128, 64), (16, 256, 32)];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|it| it != "--bench").collect();
    let Some((directory, rounds)) = arguments.split_first() else {
        let usage = "usage: cargo bench --bench shared_prompts -- MODEL_DIR [ROUNDS]";
        return Err(Error::usage(usage));
    };
    let rounds = rounds.first().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    println!(
        "| pass | arithmetic | tokens | shared | s | s shared | ratio | gradients differ by |"
    );
    println!("|---|---|---|---|---|---|---|---|");
    for arithmetic in [Arithmetic::F32, Arithmetic::MixedBf16] {
        let model = loaded(Path::new(directory), arithmetic)?;
        for (name, cases) in [("dpo", &DPO[..]), ("grpo", &GRPO[..])] {
            let objective = objectives::with(name, &[]);
            for case in cases {
                row(&model, (name, &*objective), *case, rounds);
            }
        }
    }
    Ok(())
}

fn loaded(directory: &Path, arithmetic: Arithmetic) -> Result<Model> {
    let opened = firebrand::device::open(DeviceChoice::Cpu, 0)?;
    let computing = ComputeConfig { arithmetic, ..opened.computing() };
    let frozen = FrozenWeights { frozen: true, ..FrozenWeights::default() };
    let loaded = load_for(directory, Init::Pretrained, &opened.device, computing, frozen)?;
    let mut model = loaded.model;
    attach(&mut model, &Lora { settings: LoraSettings::new(16, 32.0) }, Stream::new(1))?;
    Ok(model)
}

/// A line of the table: medians of passes in turn, and the largest difference of a gradient beside
/// the largest gradient.
fn row(
    model: &Model,
    (name, objective): (&str, &dyn Objective),
    (answers, prompt, answer): (usize, usize, usize),
    rounds: usize,
) {
    let texts = texts(model.description.vocabulary, (answers, prompt, answer));
    let batch = if name == "dpo" { pair(&texts, prompt) } else { completions(&texts, prompt) };
    let mut seconds = [Vec::new(), Vec::new()];
    let mut gradients = [Vec::new(), Vec::new()];
    // The first pass of each is not counted.
    for round in 0..=rounds {
        for shares in [false, true] {
            let dropout = (!shares).then(|| Stream::new(1).into());
            let pass = Pass {
                scale: 1.0,
                recompute: Recompute::None,
                loss_chunk_tokens: 256,
                dropout,
                noise: None,
            };
            let began = Instant::now();
            let mut sums = Gradients::default();
            forward_backward(model, objective, &batch, pass, &mut sums);
            let took = began.elapsed().as_secs_f64();
            let of = usize::from(shares);
            gradients[of] = sums.into_sums().into_values().flat_map(host).collect();
            if round > 0 {
                seconds[of].push(took);
            }
        }
    }
    let [apart, shared] = seconds.map(median);
    let (all, once) = (answers * (prompt + answer), prompt + answers * answer);
    let arithmetic = model.computing.arithmetic.name();
    let largest = |numbers: &mut dyn Iterator<Item = f32>| numbers.fold(0.0, f32::max);
    let pairs = gradients[0].iter().zip(&gradients[1]);
    let difference = largest(&mut pairs.map(|(one, other): (&f32, &f32)| (one - other).abs()))
        / largest(&mut gradients[0].iter().map(|gradient| gradient.abs()));
    println!(
        "| {name}, {answers} answers of {answer} after {prompt} | {arithmetic} | {all} | {once} | \
         {apart:.3} | {shared:.3} | {:.2} | {difference:.1e} |",
        apart / shared
    );
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers[numbers.len() / 2]
}

/// Texts of random tokens that begin alike and part with the answer.
fn texts(vocabulary: usize, (answers, prompt, answer): (usize, usize, usize)) -> Vec<Vec<u32>> {
    let draws = Stream::new(7);
    let token = |number: u64| {
        u32::try_from(draws.bits(number) % vocabulary as u64).expect("vocabularies are small")
    };
    let of_answer = |number: u64| (0..answer as u64).map(move |at| 1_000 * (number + 1) + at);
    let all = |number: u64| (0..prompt as u64).chain(of_answer(number)).map(token).collect();
    (0..answers as u64).map(all).collect()
}

fn entry(tokens: Vec<u32>, loss_mask: Vec<bool>) -> CorpusEntry {
    CorpusEntry {
        record: RecordId { file: "".into(), line: 1 },
        digest: Digest::of(b""),
        weight: 1.0,
        margin: 0.0,
        example: Example { tokens, loss_mask },
    }
}

/// Both answers with their prompt in one example, as data have pairs.
fn pair(texts: &[Vec<u32>], prompt: usize) -> Batch {
    let masks = texts.iter().flat_map(|text| (0..text.len()).map(|place| place >= prompt));
    let pair = entry(texts.concat(), masks.collect());
    Batch::new(&[vec![&pair]])
}

/// A row for each completion, as rollouts have them.
fn completions(texts: &[Vec<u32>], prompt: usize) -> Batch {
    let entries: Vec<CorpusEntry> = texts
        .iter()
        .map(|text| entry(text.clone(), (0..text.len()).map(|place| place >= prompt).collect()))
        .collect();
    let rows: Vec<Vec<&CorpusEntry>> = entries.iter().map(|entry| vec![entry]).collect();
    let mut batch = Batch::new(&rows);
    let sampled = SampledToken { advantage: 1.0, log_prob: None, masked: false };
    batch.sampled = vec![sampled; batch.targets.len()];
    batch
}
