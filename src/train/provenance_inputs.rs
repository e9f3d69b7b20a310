//! What the lock and the lineage say of a run that is prepared.

use std::collections::BTreeMap;
use std::path::Path;

use super::prepare::Prepared;
use crate::artifact::base_record::BaseRecord;
use crate::artifact::lineage::DatasetRecord;
use crate::artifact::stack::gguf_of;
use crate::data;
use crate::error::Result;
use crate::files::{Digest, FileEntry, hash_file};
use crate::hub::DataLock;
use crate::verify::allowlist::InputKind;

impl Prepared<'_> {
    /// What the names of the configuration stand for.
    pub fn lock(&self) -> DataLock {
        let base = self.stack.as_ref().map_or(&self.base, |of| &of.stack.base);
        let mut lock = DataLock { model: base.locked.clone(), data: Vec::new() };
        if let Some(model) = &mut lock.model {
            model.trust = Some(self.base_trust);
        }
        for mut entry in self.corpus.locked() {
            entry.trust = Some(self.approval.of_set(&entry));
            lock.put(entry);
        }
        lock
    }

    /// The base model, for the lineage.
    ///
    /// # Errors
    /// When it does not say what it was unpacked from.
    pub fn base_record(&self) -> Result<BaseRecord> {
        Ok(BaseRecord {
            id: self.base.id.clone(),
            revision: self.base.commit().map(str::to_owned),
            files: self.files_of_base().to_vec(),
            trust: self.base_trust,
            parent: self.parent.clone(),
            gguf: gguf_of(self.stack.as_ref().map(|of| &of.stack), &self.base)?,
        })
    }

    /// The adapters that are merged into it, for the lineage.
    pub fn base_adapter_records(&self) -> Vec<BaseRecord> {
        self.stack.as_ref().map_or_else(Vec::new, |of| of.records.clone())
    }

    /// The data files, for the lineage.
    pub fn dataset_records(&self) -> Vec<DatasetRecord> {
        let record = |file: &data::CorpusFile| DatasetRecord {
            id: file.file.path.clone(),
            uri: file.uri.clone(),
            split: file.role.name().to_owned(),
            format: file.format.clone(),
            rows: file.rows,
            trust: self.approval.reason(InputKind::Dataset, &file.file.sha256),
            file: file.file.clone(),
        };
        self.corpus.files().iter().map(record).collect()
    }

    /// Names and digests of the chat templates.
    pub fn template_records(&self) -> Vec<(String, Digest)> {
        let templates = self.corpus.codec.templates.all();
        templates.map(|template| (template.origin().to_owned(), template.digest())).collect()
    }

    /// The text of a chat template that takes the place of the model's own.
    pub fn own_template(&self) -> Option<&str> {
        self.config.data.chat_template.as_ref()?;
        self.corpus.codec.templates.default.as_ref().map(data::TemplateRenderer::source)
    }

    /// The tokenizer's files, for the lineage: as they were when they were read.
    pub fn tokenizer_files(&self) -> Vec<FileEntry> {
        self.corpus.codec.tokenizer.files().to_vec()
    }

    /// Versions of what computed, for the lineage.
    pub fn versions(&self) -> BTreeMap<String, String> {
        let versions = [
            ("burn", env!("FIREBRAND_BURN")),
            ("cubecl", env!("FIREBRAND_CUBECL")),
            ("firebrand", env!("CARGO_PKG_VERSION")),
            ("rustc", env!("FIREBRAND_RUSTC")),
            ("wgpu", env!("FIREBRAND_WGPU")),
        ];
        versions.map(|(name, version)| (name.to_owned(), version.to_owned())).into()
    }
}

/// The lock beside the configuration.
///
/// # Errors
/// When it cannot be read.
pub(super) fn lock_beside(config: &str) -> Result<Option<FileEntry>> {
    let path = DataLock::path_of(Path::new(config));
    path.is_file().then(|| hash_file(&path, &path.to_string_lossy())).transpose()
}
