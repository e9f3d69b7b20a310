//! What the lock and the lineage say of a run that is prepared.

use std::collections::BTreeMap;

use super::prepare::Prepared;
use crate::artifact::base_record::BaseRecord;
use crate::artifact::lineage::DatasetRecord;
use crate::data;
use crate::error::Result;
use crate::files::{Digest, FileEntry};
use crate::gguf;
use crate::hub::DataLock;
use crate::verify::allowlist::InputKind;

impl Prepared<'_> {
    /// What the names of the configuration stand for.
    pub fn lock(&self) -> DataLock {
        let mut lock = DataLock { model: self.base.locked.clone(), data: Vec::new() };
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
            files: self.base_files.clone(),
            trust: self.base_trust,
            parent: self.parent.clone(),
            gguf: gguf::source_of(&self.base.path)?,
        })
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
