//! Steps of another run become the beginning of this one.

use std::path::Path;

use super::manifest::Manifest;
use super::seal::{scratch_for, seal};
use super::step_cache::{CachedSteps, METRICS};
use super::{History, HistoryEntry, HistoryEvent, RunState, folder_name, line};
use crate::error::Result;
use crate::event::{Evaluation, EvaluationLine, StepReport};
use crate::files::{
    Digest, FileEntry, NewFile, failed, link_or_copy, rename_new, sync_dir, write_atomic,
};

/// The metrics of steps and of the validations among them, as a run writes them.
fn lines_of(reports: &[StepReport], evaluations: &[Evaluation], every: u64) -> Result<Vec<u8>> {
    let judged = |step: u64| {
        let all = evaluations.iter().filter(move |found| found.step == step && found.is_due(every));
        all.map(|found| line(&EvaluationLine::from(found)))
    };
    let mut lines: Vec<Vec<u8>> = judged(0).collect::<Result<_>>()?;
    for report in reports {
        lines.push(line(report)?);
        lines.extend(judged(report.step).collect::<Result<Vec<_>>>()?);
    }
    Ok(lines.concat())
}

impl CachedSteps {
    /// Makes the steps the beginning of a run: its metrics, and a checkpoint with this state.
    /// Where they come from is noted before the checkpoint can be seen.
    /// `every` is `eval.every_steps`.
    pub fn adopt(
        &self,
        root: &Path,
        reports: &[StepReport],
        every: u64,
        mut state: RunState,
    ) -> Result<()> {
        let lines = lines_of(reports, &state.evaluations, every)?;
        state.metrics_bytes = lines.len() as u64;
        state.metrics_sha256 = Some(Digest::of(&lines));
        write_atomic(&root.join(METRICS), &lines)?;
        let scratch = scratch_for(root, &folder_name(state.step))?;
        let tensors = |file: &FileEntry| file.path.ends_with(".safetensors");
        let manifest = Manifest::verify(&self.found.folder);
        let manifest = manifest.map_err(super::Unusable::into_error)?;
        let files: Vec<FileEntry> = manifest.files.into_iter().filter(tensors).collect();
        for file in &files {
            let path = scratch.join(&file.path);
            link_or_copy(&self.found.folder.join(&file.path), &path)?;
            // Whoever wrote it did not wait for the disk.
            let synced = NewFile::open(&path).and_then(|file| file.sync());
            synced.map_err(|error| failed("cannot write the file", &path, &error))?;
        }
        seal(&scratch, files, &state)?;
        let (from, manifest) = (Some(self.from.clone()), Some(self.manifest));
        History::of(root).note(&HistoryEntry {
            from,
            manifest,
            ..HistoryEntry::new(HistoryEvent::Reused, state.step)
        })?;
        rename_new(&scratch, &root.join(folder_name(state.step)))?;
        sync_dir(root)
    }
}
