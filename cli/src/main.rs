//! `st2`: StackStorm's command line, native. Talks HTTP only; knows nothing of the server's crates but `model`.
//!
//! Words become a [`commands::Found`] (a table of commands, `commands` and `resources`), are read by `args`, and end in
//! one function per command that asks `http` and prints with `output`. Adding a resource is adding an entry to
//! [`resources::RESOURCES`].

mod aliases;
mod app;
mod args;
mod auth;
mod commands;
mod completion;
mod config;
mod context;
mod error;
mod executions;
mod form;
mod http;
mod ini;
mod keys;
mod man;
mod misc;
mod output;
mod packs;
mod params;
mod resources;
mod session;
mod tail;
mod trace;
mod verbs;

use std::process::ExitCode;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    // one thread does: a command waits for one answer at a time
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => ExitCode::from(runtime.block_on(app::main(&words))),
        Err(error) => {
            eprintln!("ERROR: cannot start: {error}");
            ExitCode::FAILURE
        }
    }
}
