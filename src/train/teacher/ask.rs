//! Asking a teacher: once for all examples of a run, in the order of the data, before the base is
//! loaded. The same examples, teacher and settings find what it said in the cache. One that stays
//! is loaded here, and asked about the validation data.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::file::{TeacherFile, TeacherWriter, key_of, place_of};
use super::resident::ResidentTeacher;
use super::{Teacher, TeacherAnswers};
use crate::data::{Batch, CorpusEntry, Packing, pack};
use crate::device::{self, ComputeConfig};
use crate::engine::teacher_tops;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::event::{Event, Observer, bytes};
use crate::files::{Digest, cache_home};
use crate::model::{self, FrozenWeights, Model};
use crate::train::Prepared;

/// Changes whenever the same teacher would say something else.
const VERSION: u32 = 1;

/// Sees to it that what the teacher says is at hand, where the run learns from one: validation data
/// has it from then on, and rows as they are taken.
///
/// # Errors
/// When the teacher cannot be loaded or asked, or the user wants to stop meanwhile.
pub fn learn_from_teacher(prepared: &mut Prepared, observer: &mut dyn Observer) -> Result<()> {
    let Some(teacher) = &prepared.teacher else { return Ok(()) };
    let vocabulary = teacher.description.outputs().min(prepared.description.outputs());
    if teacher.on_policy.is_some() {
        return stay(prepared, vocabulary, observer);
    }
    let (examples, path) = filed(prepared, teacher, vocabulary)?;
    let file = match TeacherFile::open(&path) {
        Ok(file) => {
            let name = &teacher.config.model;
            observer.on(Event::Note(format!("what {name} says of the data is in the cache")));
            file.used();
            file
        }
        Err(_) => {
            ask(prepared, teacher, (vocabulary, examples), &path, observer)?;
            TeacherFile::open(&path)?
        }
    };
    for batch in &mut prepared.validation {
        file.teach(batch)?;
    }
    if let Some(teacher) = &mut prepared.teacher {
        teacher.answers = TeacherAnswers::Filed(file);
    }
    Ok(())
}

/// Loads the teacher for good, and asks it about the validation data.
fn stay(prepared: &mut Prepared, vocabulary: usize, observer: &mut dyn Observer) -> Result<()> {
    let (chunk, on_gpu) = (prepared.config.train.loss_chunk_tokens, prepared.on_gpu());
    let Some(teacher) = &prepared.teacher else { return Ok(()) };
    observer.on(Event::Doing(format!("loading the teacher {}", teacher.config.model)));
    let model = load(prepared, teacher)?;
    let resident = ResidentTeacher { model, vocabulary, chunk, on_gpu };
    let Prepared { teacher: Some(teacher), validation, .. } = prepared else { return Ok(()) };
    observer.on(Event::Doing("the teacher on the validation data".to_owned()));
    teacher.answers = TeacherAnswers::Resident(Box::new(resident));
    teacher.score(validation)
}

/// How many different examples there are, and where what is said of them is filed: under a digest
/// of all that determines it.
fn filed(prepared: &Prepared, teacher: &Teacher, vocabulary: usize) -> Result<(usize, PathBuf)> {
    let (mut seen, mut all) = (HashSet::new(), Vec::new());
    each_row(prepared, &mut |batch| {
        for (places, targets) in batch.documents_with_targets() {
            let key = key_of(&batch, (&places, &targets));
            if seen.insert(key) {
                all.extend(key.0);
            }
        }
        Ok(())
    })?;
    let determined = json!({
        "version": [VERSION, env!("CARGO_PKG_VERSION")],
        "teacher": teacher.digests().collect::<Vec<_>>(),
        "vocabulary": vocabulary,
        "top_k": teacher.config.top_k,
        "temperature": teacher.config.temperature.to_bits(),
        "device": prepared.opened.class(),
        "arithmetic": prepared.precision.arithmetic.name(),
        "kernels": prepared.config.device.kernels.name(),
        "row": prepared.config.data.max_seq_len,
        "examples": Digest::of(&all),
    });
    let digest = Digest::of(determined.to_string().as_bytes());
    Ok((seen.len(), place_of(&cache_home()?, &digest)))
}

/// Every example in rows of their own order, whatever the run makes of them.
fn each_row(prepared: &Prepared, with: &mut dyn FnMut(Batch) -> Result<()>) -> Result<()> {
    let most = prepared.config.data.max_seq_len;
    let mut rows_of = |entries: &[CorpusEntry]| -> Result<()> {
        let lengths = (0..).zip(entries.iter().map(|entry| entry.example.tokens.len()));
        for row in pack(lengths, most, Packing::InOrder) {
            let row: Vec<&CorpusEntry> =
                row.iter().map(|place| &entries[*place as usize]).collect();
            with(Batch::new(&[row]))?;
        }
        Ok(())
    };
    prepared.corpus.each_block(&mut |entries| rows_of(&entries))?;
    rows_of(&prepared.corpus.validation.entries)
}

/// Loads the teacher, and writes what it says of all examples; then it is gone from memory.
fn ask(
    prepared: &Prepared,
    teacher: &Teacher,
    (vocabulary, examples): (usize, usize),
    path: &Path,
    observer: &mut dyn Observer,
) -> Result<()> {
    let name = &teacher.config.model;
    observer.on(Event::Doing(format!("loading the teacher {name}")));
    let model = load(prepared, teacher)?;
    let count = teacher.config.top_k.min(vocabulary);
    let mut writer = TeacherWriter::new(path, count)?;
    let chunk = prepared.config.train.loss_chunk_tokens;
    let (mut seen, mut targets) = (HashSet::new(), 0);
    each_row(prepared, &mut |batch| {
        if observer.stop_requested().is_some() {
            return Err(Error::interrupted("stopped while the teacher was asked")
                .hint("the same command asks it again, from the beginning"));
        }
        let mut documents = batch.documents_with_targets();
        documents.retain(|(places, targets)| seen.insert(key_of(&batch, (places, targets))));
        if documents.is_empty() {
            return Ok(()); // all of them stand elsewhere, too
        }
        let work = || teacher_tops(&model, &batch, &teacher.config, (vocabulary, chunk));
        let tops = device::guarded(prepared.on_gpu(), "asking the teacher", work)?;
        for (places, of) in documents {
            targets += of.len() as u64;
            writer.push(&key_of(&batch, (&places, &of)), &tops[of])?;
        }
        let done = seen.len();
        observer.on(Event::Doing(format!("the teacher on example {done} of {examples}")));
        Ok(())
    })?;
    writer.commit()?;
    let size = bytes(teacher.file_bytes(targets));
    observer.on(Event::Note(format!(
        "what {name} says of {targets} target tokens is filed in the cache, {size}"
    )));
    Ok(())
}

fn load(prepared: &Prepared, teacher: &Teacher) -> Result<Model> {
    let (kernels, arithmetic) = (prepared.config.device.kernels, prepared.precision.arithmetic);
    let computing = ComputeConfig { kernels, arithmetic, ..prepared.opened.computing() };
    let frozen = FrozenWeights::from(true);
    let device = &prepared.opened.device;
    let path = &teacher.directory.path;
    let loaded = device::guarded(prepared.on_gpu(), "loading the teacher", || {
        let loaded = model::load_for(path, model::Init::Pretrained, device, computing, frozen)?;
        let put = device.sync();
        put.context_code(ErrorCode::Device, "the teacher could not be put on the device")?;
        Ok::<_, Error>(loaded)
    })??;
    teacher.unchanged(&loaded.files)?;
    Ok(loaded.model)
}
