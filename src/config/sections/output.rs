//! `[output]`: where the result goes and who signs it.

use crate::document::key::{DefaultValue, Key, Section, ValueKind};
use crate::document::{Effect, settings};

settings! {
    /// Where the result goes and who signs it.
    pub struct OutputConfig, KEYS {
        /// The run directory.
        dir: String = Key::new(
            "output.dir",
            ValueKind::Line,
            DefaultValue::Depends("`checkpoints/` and the name of the run"),
            "The run directory: checkpoints, metrics and the artifact.",
        )
        .example("\"runs/first\"")
        .names(&[
            ("axolotl, TRL, LLaMA-Factory and torchtune", "output_dir"),
            ("mlx-lm", "adapter_path"),
        ]);
        /// A store where checkpoints and result go as well.
        mirror: Option<String> = Key::new(
            "output.mirror",
            ValueKind::Line,
            DefaultValue::Absent("what a run writes is on this machine alone"),
            "A store where saved checkpoints and the finished artifact go as well, below the name \
             of the run: `s3://bucket/prefix`, `gs://bucket/prefix` or a folder. On another \
             machine the same command goes on from there, where it has more than the run \
             directory.",
        )
        .example("\"s3://bucket/runs\"");
        /// The artifact is signed.
        sign: bool = Key::new(
            "output.sign",
            ValueKind::Boolean,
            DefaultValue::Value("true"),
            "The artifact is signed, so that others can check that it was not changed.",
        )
        .example("false");
        /// A private key in PEM, in place of the user's own.
        signing_key: Option<String> = Key::new(
            "output.signing_key",
            ValueKind::Line,
            DefaultValue::Absent("the user's own key, made on first use"),
            "File with the private key (PEM) to sign with.",
        )
        .example("\"signing.pem\"");
        /// A program that signs, with its arguments; empty without one.
        signer: Vec<String> = Key::new(
            "output.signer",
            ValueKind::Texts,
            DefaultValue::Absent("the key is a file"),
            "Program, with its arguments, that signs in place of a private key in a file: for keys \
             in hardware or in a cloud. It gets the bytes to sign on stdin and prints an ECDSA \
             P-256 signature with SHA-256 in DER. It is tried before training begins. The \
             provenance beside the artifact shows its arguments, so no secret belongs there.",
        )
        .example("[\"openssl\", \"dgst\", \"-sha256\", \"-sign\", \"release.pem\"]")
        .excludes(&["output.signing_key"]);
        /// The public key that the program's signatures fit.
        signer_key: Option<String> = Key::new(
            "output.signer_key",
            ValueKind::Line,
            DefaultValue::Absent("`output.signer` needs it"),
            "File with the public key (PEM) that the signatures of `output.signer` must fit.",
        )
        .example("\"release.pub.pem\"");
        /// The signer's certificate and those above it, in PEM.
        signer_certificates: Option<String> = Key::new(
            "output.signer_certificates",
            ValueKind::Line,
            DefaultValue::Absent("the signature names the key itself"),
            "File with the signer's certificate, then those of the authorities above it (PEM). The \
             signature carries them: who trusts an authority need not know the key.",
        )
        .example("\"release.chain.pem\"");
        /// What the model card calls the model.
        title: Option<String> = Key::new(
            "output.title",
            ValueKind::Line,
            DefaultValue::Absent("the last part of the base's name, and the method"),
            "What the model card calls the model. The name of the run is not part of the artifact, \
             so that equal runs give equal bytes under whatever name.",
        )
        .effect(Effect::Artifact)
        .example("\"support-bot\"");
        /// SPDX id for the model card.
        license: Option<String> = Key::new(
            "output.license",
            ValueKind::Line,
            DefaultValue::Absent("the model card names none"),
            "Licence of the result for its model card, as an SPDX identifier.",
        )
        .effect(Effect::Artifact)
        .example("\"Apache-2.0\"");
        /// A bill of materials goes along.
        sbom: bool = Key::new(
            "output.sbom",
            ValueKind::Boolean,
            DefaultValue::Value("false"),
            "A bill of materials, `bom.cdx.json` in CycloneDX 1.6, goes into the signed artifact: \
             base, data, licence, numbers, by digest.",
        )
        .effect(Effect::Artifact)
        .example("true");
    }
}

pub(in crate::config) const SECTION: Section =
    Section::new("output", "Where the result goes and who signs it.", KEYS).effect(Effect::Aside);
