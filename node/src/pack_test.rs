//! `squall pack test`: the tests of a pack, run by the SDK's `squall_host/pack_tests.py` (spec/packs.md §7).

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::args::PackTestArguments;

/// The tests ended with this exit code.
#[derive(Debug, thiserror::Error)]
#[error("the tests ended with exit code {0}")]
pub struct Failed(pub u8);

/// Runs the tests; what they print is passed through.
pub fn run(arguments: &PackTestArguments) -> Result<()> {
    let pack = directory(arguments)?;
    let cache = cache()?;
    std::fs::create_dir_all(&cache).with_context(|| format!("can't make {}", cache.display()))?;
    let sdk = runners::sdk::unpack(&cache).context("can't unpack the Python SDK")?;
    let mut command = Command::new(&arguments.python);
    command.arg(sdk.join("squall_host/pack_tests.py")).arg(&pack);
    command.arg("--virtualenvs").arg(cache.join("pack-tests"));
    if let Some(file) = &arguments.file {
        command.arg("--file").arg(file);
    }
    let flags = [
        (arguments.coverage, "--coverage"),
        (arguments.just_tests, "--just-tests"),
        (arguments.timing, "--timing"),
        (arguments.verbose, "--verbose"),
        (arguments.no_virtualenv, "--no-virtualenv"),
    ];
    command.args(flags.into_iter().filter_map(|(set, flag)| set.then_some(flag)));
    let status = command.status().with_context(|| format!("can't start {}", arguments.python.display()))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Failed(u8::try_from(code).unwrap_or(1)).into()),
        None => bail!("the tests were killed: {status}"),
    }
}

/// A directory as it is; else the pack of that name.
fn directory(arguments: &PackTestArguments) -> Result<PathBuf> {
    let given = PathBuf::from(&arguments.pack);
    if given.is_dir() {
        return Ok(given.canonicalize()?);
    }
    let data_dir = arguments.data_dir.clone().map_or_else(crate::default_data_dir, Ok)?;
    let pack = content::pack_dir::is_pack_ref(&arguments.pack).then(|| data_dir.join("packs").join(&arguments.pack));
    pack.filter(|path| path.is_dir())
        .ok_or_else(|| anyhow!("{} is neither a directory nor a pack in {}", arguments.pack, data_dir.display()))
}

fn cache() -> Result<PathBuf> {
    let given = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    given("XDG_CACHE_HOME")
        .or_else(|| given("HOME").map(|home| home.join(".cache")))
        .map(|base| base.join("squall"))
        .ok_or_else(|| anyhow!("neither XDG_CACHE_HOME nor HOME is set"))
}
