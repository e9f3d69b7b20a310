//! Large files on their way to the store of a hub, through git-LFS: whole, or in parts of a size.
//! The batch API of git-LFS, with the multipart transfer of the Hugging Face hub.

use serde_json::{Value, json};

use super::client::Hub;
use super::header_text::header;
use super::http::{Answer, Call, Sent};
use super::upload_call::{Upload, refused};
use super::url::Url;
use crate::error::{Error, Result};
use crate::files::FileEntry;

/// Files of one question, as `huggingface_hub` asks.
pub(super) const FILES_AT_ONCE: usize = 256;
const LFS: &str = "application/vnd.git-lfs+json";

impl Hub {
    /// Sends what the store of large files does not have.
    pub(super) fn send_large(&self, upload: &Upload, files: &[&FileEntry]) -> Result<()> {
        for files in files.chunks(FILES_AT_ONCE) {
            let objects: Vec<Value> = files
                .iter()
                .map(|file| json!({"oid": file.sha256.to_string(), "size": file.size}))
                .collect();
            let asked = json!({
                "operation": "upload",
                "transfers": ["basic", "multipart"],
                "objects": objects,
                "hash_algo": "sha256",
                "ref": {"name": upload.branch},
            });
            let path = format!("{}.git/info/lfs/objects/batch", upload.repo);
            let mut call = self.call(&path, LFS)?;
            call.headers.push(("Accept".to_owned(), LFS.to_owned()));
            let body = Sent::Text(asked.to_string().into_bytes());
            let answer = self.answered(upload, &call, &body, "the list of large files")?;
            for file in files {
                self.send_object(upload, file, &answer)?;
            }
        }
        Ok(())
    }

    /// Sends one object as the store says.
    fn send_object(&self, upload: &Upload, file: &FileEntry, answer: &Value) -> Result<()> {
        let oid = file.sha256.to_string();
        let unusable =
            |why: &str| Error::hub(format!("the hub does not take `{}`", file.path)).because(why);
        let objects = answer["objects"].as_array().into_iter().flatten();
        let object = objects.clone().find(|object| object["oid"].as_str() == Some(&oid));
        let object = object.ok_or_else(|| unusable("its answer does not name the file"))?;
        if let Some(error) = object["error"]["message"].as_str() {
            return Err(unusable(error));
        }
        let upload_action = &object["actions"]["upload"];
        let Some(href) = upload_action["href"].as_str() else {
            (upload.progress)(&file.path, file.size, file.size);
            return Ok(()); // it is there
        };
        let (href, header) = (Url::parse(href)?, &upload_action["header"]);
        (upload.progress)(&file.path, file.size, 0);
        match whole(&header["chunk_size"]) {
            None => self.put(upload, file, href, (0, file.size), header).map(drop)?,
            Some(size) => self.send_parts(upload, file, href, (size, header))?,
        }
        (upload.progress)(&file.path, file.size, file.size);
        if let Some(href) = object["actions"]["verify"]["href"].as_str() {
            let call = Call {
                url: Url::parse(href)?,
                puts: false,
                with_token: true,
                headers: vec![("Content-Type".to_owned(), LFS.to_owned())],
            };
            let body = json!({"oid": oid, "size": file.size}).to_string().into_bytes();
            let sent = self.tried(|| self.client.send(&call, &Sent::Text(body.clone())));
            sent.map_err(|end| refused(upload, end, &format!("`{}`", file.path)))?;
        }
        Ok(())
    }

    /// Sends an object in parts of a size, each to an address of its own.
    fn send_parts(
        &self,
        upload: &Upload,
        file: &FileEntry,
        complete: Url,
        (size, header): (u64, &Value),
    ) -> Result<()> {
        let numbered = header.as_object().into_iter().flatten().filter_map(|(name, href)| {
            let number = name.bytes().all(|c| c.is_ascii_digit()).then(|| name.parse().ok())??;
            Some((number, href.as_str()?))
        });
        let mut numbered: Vec<(u64, &str)> = numbered.collect();
        numbered.sort_unstable();
        if size == 0 || numbered.len() as u64 != file.size.div_ceil(size) {
            return Err(Error::hub(format!("the hub does not take `{}`", file.path))
                .because("the parts that it asks for are not those of the file"));
        }
        let mut parts = Vec::with_capacity(numbered.len());
        for (number, (_, href)) in (1_u64..).zip(numbered) {
            let from = (number - 1) * size;
            let length = size.min(file.size - from);
            let answer = self.put(upload, file, Url::parse(href)?, (from, length), &Value::Null)?;
            let etag = header_of(&answer, "etag").ok_or_else(|| {
                Error::hub(format!("a part of `{}` was not taken", file.path))
                    .because("the store gave no `ETag` for it")
            })?;
            parts.push(json!({"partNumber": number, "etag": etag}));
            (upload.progress)(&file.path, file.size, from + length);
        }
        let call = Call {
            url: complete,
            puts: false,
            with_token: false, // its address carries what it needs
            headers: vec![
                ("Accept".to_owned(), LFS.to_owned()),
                ("Content-Type".to_owned(), LFS.to_owned()),
            ],
        };
        let body = json!({"oid": file.sha256.to_string(), "parts": parts}).to_string();
        let sent = self.tried(|| self.client.send(&call, &Sent::Text(body.clone().into_bytes())));
        sent.map(drop).map_err(|end| refused(upload, end, &format!("`{}`", file.path)))
    }

    /// Puts a part of a file at an address.
    fn put(
        &self,
        upload: &Upload,
        file: &FileEntry,
        url: Url,
        (from, length): (u64, u64),
        header: &Value,
    ) -> Result<Answer> {
        let named = header.as_object().into_iter().flatten();
        let headers =
            named.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into())));
        let call = Call { url, puts: true, with_token: false, headers: headers.collect() };
        let path = upload.folder.join(&file.path);
        let body = Sent::File { path: &path, from, length };
        let sent = self.tried(|| self.client.send(&call, &body));
        sent.map_err(|end| refused(upload, end, &format!("`{}`", file.path)))
    }
}

/// The hub writes numbers as text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn header_of(answer: &Answer, name: &str) -> Option<String> {
    header(&answer.headers, name).filter(|text| !text.is_empty()).map(str::to_owned)
}
