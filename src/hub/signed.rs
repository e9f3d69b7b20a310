//! What the signature of a model repository covers: those files are fetched with the model, so that
//! it can be verified where it arrives. Whether the signature holds is for `verify` to say; here it
//! is a list of names from a stranger.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::allow::is_text;
use super::file::RemoteFile;
use crate::error::{Error, ErrorCode, Result, printable};
use crate::event::bytes;
use crate::files::{parse_json, read_hashed};

/// The name of a model's signature.
pub(super) const SIGNATURE: &str = "model.sig";
/// The largest signature that is read; `verify` reads no larger one either.
pub(super) const SIGNATURE_BYTES_MAX: u64 = 64 << 20;
/// The largest file that is fetched only because it is signed: lineages and notes have kilobytes.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// All of them together.
const ALL_BYTES_MAX: u64 = 512 << 20;
/// How many of them.
const FILES_MAX: usize = 10_000;
/// Names that one message shows.
const SHOWN: usize = 5;

/// The files of a repository that its signature covers, beside those that are fetched anyway.
pub(super) struct Covered {
    /// Those to fetch as well.
    pub files: Vec<RemoteFile>,
    /// What is said of those that are not fetched.
    pub notice: Option<String>,
}

/// Compares what a signature covers with what the repository has.
///
/// # Errors
/// Refuses a repository that lacks signed files: nobody could verify what was fetched of it.
pub(super) fn covered(
    signature: &Path,
    tree: &[RemoteFile],
    fetched: &[RemoteFile],
) -> Result<Covered> {
    let (text, _) = read_hashed(signature, SIGNATURE, SIGNATURE_BYTES_MAX)?;
    // What is no signature covers nothing; `verify` says what is wrong with it.
    let names = names(&text).unwrap_or_default();
    let there: BTreeMap<&str, &RemoteFile> =
        tree.iter().map(|file| (file.path.as_str(), file)).collect();
    let lacking: Vec<&str> =
        names.iter().map(String::as_str).filter(|name| !there.contains_key(name)).collect();
    if !lacking.is_empty() {
        let what = match lacking.len() {
            1 => "a file that the repository lacks".to_owned(),
            count => format!("{count} files that the repository lacks"),
        };
        return Err(Error::refused(
            ErrorCode::Signature,
            format!("`{SIGNATURE}` covers {what}: {}", shown(&lacking)),
        )
        .hint(
            "the model cannot be verified; ask its publisher to upload these files, or to \
                   sign what is there",
        ));
    }
    let known: BTreeSet<&str> = fetched.iter().map(|file| file.path.as_str()).collect();
    let (mut files, mut left, mut all) = (Vec::new(), Vec::new(), 0_u64);
    for name in names.iter().map(String::as_str).filter(|name| !known.contains(name)) {
        let file = there[name];
        let fits = file.size <= FILE_BYTES_MAX
            && all.saturating_add(file.size) <= ALL_BYTES_MAX
            && files.len() < FILES_MAX;
        if fits && is_text(name) {
            all += file.size;
            files.push(file.clone());
        } else {
            left.push(name);
        }
    }
    let notice = (!left.is_empty()).then(|| {
        format!(
            "signed, but not fetched: {} (only weights, and text files of up to {}, are)",
            shown(&left),
            bytes(FILE_BYTES_MAX)
        )
    });
    Ok(Covered { files, notice })
}

/// The names of the files in the signed statement of a bundle; `None` if it is none.
fn names(bundle: &[u8]) -> Option<BTreeSet<String>> {
    let bundle = parse_json(bundle).ok()?;
    let payload = STANDARD.decode(bundle["dsseEnvelope"]["payload"].as_str()?).ok()?;
    let statement = parse_json(&payload).ok()?;
    let resources = statement["predicate"]["resources"].as_array()?;
    let name = |file: &Value| file["name"].as_str().map(str::to_owned);
    resources.iter().map(name).collect()
}

