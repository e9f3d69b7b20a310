//! What families with mixtures of experts have in common.

use crate::error::Result;
use crate::model::ModelJson;

/// More experts of a layer than any model has.
const EXPERTS_MAX: usize = 1024;

/// How many experts there are, and how many of them compute a token.
pub(super) struct Counts {
    /// Of a layer.
    pub all: usize,
    /// Of a token.
    pub top_k: usize,
}

impl Counts {
    /// As transformers reads them, which has two names for the first.
    pub fn read(config: &ModelJson, all: usize, top_k: usize) -> Result<Self> {
        let keys = ["num_local_experts", "num_experts"];
        let mut found = None;
        for key in keys {
            let here = config.optional_size(key, EXPERTS_MAX)?;
            if let (Some(one), Some(other)) = (found, here)
                && one != other
            {
                return Err(config.wrong(key, &format!("is {other}, but `{}` is {one}", keys[0])));
            }
            found = found.or(here);
        }
        let all = found.unwrap_or(all);
        let key = "num_experts_per_tok";
        let top_k = config.optional_size(key, EXPERTS_MAX)?.unwrap_or(top_k);
        Self::checked(config, (keys[1], all), (key, top_k))
    }

    /// Two numbers under their keys.
    ///
    /// # Errors
    /// When there are more than in any model, or fewer than compute a token.
    pub fn checked(
        config: &ModelJson,
        (key_of_all, all): (&str, usize),
        (key, top_k): (&str, usize),
    ) -> Result<Self> {
        if all > EXPERTS_MAX {
            return Err(config.wrong(key_of_all, &format!("must be between 1 and {EXPERTS_MAX}")));
        }
        if top_k > all {
            return Err(config.wrong(key, &format!("is {top_k}, and there are {all} experts")));
        }
        Ok(Self { all, top_k })
    }
}

/// Refuses the auxiliary loss of routers, which transformers adds where scores are asked for; its
/// factor alone means nothing.
///
/// # Errors
/// When it is asked for.
pub(super) fn refuse_router_loss(config: &ModelJson) -> Result<()> {
    const KEY: &str = "output_router_logits";
    config.get("router_aux_loss_coef"); // it is asked for
    if config.flag(KEY, false)? {
        let what = "asks for the auxiliary loss of the router, which is not supported";
        return Err(config.wrong(KEY, what).hint(
            "set it to false in `config.json`: the router is then trained by the loss of the \
             tokens alone, or stays as it is beside an adapter",
        ));
    }
    Ok(())
}
