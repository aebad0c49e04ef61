//! StackStorm's own command line, to compare ours with.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::binary;

const CLIENT: &str = "st2client==3.9.0";

/// StackStorm's client, installed on first use; `None` if the package index can't be reached.
pub fn stackstorms_client() -> Result<Option<PathBuf>> {
    let beside = binary("st2");
    let venv = beside.parent().and_then(Path::parent).context("the target directory")?.join("st2client-venv");
    let client = venv.join("bin/st2");
    if venv.join("complete").is_file() {
        return Ok(Some(client));
    }
    let _ = std::fs::remove_dir_all(&venv);
    let made = Command::new("python3").args(["-m", "venv"]).arg(&venv).output()?;
    ensure!(made.status.success(), "python3 -m venv: {}", String::from_utf8_lossy(&made.stderr));
    let mut pip = Command::new(venv.join("bin/pip"));
    let installed = pip.args(["install", "--quiet", "setuptools<81", CLIENT]).output()?;
    if !installed.status.success() {
        eprintln!("SKIPPED: can't install {CLIENT}: {}", String::from_utf8_lossy(&installed.stderr));
        return Ok(None);
    }
    std::fs::write(venv.join("complete"), CLIENT)?;
    Ok(Some(client))
}
