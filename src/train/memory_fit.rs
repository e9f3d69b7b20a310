//! Whether a run fits the device: the size of its tensors, and the memory for all of them.

use crate::adapters::{self, Adapter};
use crate::config::{Recompute, RunConfig};
use crate::device::{Arithmetic, OpenedDevice, memory_bytes_available};
use crate::engine::optimizers::{self, UpdatedParameter};
use crate::engine::{
    AdapterMemory, Estimate, MicroBatchSplit, ParameterGroups, TeacherMemory, TrainedParameters,
    Workload, WrittenAnswers, estimate,
};
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::model::{Description, texts_at_once};
use crate::objectives;
use crate::train::checked_tokens;

/// How a micro-batch is divided so that no tensor is larger than the device takes.
///
/// # Errors
/// When a weight is, or the tensors of a single row would be.
pub fn micro_batch_split(
    description: &Description,
    opened: &OpenedDevice,
    rows: usize,
    length: usize,
) -> Result<MicroBatchSplit> {
    let limits = opened.limits;
    let too_large = |what: String| {
        Error::out_of_memory(what)
            .because(format!(
                "{} takes no tensors of more than {}",
                opened.name,
                bytes(limits.tensor_bytes)
            ))
            .hint("another `device.name` may take larger ones; `firebrand devices` lists them")
    };
    if let Some((path, [outputs, inputs])) = description
        .matrices()
        .find(|(_, [outputs, inputs])| !limits.holds((outputs * inputs) as u64))
    {
        let size = bytes(4 * (outputs * inputs) as u64);
        return Err(too_large(format!("`{path}` is too large for the device: it has {size}")));
    }
    // The widest tensor of a layer.
    let widest =
        description.matrices().flat_map(|(_, dims)| *dims).max().unwrap_or(description.hidden);
    let tokens = limits.rows(widest);
    if tokens < length {
        let size = bytes(4 * (length * widest) as u64);
        let what = format!("a row of {length} tokens is too long for the device: it needs {size}");
        return Err(too_large(what).hint("a smaller `data.max_seq_len` needs less"));
    }
    let most = tokens / length.max(1);
    Ok(MicroBatchSplit { rows: (most < rows).then_some(most), ..MicroBatchSplit::default() })
}

/// What is differentiated at the same time, and by how many threads.
pub fn passes(
    config: &RunConfig,
    (opened, arithmetic): (&OpenedDevice, Arithmetic),
    micro_batch_split: MicroBatchSplit,
) -> Workload {
    let parallel = parallel_micro_batches(config, opened);
    let rows = config.train.micro_batch_size;
    Workload {
        rows: parallel * micro_batch_split.rows.map_or(rows, |most| most.min(rows)),
        micro_batches: parallel,
        accumulates: config.train.gradient_accumulation_steps > parallel,
        threads: rayon::current_num_threads(),
        answers: answers_written(config, opened),
        limits: opened.computing().limits,
        ..Workload::on(opened.on_gpu(), arithmetic, config.device.kernels)
    }
}

/// The same work in so many steps: what is done before the first one, and between them.
pub fn in_steps(
    work: Workload,
    config: &RunConfig,
    description: &Description,
    total_steps: u64,
) -> Workload {
    Workload {
        saves: (1..total_steps).contains(&config.checkpoint.every_steps),
        several_steps: total_steps > 1,
        checked: checked_tokens::tokens(&work, (config, description), total_steps),
        ..work
    }
}

/// What the model writes at the same time to learn from it.
fn answers_written(config: &RunConfig, opened: &OpenedDevice) -> WrittenAnswers {
    let objective = objectives::chosen(&config.owned);
    let rows = config.train.micro_batch_size * config.train.gradient_accumulation_steps;
    let (prompts, of_prompt, tokens) = match (objective.rollouts(), objective.on_policy()) {
        (Some(of), _) => {
            let prompts = rows.saturating_mul(of.dynamic_sampling);
            (prompts, of.num_generations, of.max_completion_length)
        }
        (None, Some(on_policy)) => (rows, 1, on_policy.max_new_tokens),
        (None, None) => return WrittenAnswers::default(),
    };
    let texts = texts_at_once(opened.on_gpu()).min(prompts.saturating_mul(of_prompt));
    let prompts = prompts.min(texts.div_ceil(of_prompt.max(1)) + 1);
    WrittenAnswers { texts, prompts, tokens }
}

/// A GPU is kept busy by one micro-batch, and one thread talks to it.
pub fn parallel_micro_batches(config: &RunConfig, opened: &OpenedDevice) -> usize {
    if opened.backend == "flex" { config.device.parallel_micro_batches } else { 1 }
}

