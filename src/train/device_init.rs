//! The device of a run, opened while its data is read.

use crate::config::{DeviceChoice, PrecisionChoice, RunConfig};
use crate::device::{self, OpenedDevice, Precision};
use crate::error::{Error, Result};

/// Waits until the device is open.
pub type Opening = Box<dyn FnOnce() -> Result<(OpenedDevice, Precision)>>;

/// Opens the device and chooses the arithmetic. Looking for a GPU takes a while, since
/// drivers are loaded; a search cannot fail, and so it goes on while the data is read.
///
/// # Errors
/// When a device or an arithmetic is asked for that cannot be had.
pub fn begin(config: &RunConfig) -> Result<Opening> {
    let (name, threads) = (config.device.name, config.device.threads);
    let precision = config.train.precision;
    let open = move || {
        let opened = device::open(name, threads)?;
        let precision = device::precision(precision, &opened)?;
        Ok((opened, precision))
    };
    if name != DeviceChoice::Auto || precision != PrecisionChoice::Auto {
        let opened = open()?;
        return Ok(Box::new(move || Ok(opened)));
    }
    device::start_threads(threads)?;
    let opening = std::thread::spawn(open);
    Ok(Box::new(move || {
        opening.join().unwrap_or_else(|_| Err(Error::device("looking for a GPU failed")))
    }))
}
