//! Packs in git repositories, made for tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A repository that is being written.
#[derive(Debug)]
pub struct Repo {
    pub path: PathBuf,
}

impl Repo {
    /// An empty one.
    pub fn new(path: impl Into<PathBuf>) -> Result<Self> {
        let repo = Self { path: path.into() };
        std::fs::create_dir_all(&repo.path)?;
        repo.git(&["init", "--quiet"])?;
        Ok(repo)
    }

    /// One with a commit that holds a small pack: an action `say` that prints `word`.
    pub fn pack(path: impl Into<PathBuf>, name: &str, version: &str, word: &str) -> Result<Self> {
        let repo = Self::new(path)?;
        repo.write("pack.yaml", &manifest(name, version, ""))?;
        repo.write("actions/say.yaml", &say(word))?;
        repo.commit("one")?;
        Ok(repo)
    }

    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        write(&self.path, path, text)
    }

    /// Everything that is there.
    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "-A"])?;
        self.git(&["commit", "--quiet", "-m", message])?;
        Ok(())
    }

    /// What git printed.
    pub fn git(&self, args: &[&str]) -> Result<String> {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@t.example", "-c", "init.defaultBranch=main"];
        let output = Command::new("git").arg("-C").arg(&self.path).args(identity).args(args).output()?;
        ensure!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// What `pack install` takes.
    pub fn source(&self) -> String {
        format!("file://{}", self.path.display())
    }
}

/// A file of a pack in `root`, with its directories.
pub fn write(root: &Path, path: &str, text: &str) -> Result<()> {
    let path = root.join(path);
    std::fs::create_dir_all(path.parent().context("a file has a directory")?)?;
    Ok(std::fs::write(path, text)?)
}

/// A `pack.yaml`, with more lines at its end.
pub fn manifest(name: &str, version: &str, more: &str) -> String {
    format!("ref: {name}\nname: {name}\ndescription: d\nversion: {version}\nauthor: a\nemail: a@example.com\n{more}")
}

/// An action that prints a word.
pub fn say(word: &str) -> String {
    format!("name: say\nrunner_type: local-shell-cmd\nparameters:\n  cmd: {{default: echo {word}}}\n")
}
