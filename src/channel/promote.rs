//! Puts a model into use, or takes it back: a new pointer, whatever was before.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::{Timestamp, ToSpan as _};

use super::chain::{Chain, Channel, ChannelEntry};
use super::leftovers::Writing;
use super::model::{Checked, FOLDER as MODELS, path_from, place};
use super::pointer::{ModelRef, Pointer, PointerKind, one_line};
use super::verdict::Verdicts;
use crate::artifact::keys::SigningKey;
use crate::error::{Error, ErrorCode, Result};
use crate::files::Digest;
use crate::verify::{Seen, Trust};

/// Who does it, and whom it is measured by.
pub struct Authority<'a> {
    /// Signs the pointer.
    pub key: &'a SigningKey,
    /// Says whose signatures count, the key's own among them.
    pub trust: &'a Trust,
    /// Remembers how far channels have come.
    pub seen: &'a Seen,
}

/// How a channel gets to a new model.
#[derive(Debug, Clone, Copy)]
pub struct Promotion<'a> {
    /// The model.
    pub artifact: &'a Path,
    /// Copy it into the registry.
    pub copy: bool,
    /// Where it was published: consumers fetch it there.
    pub uri: Option<&'a str>,
    /// Why, if there is more to say than that it passed.
    pub reason: Option<&'a str>,
    /// For how many days the pointer counts.
    pub days: u16,
}

/// How a channel gets back to an older model.
#[derive(Debug, Clone, Copy)]
pub struct Return<'a> {
    /// Only if this serial number is the newest one: what is said is about its model.
    pub from: Option<u64>,
    /// The pointer whose model it is; else the last good one.
    pub to: Option<u64>,
    /// Where that model is, if not where its pointer says.
    pub model: Option<&'a Path>,
    /// Why.
    pub reason: &'a str,
    /// For how many days the pointer counts.
    pub days: u16,
}

impl Channel {
    /// Points the channel to a model that passed the gate.
    ///
    /// # Errors
    /// Refuses a model that does not verify, and one without a verdict that counts; and whatever is
    /// wrong with the channel.
    pub fn promote(&self, promotion: &Promotion, by: &Authority) -> Result<ChannelEntry> {
        let (chain, ()) = self.read_checked(|chain| chain.appendable(by.trust, by.seen))?;
        let model = Checked::new(promotion.artifact, by.trust)?;
        let verdicts = Verdicts::read(&model.directory, &model.files, by.trust)?;
        let since = chain.bad_models().get(&model.sig_sha256).copied();
        let verdict = verdicts.passed(&model.directory, since)?;
        std::fs::create_dir_all(&self.registry).map_err(|error| {
            crate::files::failed("cannot make the registry", &self.registry, &error)
        })?;
        let (models, pointers) = (self.registry.join(MODELS), self.folder());
        let _writing = Writing::begin_clean(&self.registry, &[&models, &pointers]);
        let path = match (promotion.uri, promotion.copy) {
            (Some(_), _) => None,
            (None, true) => {
                let copy = model.copy_into(&self.registry)?;
                Checked::new(&copy, by.trust)?;
                Some(path_from(&self.registry, &copy)?)
            }
            (None, false) => Some(path_from(&self.registry, &model.directory)?),
        };
        let passed = match verdict.policy.as_str() {
            "" => "gate PASSED".to_owned(),
            policy => format!("gate PASSED by {policy}"),
        };
        let model = ModelRef {
            name: one_line(&model.name()),
            path,
            uri: promotion.uri.map(str::to_owned),
            root_sha256: model.root,
            sig_sha256: model.sig_sha256,
        };
        let reason = promotion.reason.unwrap_or(&passed);
        let (vsa, metrics) = (verdict.sha256, verdict.metrics.clone());
        let pointer = next(&chain, PointerKind::Promote, model, reason, promotion.days)?;
        chain.append(Pointer { vsa_sha256: vsa, metrics, ..pointer }, by.key, by.trust)
    }

    /// Points the channel back to an older model. Tells also why models that were nearer were
    /// passed over.
    ///
    /// # Errors
    /// When there is no good model to go back to, or something is wrong with the channel.
    pub fn roll_back(&self, back: &Return, by: &Authority) -> Result<(ChannelEntry, Vec<String>)> {
        let (chain, ()) = self.read_checked(|chain| chain.appendable(by.trust, by.seen))?;
        let newest = chain.newest()?.pointer.serial;
        if back.from.is_some_and(|from| from != newest) {
            return Err(Error::channel(format!(
                "the channel has meanwhile reached serial number {newest}"
            )));
        }
        let (target, passed_over) = match back.to {
            Some(serial) => (chain.asked_for(serial, back.model, by.trust)?, Vec::new()),
            None => chain.last_good(back.model, by.trust)?,
        };
        let old = &target.pointer;
        let pointer =
            next(&chain, PointerKind::Rollback, old.model.clone(), back.reason, back.days)?;
        let (vsa_sha256, metrics) = (old.vsa_sha256, old.metrics.clone());
        let pointer = Pointer { vsa_sha256, metrics, ..pointer };
        Ok((chain.append(pointer, by.key, by.trust)?, passed_over))
    }
}

