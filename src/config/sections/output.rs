//! `[output]`: where the result goes and who signs it.

use crate::document::key::{DefaultValue, Key, Section, ValueKind};
use crate::document::{Effect, Entries, Values};

/// Where the result goes and who signs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputConfig {
    /// The run directory.
    pub dir: String,
    /// The artifact is signed.
    pub sign: bool,
    /// A private key in PEM, in place of the user's own.
    pub signing_key: Option<String>,
    /// A program that signs, with its arguments; empty without one.
    pub signer: Vec<String>,
    /// The public key that the program's signatures fit.
    pub signer_key: Option<String>,
    /// The signer's certificate and those above it, in PEM.
    pub signer_certificates: Option<String>,
    /// SPDX id for the model card.
    pub license: Option<String>,
    /// A bill of materials goes along.
    pub sbom: bool,
}

pub(in crate::config) const SECTION: Section = Section::new(
    "output",
    "Where the result goes and who signs it.",
    &[
        Key::new(
            "output.dir",
            ValueKind::Line,
            DefaultValue::Depends("`checkpoints/` and the name of the run"),
            "The run directory: checkpoints, metrics and the artifact.",
        )
        .example("\"runs/first\"")
        .names(&[
            ("axolotl, TRL, LLaMA-Factory and torchtune", "output_dir"),
            ("mlx-lm", "adapter_path"),
        ]),
        Key::new(
            "output.sign",
            ValueKind::Boolean,
            DefaultValue::Value("true"),
            "The artifact is signed, so that others can check that it was not changed.",
        )
        .example("false"),
        Key::new(
            "output.signing_key",
            ValueKind::Line,
            DefaultValue::Absent("the user's own key, made on first use"),
            "File with the private key (PEM) to sign with.",
        )
        .example("\"signing.pem\""),
        Key::new(
            "output.signer",
            ValueKind::Texts,
            DefaultValue::Absent("the key is a file"),
            "Program, with its arguments, that signs in place of a private key in a file: for \
             keys in hardware or in a cloud. It gets the bytes to sign on stdin and prints an \
             ECDSA P-256 signature with SHA-256 in DER. It is tried before training begins. The \
             lineage and the model card show its arguments, so no secret belongs there.",
        )
        .example("[\"openssl\", \"dgst\", \"-sha256\", \"-sign\", \"release.pem\"]")
        .excludes(&["output.signing_key"]),
        Key::new(
            "output.signer_key",
            ValueKind::Line,
            DefaultValue::Absent("`output.signer` needs it"),
            "File with the public key (PEM) that the signatures of `output.signer` must fit.",
        )
        .example("\"release.pub.pem\""),
        Key::new(
            "output.signer_certificates",
            ValueKind::Line,
            DefaultValue::Absent("the signature names the key itself"),
            "File with the signer's certificate, then those of the authorities above it (PEM). The \
             signature carries them: who trusts an authority need not know the key.",
        )
        .example("\"release.chain.pem\""),
        Key::new(
            "output.license",
            ValueKind::Line,
            DefaultValue::Absent("the model card names none"),
            "Licence of the result for its model card, as an SPDX identifier.",
        )
        .example("\"Apache-2.0\""),
        Key::new(
            "output.sbom",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "A bill of materials, `bom.cdx.json` in CycloneDX 1.6, goes into the signed artifact: \
             base, data, licence, numbers, by digest.",
        )
        .example("true"),
    ],
)
.effect(Effect::Aside);

impl OutputConfig {
    pub(in crate::config) fn read(values: &Values, name: &str) -> Self {
        Self {
            dir: values
                .optional_text("output.dir")
                .unwrap_or_else(|| format!("checkpoints/{name}")),
            sign: values.boolean("output.sign"),
            signing_key: values.optional_text("output.signing_key"),
            signer: values.optional_texts("output.signer").unwrap_or_default(),
            signer_key: values.optional_text("output.signer_key"),
            signer_certificates: values.optional_text("output.signer_certificates"),
            license: values.optional_text("output.license"),
            sbom: values.boolean("output.sbom"),
        }
    }

    pub(in crate::config) fn write(&self, out: &mut Entries) {
        out.text("output.dir", &self.dir);
        out.boolean("output.sign", self.sign);
        out.optional_text("output.signing_key", self.signing_key.as_deref());
        if !self.signer.is_empty() {
            out.texts("output.signer", &self.signer);
        }
        out.optional_text("output.signer_key", self.signer_key.as_deref());
        out.optional_text("output.signer_certificates", self.signer_certificates.as_deref());
        out.optional_text("output.license", self.license.as_deref());
        out.boolean("output.sbom", self.sbom);
    }
}
