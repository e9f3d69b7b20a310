//! The program for agents: a server of the Model Context Protocol on stdin and stdout.
//!
//! What a client asks for is hostile input: arguments are checked against a schema, paths stay
//! within one folder, and what writes or spends is a tool of its own, which is there only where the
//! person who started the server has allowed it. Work is done by processes of this program, so that
//! nothing that fails or is stopped takes the server with it.

mod arguments;
mod children;
mod confined_settings;
mod permission;
mod root;
mod run_status;
mod server;
mod tools;
mod workplace;

pub use permission::Permission;
pub use server::{ServerSettings, serve};
