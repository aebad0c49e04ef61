//! Starts and stops the servers that tests and trial clusters share.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(about = "MongoDB, RabbitMQ, PostgreSQL, Redis and ZooKeeper on private ports")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start them afresh and leave them running
    Up {
        /// Everything of theirs lies here
        #[arg(long)]
        dir: PathBuf,
        /// Write the addresses as shell variables
        #[arg(long)]
        env_file: Option<PathBuf>,
        /// Members of MongoDB's replica set
        #[arg(long, default_value_t = 1)]
        mongo_members: usize,
        /// mongodb, rabbitmq, postgres, redis, zookeeper; all if none is named
        which: Vec<String>,
    },
    /// End everything that was started below the directory
    Down {
        #[arg(long)]
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Up { dir, env_file, mongo_members, which } => {
            let mut text = String::new();
            for (variable, address) in servers::shared::up(&dir, &which, mongo_members)? {
                writeln!(text, "export {variable}='{address}'")?;
            }
            print!("{text}");
            if let Some(file) = env_file {
                std::fs::write(file, text)?;
            }
        }
        Command::Down { dir } => {
            if let Ok(dir) = std::fs::canonicalize(&dir) {
                servers::sweep(&dir)?;
                std::fs::remove_dir_all(&dir)?;
            }
        }
    }
    Ok(())
}
