//! Matrices that files have as codes, by the headers of the files.

use super::bitsandbytes::{QuantState, misfit, part_of, state_of};
use super::headers::Headers;
use crate::error::{Error, Result};
use crate::weights::Element;

/// Bytes of the text that says how a matrix is coded at most.
const STATE_BYTES_MAX: u64 = 1 << 12;

impl Headers {
    /// The same with one tensor for each matrix that is coded, in the place of its parts.
    ///
    /// # Errors
    /// When parts are missing, are left over, or do not fit each other.
    pub fn joined(mut self) -> Result<Self> {
        let states: Vec<String> =
            self.names().filter(|name| state_of(name).is_some()).map(str::to_owned).collect();
        for name in states {
            let matrix = state_of(&name).unwrap_or_default().to_owned();
            let state = self.state(&name).map_err(|error| error.at(&self.directory))?;
            self.coded.insert(matrix, state);
        }
        let (tensors, coded) = (std::mem::take(&mut self.tensors), &self.coded);
        for (name, mut found) in tensors {
            match (coded.get(&name), part_of(&name).filter(|matrix| coded.contains_key(*matrix))) {
                (_, Some(_)) => self.parts.push(found),
                (Some(state), None) => {
                    found.place.shape = state.shape.to_vec();
                    self.tensors.insert(name, found);
                }
                (None, None) if found.place.element == Element::U8 && !Element::is_coded(&name) => {
                    let what = format!("the weights hold codes in `{name}`");
                    let why = "nothing says what they stand for";
                    return Err(Error::weights(what).at(&self.directory).because(why));
                }
                (None, None) => {
                    self.tensors.insert(name, found);
                }
            }
        }
        Ok(self)
    }

    /// How a matrix is coded, if all of its parts are there.
    fn state(&self, name: &str) -> Result<QuantState> {
        let found = &self.tensors[name];
        if found.place.element != Element::U8 || found.place.bytes > STATE_BYTES_MAX {
            return Err(Error::weights(format!("`{name}` is not a text of a few bytes")));
        }
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // they are bytes
        let text: Vec<u8> = self.values(found)?.into_iter().map(|byte| byte as u8).collect();
        let state = QuantState::parse(name, &text)?;
        for (part, element, count) in state.parts(state_of(name).unwrap_or_default()) {
            let Some(found) = self.tensors.get(&part).map(|found| &found.place) else {
                let what = format!("the weights lack `{part}`");
                return Err(Error::weights(what).hint("is the download complete?"));
            };
            let numbers = found.shape.iter().product();
            if (found.element, numbers) != (element, count) {
                return Err(misfit(&part, found.element, numbers, element, count));
            }
        }
        Ok(state)
    }
}
