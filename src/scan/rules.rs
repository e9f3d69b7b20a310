//! Everything that a scan can say: one rule each, with a name that never changes.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing, and usual.
    Note,
    /// Does no harm by itself, but has no place in a model or misleads its readers.
    Warning,
    /// May run code, exhaust memory or time, reach outside its folder, or is not what it is called.
    Danger,
}

impl Severity {
    /// What it is called on screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Danger => "danger",
        }
    }

    /// What SARIF calls it.
    pub fn level(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Danger => "error",
        }
    }
}

/// One thing that is looked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name for programs; stable.
    pub id: &'static str,
    /// How bad a finding is.
    pub severity: Severity,
    /// What a finding means, in a sentence.
    pub about: &'static str,
    /// What the user can do.
    pub advice: &'static str,
}

macro_rules! rules {
    ($($name:ident, $id:literal, $severity:ident, $about:literal, $advice:literal;)*) => {
        $(
            #[doc = $about]
            pub static $name: Rule = Rule {
                id: $id,
                severity: Severity::$severity,
                about: $about,
                advice: $advice,
            };
        )*
        /// Every rule, in the order in which SARIF lists them.
        pub static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    PICKLE, "pickle", Danger,
        "A Python pickle, under whatever name, runs code when it is opened.",
        "do not load it; get the weights as safetensors";
    JOBLIB, "joblib", Danger,
        "A joblib file is a pickle and runs code when it is opened.",
        "do not load it; get the weights as safetensors";
    EMBEDDED_PICKLE, "embedded-pickle", Danger,
        "A pickle that imports and calls something lies inside a file of another kind.",
        "do not load this file, and tell its publisher";
    APPENDED_ARCHIVE, "appended-archive", Danger,
        "A zip archive lies behind other content, so that two readers see two different files.",
        "do not load this file, and tell its publisher";
    DISGUISED, "disguised", Danger,
        "The content is of another kind than the name says.",
        "do not load this file, and tell its publisher";
    EXECUTABLE, "executable", Danger,
        "A program for a machine or a virtual machine has no place in a model.",
        "remove it";
    MODEL_CODE, "model-code", Danger,
        "Python code that loaders run where the user trusts remote code.",
        "do not load the model with `trust_remote_code`; choose a model of a known family";
    REMOTE_CODE, "remote-code", Danger,
        "A configuration asks for code from the model's own files.",
        "do not load the model with `trust_remote_code`; choose a model of a known family";
    KERAS_LAMBDA, "keras-lambda", Danger,
        "A Keras Lambda layer holds Python bytecode, which runs when the model is used.",
        "do not load the model; rebuild it without Lambda layers where you trust it";
    NUMPY_OBJECT, "numpy-object", Danger,
        "A NumPy array of objects is a pickle and runs code when it is opened.",
        "do not load it with `allow_pickle`; get the data in another form";
    SAFETENSORS, "safetensors", Danger,
        "A safetensors header breaks the format, or readers disagree on what it says.",
        "do not load this file; get it again from where it was published";
    TEMPLATE_BOMB, "template-bomb", Danger,
        "A chat template runs for too long, too deep, or fills the memory.",
        "do not use this template; give one of your own as `data.chat_template`";
    TEMPLATE_ESCAPE, "template-escape", Danger,
        "A chat template reaches for the insides of Python, to get out of its sandbox.",
        "do not use this model, and tell its publisher";
    TOKENIZER_BOMB, "tokenizer-bomb", Danger,
        "A tokenizer takes too much memory or time, or makes its library fail.",
        "do not use this tokenizer; compare it with that of the model's publisher";
    ARCHIVE_BOMB, "archive-bomb", Danger,
        "An archive unpacks to much more than it holds.",
        "do not unpack it";
    PATH_TRICK, "path-trick", Danger,
        "A name inside a file leads to another folder, or is another name on other systems.",
        "do not unpack or load it, and tell its publisher";
    FILE_NAME, "file-name", Danger,
        "A file name has characters that hide what it is, or is another name on other systems.",
        "rename it, if you know what it is";
    SYMLINK, "symlink", Danger,
        "A symbolic link shows a file that lies elsewhere; it was not followed.",
        "replace it by a copy of the file that it should show";
    SPECIAL_FILE, "special-file", Danger,
        "A pipe, socket or device is not part of a model; it was not opened.",
        "remove it";
    ARCHIVE, "archive", Warning,
        "Archives and compressed files hide their contents from those who look only at names.",
        "unpack it where that can do no harm, and scan what comes out";
    HDF5, "hdf5", Warning,
        "HDF5 files can hold code of Keras models.",
        "get the weights as safetensors";
    PYTHON, "python-source", Warning,
        "Python code lies beside the model; no loader that is safe runs it.",
        "read it before you run it, or remove it";
    SCRIPT, "script", Warning,
        "A script for a shell or another interpreter lies beside the model.",
        "read it before you run it, or remove it";
    SAFETENSORS_FORMAT, "safetensors-format", Warning,
        "The metadata of a safetensors file lacks a `format`, and common loaders refuse that.",
        "write it again with metadata such as `format: pt`";
    TEMPLATE_INVALID, "template-invalid", Warning,
        "A chat template is not valid, or fails on plain conversations.",
        "give another one as `data.chat_template`";
    TOKENIZER_SIZE, "tokenizer-size", Warning,
        "The tokenizer has ids beyond the model's embedding.",
        "check that tokenizer.json and config.json belong together";
    TOKENIZER_IDS, "tokenizer-ids", Warning,
        "Two texts share one token id, or one text has two.",
        "compare the tokenizer with that of the model's publisher";
    JSON_TWICE, "json-duplicate-key", Warning,
        "A key appears twice in one JSON object, and readers disagree on which one counts.",
        "get the file again, or remove one of the two";
    MISSING_FILE, "missing-file", Warning,
        "An index of shards names a file that is not here.",
        "get the missing file";
    UNREAD, "unread", Warning,
        "Something could not be looked into, so its contents are unknown.",
        "look into it with other tools before you use it";
    HIDDEN_FILE, "hidden-file", Note,
        "A hidden file or folder, which most listings leave out.",
        "remove it, if you do not know what it is for";
    NUMPY, "numpy", Note,
        "A NumPy array of plain numbers.",
        "nothing, if you expected it";
    GGUF, "gguf", Note,
        "A GGUF model, for inference only; its chat template was not looked at.",
        "nothing, if you expected it";
}
