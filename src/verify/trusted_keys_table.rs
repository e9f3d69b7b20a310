//! The keys of `trusted-keys.toml`.

use std::sync::LazyLock;

use jiff::Timestamp;

use crate::document::key::{DefaultValue, Key, Section, TextRule, ValueKind};
use crate::document::{DocumentKind, KeyTable, choices};

choices! {
    /// What a key may vouch for.
    Role {
        /// Models, and how they were made.
        Train = "train",
        /// Results of tests.
        Gate = "gate",
        /// Which model is in use.
        Promote = "promote",
        /// Which inputs may be used.
        Allowlist = "allowlist",
        /// That a model was made again.
        Reproduce = "reproduce",
    }
}

/// All keys of the list of trusted keys.
pub static KEYS: LazyLock<KeyTable> = LazyLock::new(|| KeyTable::new(&KIND, &[TOP]));

const KIND: DocumentKind = DocumentKind {
    name: "trusted-keys",
    what: "the list of trusted keys",
    title: "Firebrand trusted keys",
    about: "Whose signatures count, for what, and how long.",
    opening: "Whose signatures count, for what, and how long: `trusted-keys.toml` in the folder of \
              your settings.",
    paths: "Paths are relative to the folder of this file.",
    too_large: "a key or a certificate can lie in a file of its own (`file`)",
};

const TOP: Section = Section::new(
    "",
    "Whose signatures count.",
    &[
        Key::new(
            "key",
            ValueKind::Tables { keys: ENTRY, may_be_empty: true },
            DefaultValue::Absent("your own key, and those in `trusted-keys/`, for everything"),
            "A public key, one `[[key]]` each. What is said of a key here holds wherever else it \
             lies.",
        )
        .example("[{ file = \"trusted-keys/release.pem\" }]"),
        Key::new(
            "authority",
            ValueKind::Tables { keys: ENTRY, may_be_empty: true },
            DefaultValue::Absent("no certificates"),
            "A certificate whose owner says who is a signer, one `[[authority]]` each.",
        )
        .example("[{ file = \"authorities/acme.pem\" }]"),
    ],
);

const ENTRY: &[Key] = &[
    Key::new(
        "file",
        ValueKind::Line,
        DefaultValue::Absent("`pem` has it"),
        "A PEM file with the public key, or the certificate of the authority.",
    )
    .example("\"trusted-keys/release.pem\"")
    .excludes(&["pem"]),
    Key::new("pem", ValueKind::Text, DefaultValue::Absent("`file` has it"), "The PEM text itself.")
        .example("\"-----BEGIN PUBLIC KEY-----…\""),
    Key::new(
        "roles",
        ValueKind::Choices(Role::NAMES),
        DefaultValue::Absent("every role"),
        "What it may vouch for: models and how they were made, results of tests, which model is in \
         use, which inputs may be used, that a model was made again.",
    )
    .example("[\"train\", \"gate\"]"),
    Key::new(
        "not_before",
        ValueKind::Rule(&TIME),
        DefaultValue::Absent("no beginning"),
        "From when on it counts.",
    )
    .example("\"2026-01-01T00:00:00Z\""),
    Key::new(
        "not_after",
        ValueKind::Rule(&TIME),
        DefaultValue::Absent("no end"),
        "Until when it counts.",
    )
    .example("\"2027-01-31T00:00:00Z\""),
    Key::new(
        "revoked",
        ValueKind::Boolean,
        DefaultValue::Value("false"),
        "It counts no more, for nothing.",
    )
    .example("true"),
    Key::new("reason", ValueKind::Text, DefaultValue::Absent("no reason is given"), "Why not.")
        .example("\"laptop stolen\"")
        .only_with("revoked", &["true"]),
];

const TIME: TextRule = TextRule {
    describe: || "a time of RFC 3339 such as `2027-01-31T00:00:00Z`".to_owned(),
    names: &[],
    pattern: Some(
        "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\\.[0-9]+)?\
         ([Zz]|[+-][0-9]{2}:[0-9]{2})$",
    ),
    dates: true,
    check: |text| text.parse::<Timestamp>().map(drop).map_err(|_| String::new()),
    hint: |_| None,
};
