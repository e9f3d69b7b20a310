//! `firebrand compose`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use crate::cli::identity::{IdentityArgs, trust};
use crate::cli::place::{Place, model_directory};
use crate::cli::signer::SignerArgs;
use crate::cli::weight_format::WeightFormatArgs;
use crate::cli::{data_json, data_line, talk};
use crate::compose::{self, Composition, CompositionFinding, Places, Request, UNQUANTISED};
use crate::error::{Context, Error, Result};
use crate::verify::Trust;

/// State which base, adapters, tokenizer and quantisation belong together, and check it before
/// loading
///
/// Writes one signed statement (in-toto, in a sigstore bundle) over every file of a base model and
/// of adapters in the order in which they are added. Parts that do not fit together are refused:
/// each adapter must be signed by a trusted key, have its lineage, and have been trained on the
/// very base. `--check` says whether what lies here is what was stated; a server asks that before
/// it loads. Exit code 0: it is; 1: it is not.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The file with the statement
    composition: PathBuf,
    /// Check what lies here against the file, in place of writing it
    #[arg(long)]
    check: bool,
    /// The base model: a folder, or owner/name@revision on the hub; with --check where it lies
    /// here, if not where it lay
    #[arg(long, value_name = "MODEL", required_unless_present = "check")]
    base: Option<PathBuf>,
    /// An adapter: an artifact, or a run that has one; once for each, in the order in which they
    /// are added
    #[arg(long, value_name = "ADAPTER", required_unless_present = "check")]
    adapter: Vec<PathBuf>,
    #[command(flatten)]
    quantisation: WeightFormatArgs,
    /// Trust this public key (PEM) and no other
    #[arg(long, value_name = "PEM")]
    trusted_key: Option<PathBuf>,
    /// Never use the network (as HF_HUB_OFFLINE=1 does)
    #[arg(long)]
    offline: bool,
    /// Print what was found as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    identity: IdentityArgs,
    #[command(flatten)]
    signing: SignerArgs,
}

impl Args {
    fn trust(&self) -> Result<Trust> {
        trust(self.trusted_key.as_deref(), None, &self.identity)
    }
}

pub fn run(args: &Args) -> Result<ExitCode> {
    if args.check { checked(args) } else { made(args) }
}

fn made(args: &Args) -> Result<ExitCode> {
    let file = &args.composition;
    if file.symlink_metadata().is_ok() {
        return Err(Error::exists("refusing to replace what is already there").at(file));
    }
    let signer = args.signing.signer()?;
    let (key, origin) = signer.ok_or_else(|| {
        Error::usage("a composition that nobody signs says nothing").hint("leave out `--no-sign`")
    })?;
    let trust = args.trust()?; // the key may just have been made
    let place = Place { offline: args.offline, quiet: args.json, ..Place::default() };
    let base = args.base.as_deref().unwrap_or(Path::new(""));
    let adapters: Vec<String> =
        args.adapter.iter().map(|path| path.display().to_string()).collect();
    let places = Places {
        base: place.of(base)?,
        adapters: args.adapter.iter().map(|path| place.of(path)).collect::<Result<_>>()?,
    };
    let format = args.quantisation.format();
    let (composition, findings) = compose::compose(&Request {
        base: &base.display().to_string(),
        adapters: &adapters,
        places: &places,
        quantisation: format.map_or(UNQUANTISED, |format| format.name()),
        trust: &trust,
    })?;
    compose::write(&composition, &key, file)?;
    tell(&findings, args.json)?;
    talk(&format!("signed by {} ({origin}): {}", key.name(), file.display()));
    Ok(ExitCode::SUCCESS)
}

fn checked(args: &Args) -> Result<ExitCode> {
    if args.signing.is_given() || args.quantisation.format().is_some() {
        return Err(Error::usage("`--check` signs and states nothing")
            .hint("`--trusted-key` names the public key to check with"));
    }
    let trust = args.trust()?;
    let (composition, signature) = compose::read(&args.composition, &trust)?;
    let places = places(&composition, args.base.as_deref(), &args.adapter)?;
    told_checks(&composition, signature, &places, &trust, args.json)
}

/// Where the parts lie: where they are named, or where they lay when they were composed. As many
/// adapters are named as are stated, or none: whatever is done with the parts pairs them in order.
pub(super) fn places(
    composition: &Composition,
    base: Option<&Path>,
    adapters: &[PathBuf],
) -> Result<Places> {
    let (stated, count) = (composition.adapters.len(), adapters.len());
    if count > 0 && count != stated {
        let what = format!("{stated} adapters are stated, and {count} are named");
        return Err(Error::usage(what)
            .hint("name each with `--adapter`, in the order in which they are stated, or none"));
    }
    let lay = |name: &String| PathBuf::from(name);
    let named = match adapters {
        [] => composition.adapters.iter().map(|part| lay(&part.name)).collect(),
        named => named.to_vec(),
    };
    let here = |path: PathBuf| -> Result<PathBuf> {
        let directory = model_directory(&path);
        match directory.is_dir() {
            true => Ok(directory),
            false => Err(Error::file("the part is not here")
                .at(path)
                .hint("`--base` and `--adapter` name where parts lie on this machine")),
        }
    };
    Ok(Places {
        base: here(base.map_or_else(|| lay(&composition.base.name), Path::to_path_buf))?,
        adapters: named.into_iter().map(here).collect::<Result<_>>()?,
    })
}

/// Checks a composition whose parts lie where they lay when they were composed.
pub(super) fn check_composition(file: &Path, trust: &Trust, json: bool) -> Result<ExitCode> {
    let (composition, signature) = compose::read(file, trust)?;
    let places = places(&composition, None, &[]).map_err(|error| {
        error.hint(format!(
            "`firebrand compose {} --check --base DIR --adapter DIR …` says where",
            file.display()
        ))
    })?;
    told_checks(&composition, signature, &places, trust, json)
}

fn told_checks(
    composition: &Composition,
    signature: CompositionFinding,
    places: &Places,
    trust: &Trust,
    json: bool,
) -> Result<ExitCode> {
    let mut findings = vec![signature];
    findings.extend(compose::check(composition, places, trust)?);
    tell(&findings, json)?;
    let holds = findings.iter().all(|finding| finding.holds);
    Ok(ExitCode::from(u8::from(!holds)))
}

fn tell(findings: &[CompositionFinding], as_json: bool) -> Result<()> {
    if as_json {
        let holds = findings.iter().all(|finding| finding.holds);
        let value = json!({"version": 1, "holds": holds, "findings": findings});
        return data_json(&serde_json::to_string_pretty(&value).context("cannot encode it")?);
    }
    findings.iter().try_for_each(|finding| data_line(&finding.to_string()))
}
