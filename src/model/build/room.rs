//! What a model may be that is drawn from random numbers, before anything of it is.

use crate::device::memory_bytes_available;
use crate::error::{Error, Result};
use crate::event::bytes;
use crate::model::Description;

/// Weights are drawn for whole models alone.
///
/// # Errors
/// When the checkpoint holds something besides.
pub fn refuse_random(description: &Description) -> Result<()> {
    if description.names.is_whole() {
        return match description.coded().0 {
            0 => Ok(()),
            _ => Err(Error::model("there are no random weights in MXFP4")),
        };
    }
    let what = format!("there are no random weights for `{}`", description.model_type);
    let others = description.names.others.join("`, `");
    Err(Error::model(what).because(format!("it has parts that are not trained: `{others}`")))
}

/// Weights that are drawn have no files that they must fit, but the machine's memory.
///
/// # Errors
/// When they are larger than all that is left of it.
pub fn check_room(description: &Description) -> Result<()> {
    let needed = description.parameters.saturating_mul(4);
    match memory_bytes_available() {
        Some(left) if needed > left => {
            let (needed, left) = (bytes(needed), bytes(left));
            let what = "there is no memory for a model of the sizes in `config.json`";
            Err(Error::model(what).because(format!("its weights take {needed}, {left} are left")))
        }
        _ => Ok(()),
    }
}
