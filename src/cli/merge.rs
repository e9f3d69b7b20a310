//! `firebrand merge`

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use crate::artifact::composed::ComposedParts;
use crate::artifact::derived::Derivation;
use crate::artifact::keys;
use crate::artifact::measured::Measured;
use crate::artifact::merged::{Merged, merge, percent};
use crate::checkpoint::now;
use crate::cli::compose::places;
use crate::cli::named_checkpoint::finished;
use crate::cli::signer::{SignerArgs, tell};
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{data_line, talk};
use crate::compose::{self, CompositionFinding, UNQUANTISED};
use crate::data::extensions;
use crate::error::{Error, ErrorCode, Result};
use crate::files::{folder_of, hash_file};
use crate::hub::{DataLock, Policy};
use crate::train::{Access, parent_state};
use crate::verify::Trust;
use crate::weights::Element;
use crate::weights::formats::{self, WeightFormat};

/// A larger share of an adapter's effect than this is not given away without a warning.
const LOSS_TOLD: f64 = 0.05;

/// Make a whole model of an adapter and its base
///
/// Adds in f32, to the weights of the base's files or with `--weight-format` to those that an
/// adapter was trained beside, and rounds once to the base's own number format, or to that of
/// `--dtype`, shard by shard, in little memory; a base that is not the one of the adapter's lineage
/// is refused. Then base, adapter and result are run on the validation data and the prompts of the
/// adapter's run: what the result does stands in its card, and what rounding took of the adapter's
/// gain is told. The result is signed and carries its lineage. With `--composition` the base, the
/// adapters, their order and the format of the weights are those of a signed composition, which is
/// checked before anything is made; the lineage of the result names it.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An adapter, a run that has one as its artifact, a checkpoint of a run (`RUN@best`,
    /// `RUN@last`, `RUN@step-200`), or owner/name on the hub, also with `@revision`
    #[arg(required_unless_present = "composition", conflicts_with = "composition")]
    artifact: Option<String>,
    /// Merge what this composition states (`firebrand compose`)
    #[arg(long, value_name = "FILE", conflicts_with = "weight_format")]
    composition: Option<PathBuf>,
    /// Where an adapter of the composition lies, if not where it lay; once for each, in order
    #[arg(long, value_name = "ADAPTER", requires = "composition")]
    adapter: Vec<PathBuf>,
    /// The directory to make
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The base model, if it is not where the adapter says
    #[arg(long, value_name = "DIR")]
    base: Option<String>,
    #[command(flatten)]
    weights: WeightFormatArgs,
    /// Number format of the result: that of the base, or another for all weights of the
    /// text model; other parts of a checkpoint keep theirs
    #[arg(long, value_name = "TYPE", value_parser = ["base", "f32", "bf16", "f16"],
          default_value = "base")]
    dtype: String,
    /// Do not compare the result with the adapter, which takes as much memory as the model in f32
    #[arg(long)]
    no_check: bool,
    /// Add a bill of materials, `bom.cdx.json` (CycloneDX 1.6)
    #[arg(long)]
    sbom: bool,
    #[command(flatten)]
    signing: SignerArgs,
}

