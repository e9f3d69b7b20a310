//! Tensors in files: safetensors with Hugging Face names, single or sharded, read whole and hashed;
//! and the formats in which memory holds them.

pub mod bitsandbytes;
mod block_matrix;
pub mod blockwise;
mod coded_headers;
mod coded_matrix;
pub mod dynamic;
mod e2m1;
mod element;
pub mod formats;
pub mod ggml;
mod header;
mod headers;
mod number_matrix;
pub mod mxfp4;
mod packed;
mod read;
mod spill;
mod stream;
mod vectors;
mod write;

pub use block_matrix::Blocks;
pub use element::{Element, RawNumbers, to_f32};
pub use header::{BLOCKS_KEY, TensorPlace};
pub use headers::{Headers, LocatedTensor};
pub use number_matrix::NumberMatrix;
pub use packed::{HEADER, Packed, Packing, packed_bytes};
pub use read::{INDEX_FILE, Shard, TensorBytes, shard_names};
pub use spill::{SpillFile, StoredBytes};
pub use stream::{OwnedTensor, ShardStream, read_tensors};
pub use write::{TensorSpec, write_safetensors, write_tensors};