fn next(
    chain: &Chain,
    kind: PointerKind,
    model: ModelRef,
    reason: &str,
    days: u16,
) -> Result<Pointer> {
    let (previous, serial) = chain.next();
    let issued = Timestamp::now();
    let expires = issued.checked_add((i64::from(days) * 24).hours());
    let expires = expires.map_err(|error| Error::channel("not a valid date").because(error))?;
    let reason = one_line(reason);
    if reason.is_empty() {
        return Err(Error::channel("a reason is required"));
    }
    // The name of a key that nobody will ever have: random numbers from the system.
    let random = || SigningKey::generate()?.public().hint().parse::<Digest>();
    let nonce = if previous.is_none() { Some(random()?) } else { None };
    Ok(Pointer {
        channel: chain.channel.name.clone(),
        serial,
        nonce,
        kind,
        issued,
        expires,
        model,
        previous,
        reason,
        vsa_sha256: Digest([0; 32]),
        metrics: BTreeMap::new(),
    })
}

impl Chain {
    /// The pointer of a serial number, to the model of which one may go back.
    fn asked_for(&self, serial: u64, given: Option<&Path>, trust: &Trust) -> Result<&ChannelEntry> {
        let current = self.newest()?;
        let found = self.entries.iter().find(|entry| entry.pointer.serial == serial);
        let found = found.ok_or_else(|| {
            Error::channel(format!("the channel has no serial number {serial}"))
                .hint(format!("`firebrand log {}` shows them", self.channel.name))
        })?;
        if found.pointer.model.sig_sha256 == current.pointer.model.sig_sha256 {
            return Err(Error::channel(format!(
                "the model of serial number {serial} is in use now"
            )));
        }
        self.good(found, given, trust)?;
        Ok(found)
    }

    /// The newest pointer to another model that is good and was never taken back since it was last
    /// put into use, and why others were passed over.
    fn last_good(
        &self,
        given: Option<&Path>,
        trust: &Trust,
    ) -> Result<(&ChannelEntry, Vec<String>)> {
        let current = self.newest()?.pointer.model.sig_sha256;
        let mut looked_at = vec![current];
        let (mut passed_over, back) = (Vec::new(), self.bad_models());
        for entry in self.entries.iter().rev() {
            let Pointer { serial, model, .. } = &entry.pointer;
            if looked_at.contains(&model.sig_sha256) {
                continue;
            }
            looked_at.push(model.sig_sha256);
            let good = match back.get(&model.sig_sha256) {
                Some(time) => Err(format!("it was taken back at {time:.0}")),
                None => self.good(entry, given, trust).map_err(|error| error.with_causes()),
            };
            match good {
                Ok(()) => return Ok((entry, passed_over)),
                Err(why) => passed_over.push(format!("serial number {serial}: {why}")),
            }
        }
        let error = Error::channel(format!(
            "the channel `{}` has no good model to go back to",
            self.channel.name
        ));
        let error = passed_over.into_iter().take(10).fold(error, Error::because);
        Err(error.hint("`--to SERIAL` goes back to a model that was taken back once"))
    }

    /// Models that were taken back and not put into use again since.
    fn bad_models(&self) -> BTreeMap<Digest, Timestamp> {
        let mut bad = BTreeMap::new();
        for entry in &self.entries {
            let Pointer { issued, model, previous, kind, .. } = &entry.pointer;
            if let (PointerKind::Rollback, Some(previous)) = (kind, previous) {
                bad.insert(previous.sig_sha256, *issued);
            }
            bad.remove(&model.sig_sha256);
        }
        bad
    }

    /// Signed by a key that counted then and is not revoked, every byte in its place, and not
    /// judged to be bad since.
    fn good(&self, entry: &ChannelEntry, given: Option<&Path>, trust: &Trust) -> Result<()> {
        if let Some(why) = entry.signed_then(trust).objection {
            return Err(Error::refused(ErrorCode::Untrusted, "the pointer does not count")
                .at(&entry.path)
                .because(why));
        }
        let directory = place(&self.channel.registry, &entry.pointer.model, given)?;
        let model = Checked::named(&directory, &entry.pointer.model, trust)?;
        let verdicts = Verdicts::read(&directory, &model.files, trust)?;
        match verdicts.newest() {
            Some(verdict) if !verdict.passed => Err(Error::refused(
                ErrorCode::Gate,
                "the gate's newest verdict on this model is a refusal",
            )
            .at(directory)
            .because(format!("given at {:.0} by the {}", verdict.time, verdict.by))),
            _ => Ok(()),
        }
    }
}
