//! The `squall` binary: arguments, configuration, then a node.

mod args;
mod cluster;
mod config;
mod data_dir;
mod health;
mod listen;
mod logging;
mod membership;
mod pack_test;
mod patience;
mod rbac;
mod roles;
mod run;
mod secrets;
mod servers;
mod show;
mod signals;
mod system_packs;
mod telemetry;
mod workflows;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, anyhow};
use clap::Parser;

use crate::args::{Arguments, Command, DevArguments, LogArguments, PackCommand, SensorArguments};
use crate::config::{Config, Listen};
use crate::run::Extras;

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Tests that failed have said so themselves.
            if let Some(pack_test::Failed(code)) = error.downcast_ref() {
                return ExitCode::from(*code);
            }
            if let Some(roles::SensorEnded(code)) = error.downcast_ref() {
                return ExitCode::from(u8::try_from(*code).unwrap_or(1));
            }
            let _ = writeln!(std::io::stderr(), "squall: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<()> {
    // Another provider can't be there yet: this is the first thing the process does with TLS.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (config, extras) = match arguments.command {
        Command::Config { config } => {
            let config = config::load(&Config::default(), config.as_deref())?;
            let _ = write!(std::io::stdout(), "{}", toml::to_string(&config)?);
            return Ok(());
        }
        Command::Cluster(command) => return cluster::run(command),
        Command::Rbac(command) => return rbac::run(command),
        Command::Pack(PackCommand::Test(test)) => return pack_test::run(&test),
        Command::Dev(dev) => {
            let mut config = dev_config(&dev)?;
            apply_sensor(&mut config, dev.sensor);
            (config, Extras { greet: true, demo: dev.demo })
        }
        Command::Server(server) => {
            let mut config = config::load(&Config::default(), Some(&server.config))?;
            apply_log(&mut config, &server.log);
            apply_sensor(&mut config, server.sensor);
            (config, Extras::default())
        }
    };
    logging::init(&config.log).map_err(|error| anyhow!(error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let outcome = runtime.block_on(run::run(config, extras));
    runtime.shutdown_timeout(std::time::Duration::from_secs(2));
    outcome
}

fn dev_config(dev: &DevArguments) -> Result<Config> {
    let mut config = config::load(&Config::default(), dev.config.as_deref())?;
    let configured = config.node.data_dir != Config::default().node.data_dir;
    if let Some(dir) = &dev.data_dir {
        config.node.data_dir.clone_from(dir);
    } else if !configured {
        config.node.data_dir = default_data_dir()?;
    }
    if let Some(address) = dev.listen {
        config.listen = Listen { combined: Some(address), ..Listen::none() };
    }
    apply_log(&mut config, &dev.log);
    Ok(config)
}

fn apply_sensor(config: &mut Config, sensor: SensorArguments) {
    if sensor.sensor_ref.is_some() {
        config.sensors.only = sensor.sensor_ref;
    }
}

fn apply_log(config: &mut Config, log: &LogArguments) {
    if let Some(format) = log.log_format {
        config.log.format = format;
    }
    if let Some(level) = &log.log_level {
        config.log.level.clone_from(level);
    }
}

fn default_data_dir() -> Result<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("XDG_DATA_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".local/share")))
        .map(|base| base.join("squall"))
        .ok_or_else(|| anyhow!("neither XDG_DATA_HOME nor HOME is set: give --data-dir"))
}
