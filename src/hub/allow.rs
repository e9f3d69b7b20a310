//! What of a model repository is ever fetched: weights as safetensors, and the text beside them.
//!
//! Repositories also hold programs and pickles, which run code when they are opened. Nothing here
//! runs them, and so nothing fetches them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use serde_json::Value;

use super::file::RemoteFile;
use crate::error::{Context, Error, ErrorCode, Result};
use crate::gguf::is_gguf;

/// Files that are wanted by name where they are there.
const WANTED: [&str; 15] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "preprocessor_config.json",
    "processor_config.json",
    "README.md",
    "model.sig",
    INDEX,
];

/// Without these no model can be trained.
const NEEDED: [(&str, &str); 2] = [
    ("config.json", "it tells the shape of the model"),
    ("tokenizer.json", "`tokenizer.model` and other forms of a tokenizer are not read"),
];

const WHOLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// What an adapter has in place of a whole model, by PEFT's names.
pub(super) const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
const ADAPTER_CONFIG: &str = "adapter_config.json";

/// Endings of what is read as text, or looked at as a picture: harmless beside a model.
const TEXTS: [&str; 19] = [
    ".cfg", ".csv", ".gif", ".html", ".jinja", ".jpeg", ".jpg", ".json", ".jsonl", ".md", ".pem",
    ".png", ".rst", ".sig", ".svg", ".toml", ".txt", ".yaml", ".yml",
];

/// Endings of what only people look at.
const NOTES: [&str; 11] =
    [".gif", ".html", ".jpeg", ".jpg", ".log", ".md", ".pdf", ".png", ".rst", ".sig", ".svg"];

