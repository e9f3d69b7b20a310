//! `firebrand export`

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::derived::Derivation;
use crate::artifact::exports;
use crate::checkpoint::now;
use crate::cli::named_checkpoint::finished;
use crate::cli::signer::{SignerArgs, tell};
use crate::cli::{data_line, talk};
use crate::error::Result;
use crate::hub::Policy;
use crate::train::{Access, parent_state};

/// Write a model in the format of another program: GGUF, for llama.cpp and what is built on it, an
/// adapter for llama.cpp or vLLM, or a decision model of transformers
///
/// `gguf`: an adapter is added to its base on the way, in f32, and rounded once to the wanted type;
/// nothing is held in memory but the adapter and a few rows. A tokenizer that llama.cpp would not
/// follow exactly is refused. q4_k_m, q5_k_m and q6_k are the mixtures of K-quants of llama.cpp,
/// with the bytes of its own quantiser.
///
/// `gguf-lora`: a LoRA adapter by itself, for `llama-server --lora` beside a GGUF file of its base.
///
/// Both come with a `Modelfile` for Ollama: chat template, stop tokens, adapter.
///
/// `vllm`: an adapter of experts by itself, with a tensor for each matrix of each expert; PEFT has
/// those of all experts in one. Other adapters are loaded there as they are.
///
/// `jev`: a model that gives a text one of several labels, as a decision model of transformers
/// (`JevForDecision`, pipeline `decision`), with its temperature. It answers questions of the type
/// `choice` whose options are the labels in their order.
///
/// The new directory holds the file, its lineage and a signature over both.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An artifact, a run that has one, a checkpoint of a run (`RUN@best`, `RUN@last`,
    /// `RUN@step-200`), a model directory, or owner/name on the hub, also with `@revision`
    model: String,
    /// gguf, gguf-lora, vllm or jev
    #[arg(long, value_name = "NAME", default_value = "gguf")]
    format: String,
    /// Type of the numbers: f16, q8_0, q6_k, q5_k_m, q4_k_m, bf16 or f32 for gguf, f32, f16 or bf16
    /// for gguf-lora, base (as the files of the base), f32, bf16 or f16 for jev; if nothing is
    /// said, the first of them
    #[arg(long, value_name = "NAME")]
    r#type: Option<String>,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The base model of an adapter, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    /// Do not look whether an adapter does here what it states (`effect.json`), which takes as much
    /// memory as the model in f32
    #[arg(long)]
    no_check: bool,
    /// Add a bill of materials, `bom.cdx.json` (CycloneDX 1.6)
    #[arg(long)]
    sbom: bool,
    #[command(flatten)]
    signing: SignerArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let format = exports::find(&args.format)?;
    let supply = Arc::new(Access::default().supply(Policy::default())?);
    let signer = args.signing.signer()?;
    let model = finished(&args.model, signer.as_ref())?;
    let found = supply.named(&model)?;
    let request = Derivation {
        model: &model,
        base: args.base.as_deref(),
        out: &args.out,
        key: signer.as_ref().map(|(key, _)| key),
        parent: parent_state(&found.path)?,
        sbom: args.sbom,
        time: &now(),
        supply: &supply,
        tell: &talk,
    };
    let (file, notes) = exports::export(&request, format, args.r#type.as_deref(), !args.no_check)?;
    for note in notes {
        talk(&format!("note: {note}"));
    }
    tell(signer.as_ref(), &args.out);
    data_line(&args.out.join(file).display().to_string())?;
    Ok(ExitCode::SUCCESS)
}