/// The first few names, which are a stranger's.
fn shown(names: &[&str]) -> String {
    let first = names.iter().take(SHOWN).map(|name| {
        let short: String = name.chars().take(200).collect();
        format!("`{}`", printable(&short).replace(['\n', '\t'], " "))
    });
    let first = first.collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::snapshots::says;

    fn tree(files: &[(&str, u64)]) -> Vec<RemoteFile> {
        let file = |(path, size): &(&str, u64)| RemoteFile {
            path: (*path).to_owned(),
            size: *size,
            oid: "0".repeat(40),
            sha256: None,
        };
        files.iter().map(file).collect()
    }

    fn bundle(names: &[&str]) -> String {
        let resources: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        let statement = json!({"predicate": {"resources": resources}}).to_string();
        json!({"dsseEnvelope": {"payload": STANDARD.encode(statement)}}).to_string()
    }

    fn asked(text: &str, tree: &[RemoteFile]) -> Result<Covered> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SIGNATURE);
        std::fs::write(&path, text).unwrap();
        covered(&path, tree, &tree[..1])
    }

    #[test]
    fn signed_text_is_fetched_and_the_rest_is_named() {
        let tree = tree(&[
            ("config.json", 2),
            ("lineage.inputs.json", 2),
            ("notes/more.md", 2),
            ("huge.json", FILE_BYTES_MAX + 1),
            ("modeling_own.py", 2),
            ("pytorch_model.bin", 2),
            ("unsigned.json", 2),
        ]);
        let names: Vec<&str> = tree[..6].iter().map(|file| file.path.as_str()).collect();
        let found = asked(&bundle(&names), &tree).unwrap();
        let paths: Vec<&str> = found.files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["lineage.inputs.json", "notes/more.md"]);
        let notice = found.notice.unwrap();
        says(
            &notice,
            snapbox::str![
                "signed, but not fetched: `huge.json`, `modeling_own.py`, `pytorch_model.bin` (only weights, and text files of up to 67.1 MB, are)"
            ],
        );
    }

    #[test]
    fn many_files_are_not_more_bytes_than_a_few() {
        let names: Vec<String> = (0..20).map(|number| format!("{number:02}.json")).collect();
        let mut files = vec![("config.json", 2)];
        files.extend(names.iter().map(|name| (name.as_str(), FILE_BYTES_MAX)));
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let found = asked(&bundle(&names), &tree(&files)).unwrap();
        assert!(found.files.iter().map(|file| file.size).sum::<u64>() <= ALL_BYTES_MAX);
        says(
            found.notice.unwrap(),
            snapbox::str![
                "signed, but not fetched: `08.json`, `09.json`, `10.json`, `11.json`, `12.json` and 7 more (only weights, and text files of up to 67.1 MB, are)"
            ],
        );
    }

    #[test]
    fn what_the_repository_lacks_is_named_whatever_its_name() {
        let tree = tree(&[("config.json", 2)]);
        let mut messages = String::new();
        for name in ["gone.json", "../../etc/passwd", "/etc/passwd", "a\u{1b}[2J\nb", ""] {
            let error = asked(&bundle(&["config.json", name]), &tree).err().unwrap();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[signature]: `model.sig` covers a file that the repository lacks: `gone.json`

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there
error[signature]: `model.sig` covers a file that the repository lacks: `../../etc/passwd`

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there
error[signature]: `model.sig` covers a file that the repository lacks: `/etc/passwd`

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there
error[signature]: `model.sig` covers a file that the repository lacks: `a\u{1b}[2J b`

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there
error[signature]: `model.sig` covers a file that the repository lacks: ``

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there

"#]],
        );
        let names: Vec<String> = (0..9).map(|number| number.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let error = asked(&bundle(&names), &tree).err().unwrap();
        says(
            &error,
            snapbox::str![[r#"
error[signature]: `model.sig` covers 9 files that the repository lacks: `0`, `1`, `2`, `3`, `4` and 4 more

hint: the model cannot be verified; ask its publisher to upload these files, or to sign what is there
"#]],
        );
    }

    #[test]
    fn what_is_no_signature_covers_nothing() {
        let tree = tree(&[("config.json", 2)]);
        let open = json!({"dsseEnvelope": {"payload": "no base64"}}).to_string();
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        for text in ["", "{}", "[1", &open, &deep, &bundle(&[]).replace("==", "")] {
            assert!(asked(text, &tree).unwrap().files.is_empty(), "{text:.40}");
        }
    }
}
