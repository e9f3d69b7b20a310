//! Whole commands, parity, resume, hostile input: one program, so that all of it is linked once.
//!
//! `cargo test --release --test it` runs everything, `… --test it parity::` one file.

mod common;

mod added_tokens;
mod allowlist;
mod base_adapters;
mod best;
mod browser;
mod changes;
mod channel;
mod ci;
mod circles;
mod cli;
mod compare;
mod compose;
mod curriculum;
mod coverage;
#[cfg(target_os = "linux")] // `script` makes a terminal
mod dashboard;
mod device;
mod distillation;
mod doctor;
mod effect;
mod elsewhere;
mod eval;
mod examples;
mod experts;
mod export;
mod export_job;
mod factored_tables;
mod families;
#[cfg(unix)] // links, modes, signals
mod faults;
mod fuzz;
mod gate;
mod generate;
mod gguf_base;
mod gguf_families;
mod gradient_check;
mod hints;
mod hostile;
#[cfg(target_os = "linux")] // what a process takes
mod memory;
#[cfg(unix)] // links, pipes, signals
mod mcp;
#[cfg(unix)] // signals
mod mirrors;
mod models;
mod keyless;
mod named_runs;
#[cfg(unix)] // links, modes, signals
mod hub;
mod parity;
mod param_groups;
#[cfg(target_os = "linux")] // links, modes, signals
mod power_cut;
#[cfg(unix)] // links, modes, signals
mod published;
mod push;
mod records;
mod recurrent;
mod reproduce;
mod resident;
mod resume;
mod retract;
mod review;
mod reuse;
mod scan;
mod score_heads;
mod settings;
mod shaders;
mod signing;
mod start_adapter;
#[cfg(unix)] // signals
mod stores;
mod stream;
mod sweep;
mod terminal;
mod text_part;
mod threats;
mod tiles;
mod tidy;
mod trainable_tokens;
mod trained_biases;
mod vulkan;
mod weights;
mod whole_modules;
