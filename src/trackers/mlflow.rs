//! A file store of MLflow (`mlflow/store/tracking/file_store.py`): folders of an experiment with
//! one run, a file a metric with a line a step, a file a setting.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::point::Point;
use super::{Tracker, TrackerEntry};
use crate::config::settings_of_run;
use crate::error::{Context, Result};
use crate::files::{Digest, remove_dir, write_atomic};

const FOLDER: &str = "mlruns";
/// The experiment; MLflow makes the first one under this number.
const EXPERIMENT: &str = "0";
/// Values of settings may have so many letters there.
const VALUE_LETTERS_MAX: usize = 6000;
const FAILED: &str = "cannot write the file store";

/// Numbers of `RunStatus` (`mlflow/protos/service.proto`).
#[derive(Clone, Copy)]
enum RunStatus {
    Running = 1,
    Finished = 3,
}

pub struct Entry;

impl TrackerEntry for Entry {
    fn name(&self) -> &'static str {
        "mlflow"
    }

    fn place(&self) -> &'static str {
        "mlruns/"
    }

    fn begin(&self, run: &Path) -> Result<Box<dyn Tracker>> {
        let full = std::fs::canonicalize(run).context_at(FAILED, run)?;
        let name = full.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // The same run has the same number, however often it goes on.
        let id = Digest::of(name.as_bytes()).to_string()[..32].to_owned();
        let experiment = full.join(FOLDER).join(EXPERIMENT);
        let folder = experiment.join(&id);
        if folder.exists() {
            remove_dir(&folder)?;
        }
        let store = FileStore { folder, id, name, begun: now(), metrics: BTreeMap::new() };
        store.put("params", settings_of_run(run).unwrap_or_default())?;
        let tags = [
            ("mlflow.runName", store.name.clone()),
            ("mlflow.source.name", "firebrand".to_owned()),
        ];
        store.put("tags", tags.map(|(name, value)| (name.to_owned(), value)).into())?;
        // Without them, a folder is not that of a run to MLflow.
        for name in ["metrics", "artifacts"] {
            let folder = store.folder.join(name);
            std::fs::create_dir_all(&folder).context_at(FAILED, &folder)?;
        }
        store.write_status(RunStatus::Running)?;
        store.write_experiment(&experiment)?;
        Ok(Box::new(store))
    }
}

/// Milliseconds since 1970.
fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()
}

struct FileStore {
    folder: PathBuf,
    id: String,
    name: String,
    begun: u128,
    metrics: BTreeMap<String, BufWriter<File>>,
}

impl FileStore {
    /// A file for each name, with its value.
    fn put(&self, kind: &str, values: BTreeMap<String, String>) -> Result<()> {
        let folder = self.folder.join(kind);
        std::fs::create_dir_all(&folder).context_at(FAILED, &folder)?;
        for (name, value) in values {
            let value: String = value.chars().take(VALUE_LETTERS_MAX).collect();
            std::fs::write(folder.join(&name), value).context_at(FAILED, folder.join(name))?;
        }
        Ok(())
    }

    fn write_experiment(&self, folder: &Path) -> Result<()> {
        let (time, place) = (self.begun, uri(folder));
        let text = format!(
            "artifact_location: {place}\ncreation_time: {time}\nexperiment_id: \"{EXPERIMENT}\"\n\
             last_update_time: {time}\nlifecycle_stage: active\nname: Default\n"
        );
        write_atomic(&folder.join("meta.yaml"), text.as_bytes())
    }

    fn write_status(&self, status: RunStatus) -> Result<()> {
        let (id, name, begun) = (&self.id, yaml(&self.name), self.begun);
        let end = match status {
            RunStatus::Running => "null".to_owned(),
            RunStatus::Finished => now().to_string(),
        };
        let place = uri(&self.folder.join("artifacts"));
        let text = format!(
            "artifact_uri: {place}\nend_time: {end}\nentry_point_name: \"\"\n\
             experiment_id: \"{EXPERIMENT}\"\nlifecycle_stage: active\nrun_id: {id}\n\
             run_name: {name}\nsource_name: \"\"\nsource_type: 4\nsource_version: \"\"\n\
             start_time: {begun}\nstatus: {}\ntags: []\nuser_id: \"\"\n",
            status as u8
        );
        write_atomic(&self.folder.join("meta.yaml"), text.as_bytes())
    }
}

/// A text as YAML has it: a string of JSON is one.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn uri(path: &Path) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-~:".contains(&byte);
    let path = path.to_string_lossy().replace('\\', "/");
    let path: String = path
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    let root = if path.starts_with('/') { "" } else { "/" };
    format!("file://{root}{path}")
}

impl Tracker for FileStore {
    fn add(&mut self, point: &Point) -> Result<()> {
        for (name, value) in &point.values {
            let path = self.folder.join("metrics").join(name);
            if !self.metrics.contains_key(name) {
                let folder = path.parent().unwrap_or(&self.folder);
                std::fs::create_dir_all(folder).context_at(FAILED, folder)?;
                let file = OpenOptions::new().create(true).append(true).open(&path);
                let file = BufWriter::new(file.context_at(FAILED, &path)?);
                self.metrics.insert(name.clone(), file);
            }
            if let Some(file) = self.metrics.get_mut(name) {
                writeln!(file, "{} {value} {}", now(), point.step).context_at(FAILED, &path)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut files = self.metrics.iter_mut();
        files.try_for_each(|(name, file)| file.flush().context_at(FAILED, Path::new(name)))
    }

    fn end(&mut self, finished: bool) -> Result<()> {
        self.flush()?;
        if finished { self.write_status(RunStatus::Finished) } else { Ok(()) }
    }
}
