//! Fine-tunes language models on one GPU, or on the CPU. Read the modules in this order: each
//! uses only those above it.

pub mod allocator;
pub mod terminal;
pub mod error;
pub mod files;
pub mod random;
pub mod event;
pub mod stores;
pub mod document;
pub mod config;
pub mod weights;
pub mod gguf;
pub mod hub;
pub mod data;
pub mod grammar;
pub mod device;
pub mod ops;
pub mod model;
pub mod adapters;
pub mod scorers;
pub mod objectives;
pub mod engine;
pub mod rollouts;
pub mod trackers;
pub mod settings;
pub mod import;
pub mod presets;
pub mod checkpoint;
pub mod artifact;
pub mod verify;
pub mod compose;
pub mod evaluation;
pub mod coverage;
pub mod gate;
pub mod channel;
pub mod scan;
pub mod train;
pub mod reproduce;
pub mod review;
pub mod sweep;
pub mod export_job;
pub mod report;
pub mod mcp;
pub mod cli;

#[cfg(test)]
mod snapshots;
