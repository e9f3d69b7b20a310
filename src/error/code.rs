//! What kinds of error there are: a name for each that programs may rely on.

/// Declares the codes: the constructor, the name, and what it means, which `docs/errors.md` says.
macro_rules! codes {
    ($($variant:ident, $constructor:ident, $name:literal, $meaning:literal;)+) => {
        /// What kind of error it is. Names stay as they are: scripts and dashboards know them.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum ErrorCode { $(#[doc = $meaning] $variant,)+ }

        impl ErrorCode {
            /// Every code, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name, which never changes.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// The code of this name; that of errors which are none of the others for a name that
            /// a newer version gave.
            pub fn from_name(name: &str) -> Self {
                match name { $($name => Self::$variant,)+ _ => Self::Other }
            }

            /// What it means, in a sentence.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => $meaning,)+ }
            }
        }

        impl super::Error {
            $(
                #[doc = $meaning]
                pub fn $constructor(what: impl Into<String>) -> Self {
                    Self::new(ErrorCode::$variant, what)
                }
            )+
        }
    };
}

codes! {
    Usage, usage, "usage",
        "Arguments or environment variables do not fit each other or what is there.";
    Config, config, "config",
        "A TOML file that you write, or a `--set`, is not valid.";
    File, file, "file",
        "A file or folder cannot be read or written, or is not what it should be.";
    Changed, changed, "file-changed",
        "A file changed while it was used.";
    Exists, exists, "exists",
        "Something is in the place of what would be written.";
    DiskFull, disk_full, "disk-full",
        "The disk has no room left, or takes no writes any more.";
    Data, data, "data",
        "A data set or a record of it cannot be used.";
    Pairs, pairs, "pairs",
        "The records are pairs of answers, and the objective does not learn from them.";
    Template, template, "template",
        "The chat template is not valid, or fails.";
    TemplateLimit, template_limit, "template-limit",
        "The chat template takes more time or memory than is allowed, or ends its process.";
    Tokenizer, tokenizer, "tokenizer",
        "The tokenizer cannot be used.";
    Model, model, "model",
        "The model is not one that can be used here.";
    Weights, weights, "weights",
        "Weights are missing, damaged, or not those of the model.";
    Adapter, adapter, "adapter",
        "An adapter cannot be used, or not with this model.";
    Hub, hub, "hub",
        "The hub does not have what is asked for, or what it sends cannot be used.";
    Access, access, "hub-access",
        "The hub does not let you read or write it: a token, its rights, or terms to accept.";
    Network, network, "network",
        "The network fails; trying again later may help.";
    Store, store, "store",
        "A shared store lacks or refuses what is asked for, or what it holds cannot be used.";
    Offline, offline, "offline",
        "The network may not be used, and the cache does not have it.";
    Lock, lock, "lock",
        "The lock cannot be used, or is missing.";
    LockDrift, lock_drift, "lock-drift",
        "Something is not what the lock says, and `--locked` demands it.";
    Device, device, "device",
        "The device is not there, or failed.";
    OutOfMemory, out_of_memory, "out-of-memory",
        "The device or the machine has not enough memory.";
    Run, run, "run",
        "The folder is no run, or not one that can be used so.";
    AlreadyRunning, already_running, "already-running",
        "Another process is at work there.";
    Checkpoint, checkpoint, "checkpoint",
        "A checkpoint cannot be used.";
    RunChanged, run_changed, "run-changed",
        "The run is not what it was at its checkpoint.";
    NotFinite, not_finite, "not-finite",
        "A loss, score or logit is infinite or not a number.";
    Interrupted, interrupted, "interrupted",
        "It was told to stop.";
    Key, key, "key",
        "A key, certificate or password cannot be used.";
    Signature, signature, "signature",
        "A signature is missing, damaged, or does not hold.";
    Untrusted, untrusted, "untrusted",
        "Nobody whom you trust vouches for it.";
    Lineage, lineage, "lineage",
        "The lineage of a model is missing, damaged, or about another.";
    Export, export, "export",
        "The model cannot be written in this format.";
    Evaluation, evaluation, "evaluation",
        "A model cannot be evaluated, or its numbers not compared.";
    Channel, channel, "channel",
        "A channel or its pointers do not allow it.";
    Gate, gate, "gate",
        "The gate's verdict does not allow it.";
    OutputClosed, output_closed, "output-closed",
        "The reader of the output closed it; the program ends with exit code 0.";
    Internal, internal, "internal",
        "The program itself failed: nothing that it was given should lead to this.";
    Other, other, "other",
        "None of these: an error of a newer version, as a report of its holds it.";
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl serde::Serialize for ErrorCode {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> serde::Deserialize<'de> for ErrorCode {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|name| Self::from_name(&name))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn names_are_kebab_case_and_stand_once() {
        let mut names: Vec<_> = ErrorCode::ALL.iter().map(|code| code.name()).collect();
        let plain = |c: char| c.is_ascii_lowercase() || c == '-';
        assert!(names.iter().all(|name| name.chars().all(plain)), "{names:?}");
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ErrorCode::ALL.len());
    }

    /// The page lists every code with its meaning. Where it does not, this test says what the table
    /// must be.
    #[test]
    fn the_page_on_errors_has_every_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/errors.md");
        let page = std::fs::read_to_string(path).unwrap();
        let line = |code: &ErrorCode| format!("| `{}` | {} |\n", code.name(), code.meaning());
        let table: String = ErrorCode::ALL.iter().map(line).collect();
        assert!(page.contains(&table), "docs/errors.md must have this table:\n{table}");
    }
}
