//! Adapters that a run merges into its base before it trains one on top of them
//! (`model.base_adapters`).

use crate::adapters;
use crate::artifact::base_record::BaseRecord;
use crate::artifact::parent::Parent;
use crate::artifact::stack::Stack;
use crate::config::{Init, RunConfig};
use crate::data::BaseTokenizer;
use crate::error::{Error, Result};
use crate::event::Observer;
use crate::hub::{InputTrust, ModelDirectory, Supply};
use crate::model::inspect;
use crate::train::approval::Approval;
use crate::train::base_signature::{BaseSignature, base_signature, recorded};

/// The base with its adapters, every file of which was found to be signed, locked and allowed as
/// the run asks for.
pub struct RunStack {
    /// What the merged model is made of.
    pub stack: Stack,
    /// The adapters, for the lineage.
    pub records: Vec<BaseRecord>,
    /// Why base and adapters may be used.
    pub trust: InputTrust,
}

/// What a run stands on: the base `named`, or the model that it becomes with the adapters of the
/// configuration.
///
/// # Errors
/// When an adapter is not there, does not fit the base, or may not be used.
pub fn found(
    config: &RunConfig,
    supply: &Supply,
    named: ModelDirectory,
    approval: &Approval,
) -> Result<(ModelDirectory, Option<RunStack>)> {
    let names = &config.model.base_adapters;
    if names.is_empty() {
        return Ok((named, None));
    }
    if config.model.init == Init::Random {
        let what = "`model.base_adapters` cannot be used with `model.init = \"random\"`";
        return Err(Error::config(what)
            .because("they were trained on the weights of the base")
            .hint("leave one of them out"));
    }
    let tokenizer = BaseTokenizer::of(&config.model, &named.path)?;
    let description = inspect(&named.path)?.description;
    if adapters::of_run_on(config, (&tokenizer, &description))?.is_none() {
        let what = "`model.base_adapters` requires adapters to be trained";
        return Err(Error::config(what)
            .because("without them all parameters are trained, those that adapters change too")
            .hint(format!(
                "add {}; `firebrand merge` makes a base of adapters",
                adapters::asked_by()
            )));
    }
    let directories: Result<Vec<_>> = names.iter().map(|name| supply.named(name)).collect();
    let stack = Stack::look(named, directories?)?;
    let (base, files) = (&stack.base, &stack.base_files);
    let signed = base_signature(&base.path)?;
    files.iter().try_for_each(|file| signed.expect(&base.path, file))?;
    base.expect(files)?;
    let mut trust = approval.model(base, files)?;
    let mut records = Vec::new();
    for adapter in &stack.adapters {
        let signed = base_signature(&adapter.directory.path)?;
        adapter.directory.expect(&adapter.files)?;
        let record = recorded(&adapter.directory, &adapter.files, &signed, approval)?;
        trust = trust.min(record.trust);
        records.push(record);
    }
    let merged = stack.merged(supply)?;
    Ok((merged, Some(RunStack { stack, records, trust })))
}

/// The signature of a base, and what is known of the run that made it.
///
/// # Errors
/// When the base was changed since it was signed.
pub fn signed_base(
    base: &ModelDirectory,
    stack: Option<&RunStack>,
    observer: &mut dyn Observer,
) -> Result<(BaseSignature, Option<Parent>)> {
    let signed = base_signature(&base.path)?;
    let Some(of) = stack.map(|of| &of.stack.base) else {
        signed.tell(observer);
        let parent = parent_of(base, &signed)?;
        return Ok((signed, parent));
    };
    // What was made of the signed files has no signature of its own.
    let (_, parent) = signed_base(of, None, observer)?;
    Ok((signed, parent))
}

/// What is known of the run that made the base model.
fn parent_of(base: &ModelDirectory, signed: &BaseSignature) -> Result<Option<Parent>> {
    let mut parent = Parent::of(&base.path, signed.state)?;
    if let (Some(parent), Some(_)) = (&mut parent, base.commit()) {
        parent.name.clone_from(&base.id); // in the cache its folder is called by the commit
    }
    Ok(parent)
}
