//! Numbers on their way from a device. What reads a tensor of it stands behind everything that the
//! device was told before, so a copy is begun when the numbers are made, not when they are wanted.

#[cfg(feature = "gpu")]
use burn::tensor::DType;
use burn::tensor::Tensor;

use crate::ops::host;
#[cfg(feature = "gpu")]
use crate::ops::read_back;

/// A few numbers that are being copied to the host.
pub struct Reading(ReadingState);

enum ReadingState {
    Here(Tensor<1>),
    #[cfg(feature = "gpu")]
    Coming(on_device::Copy),
}

/// Begins to read numbers of 32 bits; what a device is told later does not delay them.
pub fn begin_reading(numbers: Tensor<1>) -> Reading {
    #[cfg(feature = "gpu")]
    if numbers.dtype() == DType::F32
        && let Ok(found) = numbers.clone().try_into_primitive::<burn_cubecl::CubeBackend>()
    {
        read_back(&numbers);
        return Reading(ReadingState::Coming(on_device::begin(found)));
    }
    Reading(ReadingState::Here(numbers))
}

impl Reading {
    /// Waits for the numbers. Where the device failed it panics, as every reading does
    /// ([`crate::device::attempt`]).
    pub fn wait(self) -> Vec<f32> {
        match self.0 {
            ReadingState::Here(numbers) => host(numbers),
            #[cfg(feature = "gpu")]
            ReadingState::Coming(copy) => on_device::wait(copy),
        }
    }
}

#[cfg(feature = "gpu")]
mod on_device {
    use std::task::{Context, Poll, Waker};

    use burn_cubecl::cubecl::future::{DynFut, block_on};
    use burn_cubecl::tensor::CubeTensor;

    /// Ends with the bytes, or what the device says.
    pub struct Copy {
        coming: DynFut<Result<Vec<u8>, String>>,
        /// Of one that was there at once.
        here: Option<Result<Vec<u8>, String>>,
    }

    pub fn begin(numbers: CubeTensor) -> Copy {
        let mut coming: DynFut<_> = Box::pin(async move {
            let read = numbers.client.read_async(vec![numbers.handle]).await;
            let read = read.map_err(|error| error.to_string())?;
            Ok(read.first().map(|bytes| bytes.to_vec()).unwrap_or_default())
        });
        // It tells the device when it is first asked.
        let here = match coming.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(bytes) => Some(bytes),
            Poll::Pending => None,
        };
        Copy { coming, here }
    }

    pub fn wait(copy: Copy) -> Vec<f32> {
        let bytes = copy.here.unwrap_or_else(|| block_on(copy.coming));
        let bytes = bytes.unwrap_or_else(|why| panic!("{why}"));
        let words = bytes.chunks_exact(4).map(|word| [word[0], word[1], word[2], word[3]]);
        words.map(f32::from_le_bytes).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::from_vec;
    use burn::tensor::Device;

    #[test]
    fn numbers_arrive_as_they_were() {
        let numbers = vec![1.5, -2.0, f32::INFINITY];
        let tensor = from_vec(numbers.clone(), [3], &Device::flex());
        assert_eq!(begin_reading(tensor).wait(), numbers);
    }
}