/// Endings of formats that run code when they are opened, or may.
const PICKLES: [&str; 8] = [".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".msgpack", ".h5"];

/// The files of a model repository that are fetched: configuration, tokenizer, licence, model card,
/// and `model.safetensors`, all shards, or the weights of an adapter, which needs neither a
/// configuration nor a tokenizer of its own.
///
/// # Errors
/// When the repository has no weights that may be fetched, an incomplete set of shards, or lacks
/// what every model needs.
pub fn model_files(tree: &[RemoteFile]) -> Result<Vec<RemoteFile>> {
    let find = |name: &str| tree.iter().find(|file| file.path == name);
    let weights = match find(WHOLE) {
        Some(whole) => vec![whole.clone()],
        None => shards(tree)?,
    };
    let adapter = find(ADAPTER_WEIGHTS).zip(find(ADAPTER_CONFIG));
    if let (true, Some((weights, config))) = (weights.is_empty(), adapter) {
        return Ok(with_texts(tree, vec![weights.clone(), config.clone()], false));
    }
    if weights.is_empty() {
        return Err(no_weights(tree));
    }
    for (name, why) in NEEDED {
        if find(name).is_none() {
            return Err(Error::model(format!("the repository has no `{name}`"))
                .because(why)
                .hint("choose a repository that has one, or make one with another tool"));
        }
    }
    let sharded = weights[0].path != WHOLE;
    Ok(with_texts(tree, weights, sharded))
}

/// Some files of a repository, and the texts that belong to every model.
fn with_texts(tree: &[RemoteFile], some: Vec<RemoteFile>, sharded: bool) -> Vec<RemoteFile> {
    let wanted = |file: &&RemoteFile| {
        let named = WANTED.contains(&file.path.as_str()) && (sharded || file.path != INDEX);
        named || is_licence(&file.path) || is_named_template(&file.path)
    };
    let mut files: Vec<RemoteFile> = tree.iter().filter(wanted).cloned().collect();
    files.extend(some);
    files.sort_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
    files
}

/// Whether a file may be fetched only because the model's signature covers it.
pub(super) fn is_text(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    TEXTS.iter().any(|end| name.ends_with(end)) || !name.contains('.')
}

/// Whether only people look at a file: no program takes it for a part of the model.
pub fn is_note(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    NOTES.iter().any(|end| name.ends_with(end)) || is_licence(path)
}

/// Whether a model is another one without this file, so that it may not be missing where a
/// signature covers it. Whatever else is signed may not have been fetched.
pub fn is_essential(path: &str) -> bool {
    let named = WANTED.contains(&path) && path != INDEX && !is_note(path);
    named || path == ADAPTER_CONFIG || (path.starts_with("lineage.") && is_text(path))
}

/// Why a model's `config.json` or `tokenizer_config.json` asks for a program of its own, in a
/// sentence; such models cannot be used. One of a family in `known` is computed without it, as
/// transformers does where it has the family and remote code is not trusted.
pub fn needs_own_code(config_json: &Value, known: &[&str]) -> Option<String> {
    let map = config_json.get("auto_map").filter(|map| !map.is_null())?;
    if config_json["model_type"].as_str().is_some_and(|family| known.contains(&family)) {
        return None;
    }
    let code = map
        .as_object()
        .and_then(|map| map.values().find_map(Value::as_str))
        .unwrap_or("a file of its own");
    Some(format!(
        "this model runs a program from its repository (`auto_map` names `{code}`), which is never \
         fetched or run; choose a model of a known family"
    ))
}

/// Refuses a fetched model file that is another format under a harmless name: renamed pickles and
/// archives.
///
/// # Errors
/// Names the format that was found.
pub fn refuse_disguised(path: &Path) -> Result<()> {
    let mut start = Vec::new();
    File::open(path)
        .and_then(|file| file.take(512).read_to_end(&mut start))
        .context_at("cannot read the file", path)?;
    // Eight bytes of length, then JSON; the length may look like anything.
    let is_weights = path.extension().is_some_and(|extension| extension == "safetensors");
    if is_weights && start.get(8) == Some(&b'{') {
        return Ok(());
    }
    let found = match start.as_slice() {
        [0x80, 2..=5, ..] => "a Python pickle, which runs code when it is opened",
        [b'P', b'K', 3, 4, ..] => "a zip archive, such as PyTorch's pickles are",
        [0x89, b'H', b'D', b'F', ..] => "HDF5, which can hold code",
        [b'G', b'G', b'U', b'F', ..] if !is_gguf(path) => "GGUF",
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => "a NumPy array, which can hold a pickle",
        [0x1f, 0x8b, ..] => "a gzip archive",
        text if text.get(257..262) == Some(b"ustar") => "a tar archive",
        _ if is_weights => "something else",
        _ => return Ok(()),
    };
    Err(Error::refused(ErrorCode::Model, "the file is not what its name says")
        .at(path)
        .because(format!("it holds {found}"))
        .hint("do not use this model, and tell its publisher"))
}

/// The one complete set of shards, `model-00001-of-00003.safetensors` and so on; empty when there
/// is none at all.
fn shards(tree: &[RemoteFile]) -> Result<Vec<RemoteFile>> {
    let mut sets: BTreeMap<(&str, usize), BTreeMap<usize, &RemoteFile>> = BTreeMap::new();
    for file in tree {
        if let Some((prefix, number, count)) = shard(&file.path) {
            sets.entry((prefix, count)).or_default().insert(number, file);
        }
    }
    let chosen = match sets.keys().find(|(prefix, _)| *prefix == "model").or(sets.keys().next()) {
        Some(key) => *key,
        None => return Ok(Vec::new()),
    };
    let (set, count) = (&sets[&chosen], chosen.1);
    if !tree.iter().any(|file| file.path == INDEX) {
        return Err(Error::weights(format!("the repository has shards, but no `{INDEX}`"))
            .because("it tells which tensor is in which of them"));
    }
    if let Some(missing) = (1..=count).find(|number| !set.contains_key(number)) {
        return Err(Error::weights(format!("the repository lacks shard {missing} of {count}"))
            .because(format!("`{}` is there", set.values().next().map_or("", |file| &file.path))));
    }
    Ok(set.values().map(|file| (*file).clone()).collect())
}

/// `PREFIX-NUMBER-of-COUNT.safetensors`, not in a folder.
fn shard(path: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = path.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (prefix, number) = rest.rsplit_once('-')?;
    let digits = |text: &str| -> Option<usize> {
        let plain = !text.is_empty() && text.len() <= 6 && text.bytes().all(|b| b.is_ascii_digit());
        if plain { text.parse().ok() } else { None }
    };
    let (number, count) = (digits(number)?, digits(count)?);
    (!path.contains('/') && (1..=count).contains(&number)).then_some((prefix, number, count))
}

/// A chat template for some records, beside the model's own.
fn is_named_template(path: &str) -> bool {
    let name = path.strip_prefix("additional_chat_templates/");
    name.is_some_and(|name| name.ends_with(".jinja") && !name.contains('/'))
}

fn is_licence(path: &str) -> bool {
    let begins = path.starts_with("LICENSE") || path.starts_with("LICENCE");
    let text = [".txt", ".md"].iter().any(|end| path.ends_with(end)) || !path.contains('.');
    begins && text && !path.contains('/')
}

fn no_weights(tree: &[RemoteFile]) -> Error {
    let some = |endings: &[&str]| {
        tree.iter()
            .find(|file| endings.iter().any(|end| file.path.ends_with(end)))
            .map(|file| file.path.as_str())
    };
    if let Some(adapter) = some(&[ADAPTER_WEIGHTS]) {
        return Error::adapter("the repository holds an adapter that is not complete at its root")
            .because(format!("its weights are `{adapter}`"))
            .hint(format!(
                "`{ADAPTER_WEIGHTS}` and `{ADAPTER_CONFIG}` must lie beside each other at the \
                 root: download the folder that has them, and name it"
            ));
    }
    if let Some(other) = some(&[".safetensors"]) {
        return Error::weights(format!("the repository has no `{WHOLE}` and no shards of one"))
            .because(format!("`{other}` does not hold the weights of a language model"))
            .hint("choose another repository or revision");
    }
    if let Some(pickle) = some(&PICKLES) {
        return Error::weights("the repository has its weights only as pickles")
            .because(format!("`{pickle}` can run code when it is opened, so it is never fetched"))
            .hint(
                "look for a revision or a repository with safetensors (many have one at \
                 `refs/pr/1`), or convert it where you trust it",
            );
    }
    if let Some(gguf) = some(&[".gguf"]) {
        return Error::model("the repository has its weights only as GGUF")
            .because(format!("`{gguf}` is one of its files"))
            .hint(
                "name the file, as in `owner/name/file.gguf`, or the repository it was made from",
            );
    }
    Error::weights("the repository has no weights").because(format!("it has {} files", tree.len()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::says;

    fn tree(paths: &[&str]) -> Vec<RemoteFile> {
        let file = |path: &&str| RemoteFile {
            path: (*path).to_owned(),
            size: 1,
            oid: "0".repeat(40),
            sha256: None,
        };
        paths.iter().map(file).collect()
    }

    fn chosen(paths: &[&str]) -> Result<Vec<String>> {
        let mut all = vec!["config.json", "tokenizer.json"];
        all.extend(paths);
        let files = model_files(&tree(&all))?;
        let extra = |path: &String| !["config.json", "tokenizer.json"].contains(&path.as_str());
        Ok(files.into_iter().map(|file| file.path).filter(extra).collect())
    }

    #[test]
    fn only_weights_and_text_are_fetched() {
        let found = chosen(&[
            ".gitattributes",
            "LICENSE",
            "LICENSE.pkl",
            "README.md",
            "merges.txt",
            "model.safetensors",
            "modeling_own.py",
            "onnx/model.onnx",
            "optimizer.pt",
            "original/consolidated.00.pth",
            "original/model.safetensors",
            "pytorch_model.bin",
            "training_args.bin",
            "vocab.json",
            "vocab.pkl",
        ]);
        let expected = ["LICENSE", "README.md", "merges.txt", "model.safetensors", "vocab.json"];
        assert_eq!(found.unwrap(), expected);
    }

    #[test]
    fn one_whole_file_is_preferred_to_shards_and_shards_must_be_complete() {
        let (one, two) = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors");
        assert_eq!(chosen(&[INDEX, one, two]).unwrap(), [one, two, INDEX]);
        assert_eq!(chosen(&[INDEX, one, two, WHOLE]).unwrap(), [WHOLE]);
        let error = chosen(&[INDEX, one]).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[weights]: the repository lacks shard 2 of 2
  because `model-00001-of-00002.safetensors` is there
"#]],
        );
        says(
            chosen(&[one, two]).unwrap_err(),
            snapbox::str![[r#"
error[weights]: the repository has shards, but no `model.safetensors.index.json`
  because it tells which tensor is in which of them
"#]],
        );
        assert!(chosen(&[INDEX]).is_err());
    }

    #[test]
    fn what_cannot_be_used_is_said_before_it_is_fetched() {
        let mut messages = String::new();
        for paths in [
            vec!["pytorch_model.bin"],
            vec!["adapter_model.safetensors"],
            vec!["unet.safetensors"],
            vec!["model.Q4.gguf"],
            vec![],
        ] {
            let error = chosen(&paths).unwrap_err().to_string();
            messages += &format!("{error}\n");
        }
        says(
            messages,
            snapbox::str![[r#"
error[weights]: the repository has its weights only as pickles
  because `pytorch_model.bin` can run code when it is opened, so it is never fetched

hint: look for a revision or a repository with safetensors (many have one at `refs/pr/1`), or convert it where you trust it
error[adapter]: the repository holds an adapter that is not complete at its root
  because its weights are `adapter_model.safetensors`

hint: `adapter_model.safetensors` and `adapter_config.json` must lie beside each other at the root: download the folder that has them, and name it
error[weights]: the repository has no `model.safetensors` and no shards of one
  because `unet.safetensors` does not hold the weights of a language model

hint: choose another repository or revision
error[model]: the repository has its weights only as GGUF
  because `model.Q4.gguf` is one of its files

hint: name the file, as in `owner/name/file.gguf`, or the repository it was made from
error[weights]: the repository has no weights
  because it has 2 files

"#]],
        );
        let error = model_files(&tree(&["config.json", WHOLE])).unwrap_err().to_string();
        says(
            &error,
            snapbox::str![[r#"
error[model]: the repository has no `tokenizer.json`
  because `tokenizer.model` and other forms of a tokenizer are not read

hint: choose a repository that has one, or make one with another tool
"#]],
        );
    }

    #[test]
    fn what_a_signed_file_is_goes_by_its_name() {
        for (path, text, note, essential) in [
            ("config.json", true, false, true),
            ("chat_template.jinja", true, false, true),
            ("lineage.statement.json", true, false, true),
            ("README.md", true, true, false),
            ("LICENSE", true, true, false),
            ("docs/picture.png", true, true, false),
            ("model.safetensors.index.json", true, false, false),
            ("other/config.json", true, false, false),
            ("model.safetensors", false, false, false),
            ("modeling_own.py", false, false, false),
            ("weights.bin", false, false, false),
            ("archive.tar.gz", false, false, false),
        ] {
            let found = (is_text(path), is_note(path), is_essential(path));
            assert_eq!(found, (text, note, essential), "{path}");
        }
    }

    #[test]
    fn models_with_a_program_are_told() {
        let own = serde_json::json!({"auto_map": {"AutoModel": "modeling_own.OwnModel"}});
        says(
            needs_own_code(&own, &["phi3"]).unwrap(),
            snapbox::str![
                "this model runs a program from its repository (`auto_map` names `modeling_own.OwnModel`), which is never fetched or run; choose a model of a known family"
            ],
        );
        let tokenizer = serde_json::json!({"auto_map": {"AutoTokenizer": ["a.B", null]}});
        assert!(needs_own_code(&tokenizer, &["phi3"]).is_some());
        let mut of_family = own.clone();
        of_family["model_type"] = "phi3".into();
        assert_eq!(needs_own_code(&of_family, &["phi3"]), None);
        assert!(needs_own_code(&of_family, &["llama"]).is_some());
        assert_eq!(needs_own_code(&serde_json::json!({"model_type": "llama"}), &[]), None);
    }

    #[test]
    fn renamed_pickles_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let refused = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            refuse_disguised(&path).is_err()
        };
        let mut tar = vec![b'a'; 512];
        tar[257..262].copy_from_slice(b"ustar");
        for bytes in [b"\x80\x02}q".as_slice(), b"PK\x03\x04", b"\x1f\x8b\x08", b"GGUF", &tar] {
            assert!(refused("model.safetensors", bytes), "{bytes:?}");
            assert!(refused("tokenizer.json", bytes), "{bytes:?}");
        }
        // A header of 640 bytes begins like a pickle.
        assert!(!refused("model.safetensors", b"\x80\x02\0\0\0\0\0\0{\"a\":"));
        assert!(refused("model.safetensors", b"hello"));
        assert!(!refused("config.json", b"{}") && !refused("README.md", b""));
    }
}
