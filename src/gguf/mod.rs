//! Models in GGUF files, the format of llama.cpp, as a base to train from.
//!
//! A file is unpacked once, into a model directory of the usual form in the cache: `config.json`
//! and tokenizer from its metadata, and its tensors as safetensors. Quantised matrices keep their
//! blocks there, which are read as numbers exactly as ggml does it (`weights::ggml`). All else in
//! the program sees that directory. What of a file has no counterpart there is refused by name.
//!
//! Source: `docs/gguf.md` of ggml, `convert_hf_to_gguf.py` and `src/llama-vocab.cpp` of llama.cpp.

mod architectures;
mod codes;
mod facts;
mod families;
mod file;
mod gemma4;
mod heads;
mod metadata;
mod names;
mod qwen35;
mod splitting;
mod targets;
mod tokenizer;
mod unpack;

pub use codes::{BLOCK_BYTES, CODE_BYTES, CODES, to_ggml};
pub use file::GgufFile;
pub use heads::ValueHeads;
pub use names::{TURNED, Turn, last_norm, outside_to_gguf, tensor_to_gguf, turn};
pub use splitting::PATTERNS;
pub use unpack::{is_gguf, source_of, unpack};