/// How many parameters are trained, and what the optimizer keeps for them.
///
/// # Errors
/// When the adapter asks for layers that the model does not have, or a group of parameters has
/// nothing to do.
pub fn trained(
    config: &RunConfig,
    adapter: Option<&dyn Adapter>,
    description: &Description,
) -> Result<TrainedParameters> {
    let rule = optimizers::chosen(&config.owned);
    let tensors = adapters::trainable_tensors(adapter, description)?;
    ParameterGroups::read(&config.owned).check(&tensors)?;
    let all: Vec<_> =
        tensors.iter().map(|(path, shape)| UpdatedParameter::new(path, shape)).collect();
    let count = match adapter {
        Some(adapter) => adapters::size(adapter, description)?,
        None => description.parameters,
    };
    let state_bytes = optimizers::state_bytes(&*rule, &all);
    let sizes = tensors.iter().map(|(_, shape)| shape.iter().product::<usize>() as u64);
    let largest = sizes.max().unwrap_or(0);
    let of_each = all.iter().map(|one| optimizers::state_bytes(&*rule, [one]));
    let largest_state = of_each.max().unwrap_or(0);
    let averages = rule.averages();
    Ok(TrainedParameters { count, state_bytes, averages, largest, largest_state })
}

/// Memory by part, with what a teacher takes.
///
/// # Errors
/// When the adapter asks for layers that the model does not have.
pub fn memory(
    description: &Description,
    (work, teacher): (Workload, Option<&TeacherMemory>),
    adapter: Option<&dyn Adapter>,
) -> Result<Estimate> {
    let adapted = match adapter {
        Some(adapter) => {
            let linears = adapters::trained_linears(adapter, description)?;
            let kept: usize = linears.values().map(|it| it.kept).sum();
            let taped = taped(kept, description, work);
            let beside_head = adapters::trains_beside_head(adapter, description)?;
            AdapterMemory { linears, taped, beside_head }
        }
        None => AdapterMemory::default(),
    };
    let memory = estimate(description, work, &adapted);
    Ok(match teacher {
        Some(teacher) => memory.with_teacher(teacher),
        None => memory,
    })
}

/// Bytes of so many numbers a token that tapes keep for an adapter.
fn taped(kept: usize, description: &Description, work: Workload) -> u64 {
    const F32: usize = 4;
    let numbers = kept * work.rows * work.length;
    let at_once = match work.recompute {
        Recompute::None => numbers,
        Recompute::Layers => numbers / description.layers.len().max(1),
    };
    (at_once * F32) as u64
}

/// Whether there is any hope that the device holds the run.
///
/// # Errors
/// When weights and optimiser alone are larger than its memory.
pub fn check_memory(memory: &Estimate, opened: &OpenedDevice) -> Result<()> {
    match opened.memory_bytes {
        Some(there) if memory.at_least() > there => Err(Error::out_of_memory(format!(
            "the run does not fit into the memory of {}",
            opened.name
        ))
        .because(format!(
            "weights and optimizer alone need {}, and it has {}",
            bytes(memory.at_least()),
            bytes(there)
        ))
        .hint(format!(
            "{} needs less than full training, a smaller base model too",
            adapters::asked_by()
        ))),
        _ => Ok(()),
    }
}

/// The estimate in one line.
pub fn memory_line(memory: &Estimate, opened: &OpenedDevice) -> String {
    let there = opened.memory_bytes.map_or(String::new(), |there| {
        format!(" ({} of {} on the device)", bytes(memory.on_device()), bytes(there))
    });
    let attention = match memory.attention {
        0 => String::new(),
        count => format!(", attention {}", bytes(count)),
    };
    let offloaded = match memory.offloaded {
        0 => String::new(),
        count => format!(" ({} more in host memory)", bytes(count)),
    };
    let teacher = match (memory.resident_teacher, memory.teacher) {
        (0, 0) => String::new(),
        (0, count) => format!("teacher {} more before that, ", bytes(count)),
        (weights, 0) => format!("teacher {}, ", bytes(weights)),
        (weights, count) => {
            format!("teacher {}, {} more while it is asked, ", bytes(weights), bytes(count))
        }
    };
    let answers = match memory.answers {
        0 => String::new(),
        count => format!("answers {}, ", bytes(count)),
    };
    format!(
        "about {}{there}: {teacher}weights {}, optimizer {}{offloaded}, activations {}{attention}, \
         logits {}, {answers}checkpoint {}, data {}, program {}",
        bytes(memory.total()),
        bytes(memory.weights),
        bytes(memory.optimizer),
        bytes(memory.activations),
        bytes(memory.logits),
        bytes(memory.checkpoint),
        bytes(memory.data),
        bytes(memory.program)
    )
}

