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

impl Role {
    /// Whether only those have it whose list names it. Whoever makes models is trusted without a
    /// list as a rule, and is to vouch for no model of its own as another.
    pub(super) fn must_be_named(self) -> bool {
        self == Self::Reproduce
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
        Key::new(
            "identity",
            ValueKind::Tables { keys: IDENTITY, may_be_empty: true },
            DefaultValue::Absent("no keyless signatures"),
            "An identity that signs keyless (Sigstore), one `[[identity]]` each: its certificates \
             are of minutes, and the trusted root says whose certificates, logs and time stamps \
             prove that it signed.",
        )
        .example(
            "[{ trusted_root = \"trusted_root.json\", identity = \"release@example.com\", issuer \
             = \"https://accounts.example.com\" }]",
        ),
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
    ROLES,
    NOT_BEFORE,
    NOT_AFTER,
    REVOKED,
    REASON,
];

const IDENTITY: &[Key] = &[
    Key::new(
        "trusted_root",
        ValueKind::Line,
        DefaultValue::Required,
        "The file (`trusted_root.json`) with the authorities, certificate logs, transparency logs \
         and time stamping authorities that count for it.",
    )
    .example("\"trusted_root.json\""),
    Key::new(
        "identity",
        ValueKind::Line,
        DefaultValue::Required,
        "Whom its certificates name, letter by letter: an e-mail address or the URI of a workload.",
    )
    .example("\"release@example.com\""),
    Key::new(
        "issuer",
        ValueKind::Line,
        DefaultValue::Required,
        "The identity provider that said so (the certificate's OIDC issuer), letter by letter.",
    )
    .example("\"https://accounts.example.com\""),
    ROLES,
    NOT_BEFORE,
    NOT_AFTER,
    REVOKED,
    REASON,
];

const ROLES: Key = Key::new(
    "roles",
    ValueKind::Choices(Role::NAMES),
    DefaultValue::Absent("every role but `reproduce`, which must be named"),
    "What it may vouch for: models and how they were made, results of tests, which model is in \
     use, which inputs may be used, that a model was made again.",
)
.example("[\"train\", \"gate\"]");
const NOT_BEFORE: Key = Key::new(
    "not_before",
    ValueKind::Rule(&TIME),
    DefaultValue::Absent("no beginning"),
    "From when on it counts.",
)
.example("\"2026-01-01T00:00:00Z\"");
const NOT_AFTER: Key = Key::new(
    "not_after",
    ValueKind::Rule(&TIME),
    DefaultValue::Absent("no end"),
    "Until when it counts; for an identity, whose signatures prove their time, until when it may \
     have signed.",
)
.example("\"2027-01-31T00:00:00Z\"");
const REVOKED: Key = Key::new(
    "revoked",
    ValueKind::Boolean,
    DefaultValue::Value("false"),
    "It counts no more, for nothing.",
)
.example("true");
const REASON: Key =
    Key::new("reason", ValueKind::Text, DefaultValue::Absent("no reason is given"), "Why not.")
        .example("\"laptop stolen\"")
        .only_with("revoked", &["true"]);

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
