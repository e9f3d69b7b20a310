//! Checkpoints of runs where commands take finished models.

use crate::checkpoint::NamedCheckpoint;
use crate::cli::talk;
use crate::error::Result;
use crate::report::{Console, Signals};
use crate::train::{Signer, checkpoint_model};

/// The name of a finished model; of a checkpoint (`RUN@best`), that of its artifact, which is made.
///
/// # Errors
/// When there is no such checkpoint, or it cannot be made into an artifact.
pub fn finished(name: &str, signer: Option<&Signer>) -> Result<String> {
    let Some(named) = NamedCheckpoint::parse(name)? else { return Ok(name.to_owned()) };
    let mut console = Console::new(Signals::default(), true, None);
    let artifact = checkpoint_model(&named, signer, &mut console)?.display().to_string();
    talk(&format!("`{name}` is {artifact}"));
    Ok(artifact)
}