/// What to say before a run that may not fit.
pub fn warning(memory: &Estimate, opened: &OpenedDevice) -> Option<String> {
    const LESS: &str =
        "`train.recompute = \"layers\"` or a smaller `train.micro_batch_size` needs less";
    if opened.backend != "flex" {
        let there = opened.memory_bytes?;
        let need = memory.on_device();
        return (need > there).then(|| {
            format!(
                "this run may need {} on the device, which has {}; {LESS}; a step that does not \
                 fit is divided into smaller micro-batches",
                bytes(need),
                bytes(there)
            )
        });
    }
    let free = memory_bytes_available()?;
    (memory.total() > free).then(|| {
        let need = bytes(memory.total());
        format!("this run may need {need}, and {} are free; {LESS}", bytes(free))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::DeviceChoice;
    use crate::device::{self, DeviceLimits};
    use crate::model::fixture::small_llama;
    use crate::settings;
    use crate::snapshots::says;

    fn card(tensor_bytes: u64, memory_bytes: Option<u64>) -> OpenedDevice {
        OpenedDevice {
            backend: "wgpu",
            name: "a card".to_owned(),
            limits: DeviceLimits { tensor_bytes, ..DeviceLimits::NONE },
            memory_bytes,
            ..device::open(DeviceChoice::Cpu, 0).unwrap()
        }
    }

    #[test]
    fn micro_batches_are_divided_until_tensors_fit() {
        let description = small_llama();
        let row = 4 * 256 * 100; // of the gated layer, 100 tokens
        let rows =
            |bytes| micro_batch_split(&description, &card(bytes, None), 8, 100).unwrap().rows;
        assert_eq!((rows(8 * row), rows(8 * row - 1), rows(3 * row)), (None, Some(7), Some(3)));
        let error =
            micro_batch_split(&description, &card(row - 1, None), 8, 100).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[out-of-memory]: a row of 100 tokens is too long for the device: it needs 102.4 kB
  because a card takes no tensors of more than 102.4 kB

hint: another `device.name` may take larger ones; `firebrand devices` lists them

hint: a smaller `data.max_seq_len` needs less
"#]],
        );
        let error = micro_batch_split(&description, &card(4 * 64 * 255, None), 8, 1)
            .unwrap_err()
            .to_string();
        says(
            &error,
            snapbox::str![[r#"
error[out-of-memory]: `model.layers.0.mlp.gate_proj` is too large for the device: it has 65.5 kB
  because a card takes no tensors of more than 65.3 kB

hint: another `device.name` may take larger ones; `firebrand devices` lists them
"#]],
        );
    }

    #[test]
    fn answers_that_are_written_at_once_begin_with_few_prompts() {
        let at_once = |overrides: &[&str]| {
            let overrides: Vec<String> = overrides.iter().map(|it| (*it).to_owned()).collect();
            let path = "configs/quickstart-grpo.toml";
            let loaded = settings::load(path.as_ref(), &overrides).unwrap();
            let opened = device::open(DeviceChoice::Cpu, 0).unwrap();
            let written = answers_written(&loaded.config, &opened);
            (written.texts, written.prompts, written.tokens)
        };
        // Eight answers to each of eight prompts.
        assert_eq!(at_once(&[]), (16, 3, 48));
        assert_eq!(at_once(&["train.micro_batch_size=1"]), (8, 1, 48));
        assert_eq!(at_once(&["grpo.num_generations=2"]), (16, 8, 48));
        assert_eq!(at_once(&["grpo.num_generations=5"]), (16, 5, 48));
    }

    #[test]
    fn what_cannot_fit_is_refused_and_what_may_not_is_told() {
        let memory = Estimate { weights: 600, optimizer: 300, logits: 200, ..Estimate::default() };
        let error = check_memory(&memory, &card(1 << 40, Some(899))).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[out-of-memory]: the run does not fit into the memory of a card
  because weights and optimizer alone need 900 B, and it has 899 B

hint: a `[lora]` section needs less than full training, a smaller base model too
"#]],
        );
        for there in [None, Some(900)] {
            check_memory(&memory, &card(1 << 40, there)).unwrap();
        }
        let warned = warning(&memory, &card(1 << 40, Some(1000))).unwrap();
        says(
            &warned,
            snapbox::str![[
                r#"this run may need 1.1 kB on the device, which has 1.0 kB; `train.recompute = "layers"` or a smaller `train.micro_batch_size` needs less; a step that does not fit is divided into smaller micro-batches"#
            ]],
        );
        assert_eq!(warning(&memory, &card(1 << 40, Some(1100))), None);
        let line = memory_line(&memory, &card(1 << 40, Some(5000)));
        assert!(line.contains("(1.1 kB of 5.0 kB on the device)"), "{line}");
    }

    /// One that is asked before the run counts as far as the run is smaller; of one that stays, the
    /// weights always do.
    #[test]
    fn a_teacher_is_a_part_of_the_memory_when_it_is_there() {
        let run = Estimate { weights: 600, activations: 300, logits: 100, ..Estimate::default() };
        let asked = Estimate { weights: 2000, activations: 500, logits: 50, ..Estimate::default() };
        let before = run.clone().with_teacher(&TeacherMemory::Before(asked.clone()));
        assert_eq!((before.on_device(), before.at_least()), (2550, 600));
        let beside = run.clone().with_teacher(&TeacherMemory::Beside(asked));
        assert_eq!((beside.on_device(), beside.at_least()), (3150, 2600));
        let small = Estimate { weights: 50, ..Estimate::default() };
        let beside = run.with_teacher(&TeacherMemory::Beside(small));
        assert_eq!((beside.on_device(), beside.teacher), (1050, 0));
        let line = memory_line(&beside, &card(1 << 40, None));
        assert!(line.starts_with("about 1.1 kB: teacher 50 B, weights 600 B,"), "{line}");
        let line = memory_line(&before, &card(1 << 40, None));
        assert!(line.contains(": teacher 1.6 kB more before that, weights"), "{line}");
    }
}
