//! Programs from PyPI that drive a node, or that it asks: installed beside the binaries on first use.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary;

/// The folder of the programs of an environment with these packages; `None` if the package index can't be reached.
pub fn programs(environment: &str, packages: &[&str]) -> Result<Option<PathBuf>> {
    let beside = binary("squall");
    let venv = beside.parent().and_then(Path::parent).context("the target directory")?.join(environment);
    let (programs, complete) = (venv.join("bin"), venv.join("complete"));
    // Tests are processes of their own, and the first ones come at once.
    let lock = std::fs::File::create(venv.with_extension("lock"))?;
    lock.lock()?;
    if std::fs::read_to_string(&complete).is_ok_and(|made| made == packages.join(" ")) {
        return Ok(Some(programs));
    }
    let _ = std::fs::remove_dir_all(&venv);
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output()?;
    ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
    let installed = Command::new(programs.join("pip")).args(["install", "--quiet"]).args(packages).output()?;
    if !installed.status.success() {
        eprintln!("SKIPPED: can't install {packages:?}: {}", String::from_utf8_lossy(&installed.stderr));
        return Ok(None);
    }
    std::fs::write(complete, packages.join(" "))?;
    Ok(Some(programs))
}

/// StackStorm's own command line, to compare ours with.
pub fn stackstorms_client() -> Result<Option<PathBuf>> {
    let programs = programs("st2client-venv", &["setuptools<81", "st2client==3.9.0"])?;
    Ok(programs.map(|programs| programs.join("st2")))
}
