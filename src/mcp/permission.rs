//! What a client may have done beside reading.

/// Something that has to be allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// Runs are started, resumed and stopped.
    Train,
    /// Models are evaluated.
    Eval,
    /// Models and data sets are fetched from the hub, and stores in the network are used.
    Network,
    /// Settings may name programs that are run: rewards, signers.
    Programs,
}

impl Permission {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Train, Self::Eval, Self::Network, Self::Programs];

    /// Its name in `--allow`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Eval => "eval",
            Self::Network => "network",
            Self::Programs => "programs",
        }
    }

    /// What it allows.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Train => "start, resume and stop runs",
            Self::Eval => "evaluate models",
            Self::Network => "use the hub, and the stores that settings name (s3://, gs://)",
            Self::Programs => "run programs that settings name (rewards, signers)",
        }
    }
}
