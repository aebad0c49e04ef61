//! The `squall` binary.

mod args;
mod config;
mod data_dir;
mod logging;
mod system_packs;

fn main() {
    let _ = config::load(&config::Config::default(), None);
}