pub fn run(args: &Args) -> Result<ExitCode> {
    let signer = args.signing.signer()?;
    let composed = args.composition.as_deref().map(|file| composed(file, args)).transpose()?;
    let (artifact, base, weights) = match &composed {
        Some((parts, weights)) => {
            let base = Some(parts.base.0.display().to_string());
            (parts.adapters[0].0.display().to_string(), base, *weights)
        }
        None => {
            let artifact = args.artifact.as_deref().unwrap_or_default();
            (finished(artifact, signer.as_ref())?, args.base.clone(), args.weights.format())
        }
    };
    let composed = composed.map(|(parts, _)| parts);
    let found = Access::default().supply(Policy::default())?.named(&artifact)?;
    // Its run's data, as it was then.
    let lock = DataLock::of_run(folder_of(&found.path))?;
    let policy =
        Policy { locks: lock.into_iter().collect(), extensions: extensions(), ..Policy::default() };
    let supply = Arc::new(Access::default().supply(policy)?);
    let request = Derivation {
        model: &artifact,
        base: base.as_deref(),
        out: &args.out,
        key: signer.as_ref().map(|(key, _)| key),
        parent: parent_state(&found.path)?,
        sbom: args.sbom,
        time: &now(),
        supply: &supply,
        tell: &talk,
    };
    let element = Element::from_option(&args.dtype);
    let merged = merge(&request, composed.as_ref(), element, weights, !args.no_check)?;
    report(&merged, args.no_check);
    tell(signer.as_ref(), &args.out);
    data_line(&args.out.display().to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// Checks a composition with all its parts, and what there is to merge.
fn composed(
    file: &Path,
    args: &Args,
) -> Result<(ComposedParts, Option<&'static dyn WeightFormat>)> {
    let trust = Trust::of_user(&keys::config_home()?)?;
    let (composition, signature) = compose::read(file, &trust)?;
    let base = args.base.as_deref().map(Path::new);
    let places = places(&composition, base, &args.adapter)?;
    let mut findings = vec![signature];
    findings.extend(compose::check(&composition, &places, &trust)?);
    let failed: Vec<_> = findings.iter().filter(|finding| !finding.holds).collect();
    if !failed.is_empty() {
        let error = Error::refused(ErrorCode::Adapter, "the composition does not hold").at(file);
        let why = |it: &&CompositionFinding| format!("{}, {}: {}", it.part, it.check, it.detail);
        return Err(failed.iter().map(why).fold(error, |error, why| error.because(why)));
    }
    let weights = match composition.quantisation.as_str() {
        UNQUANTISED => None,
        name => Some(formats::named(name).ok_or_else(|| {
            Error::adapter(format!("the composition states weights in `{name}`")).at(file)
        })?),
    };
    let tokenizer = compose::place_of(&composition, &composition.tokenizer, &places);
    let parts = composition.adapters.into_iter().map(|part| part.files);
    Ok((
        ComposedParts {
            statement: hash_file(file, &file.display().to_string())?,
            tokenizer: tokenizer.to_path_buf(),
            base: (places.base, composition.base.files),
            adapters: places.adapters.into_iter().zip(parts).collect(),
        },
        weights,
    ))
}

/// Says what became of the adapter.
fn report(merged: &Merged, unchecked: bool) {
    merged.note.iter().for_each(|note| talk(&format!("note: {note}")));
    match &merged.logit_diff {
        Ok(logit_diff) => talk(&format!("beside the adapter: {logit_diff}")),
        Err(_) if unchecked => talk("not compared with the adapter (`--no-check`)"),
        Err(why) => talk(&format!("warning: not compared with the adapter: {why}")),
    }
    match &merged.measured {
        Ok(found) => talk(&format!(
            "validation loss on {}, {} target tokens: base {:.4}, adapter {:.4}, merged {:.4}",
            found.dataset, found.target_tokens, found.base, found.adapter, found.merged
        )),
        Err(why) if merged.logit_diff.is_ok() => talk(&format!("not measured: {why}")),
        Err(_) => {}
    }
    let format = merged.element.name();
    if let Some(kept) = merged.rounding.kept() {
        let share = percent(kept);
        talk(&format!("in {format} it holds {share} of the adapter's change to the weights"));
    }
    let Some(lost) = merged.lost().filter(|lost| *lost > LOSS_TOLD) else { return };
    let of = match merged.measured.as_ref().ok().and_then(Measured::lost) {
        Some(_) => "of what the adapter gained on its validation data",
        None => "of the adapter's change to the weights",
    };
    let hint = match merged.element {
        Element::F32 => "",
        _ => "; `--dtype f32` keeps it",
    };
    talk(&format!("warning: rounding to {format} took {} {of}{hint}", percent(lost)));
}
