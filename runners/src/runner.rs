//! What a runner is, what it gets and what it gives back.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use domain::Services;
use expr::params::FinalParameters;
use model::{Action, Execution, Object, Status, Versioned};
use serde_json::Value;

use crate::host::Host;
use crate::live::LiveOutput;
use crate::shell::outcome;
use crate::stop::Stop;

/// Runs actions of one runner type (or several alike).
///
/// To ensure correctness, a runner stops what it started when [`Run::stop`] says so, and leaves nothing running when
/// its future is dropped. It never touches the execution: the pool claims and finishes it.
#[async_trait]
pub trait Runner: Send + Sync + std::fmt::Debug {
    /// An error ends the execution as failed, with `{"error", "traceback"}` as its result.
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure>;
}

/// One attempt of an execution, claimed and with its parameters rendered.
#[derive(Debug)]
pub struct Run<'a> {
    pub host: &'a Host,
    pub services: &'a Arc<Services>,
    pub execution: &'a Arc<Versioned<Execution>>,
    pub action: &'a Action,
    pub parameters: FinalParameters,
    pub stop: Stop,
    pub live: LiveOutput,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ending {
    /// A completed status; or `running`: what the runner started goes on without it, and ends the execution; or
    /// `pending`: it waits for an answer.
    pub status: Status,
    pub result: Value,
    /// Added to the execution's context.
    pub context: Object,
}

impl Ending {
    pub fn new(status: Status, result: Value) -> Self {
        Self { status, result, context: Object::new() }
    }

    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Status::Failed, outcome::failure(text))
    }
}

/// A run that failed before it had a result; the text goes into one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Failure(pub String);

impl Failure {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<domain::DomainError> for Failure {
    fn from(error: domain::DomainError) -> Self {
        Self(error.to_string())
    }
}

impl Run<'_> {
    /// Who the execution runs for.
    pub fn user(&self) -> &str {
        self.execution.user().unwrap_or(&self.services.settings.system_user)
    }

    /// A token for the action's calls to the API; StackStorm gives one only where the context names a user.
    pub fn token(&self) -> Option<String> {
        let user = self.execution.user()?;
        let now = self.services.now();
        Some(self.host.tokens.issue(self.execution.id, user, now, self.host.options.token_ttl))
    }

    /// The variables `ST2_ACTION_…` (spec/runners.md §4).
    pub fn environment(&self, debug: bool) -> Vec<(String, String)> {
        let debug = if debug { "True" } else { "False" };
        let mut variables = vec![
            ("ST2_ACTION_PACK_NAME".to_owned(), self.action.pack.clone()),
            ("ST2_ACTION_EXECUTION_ID".to_owned(), self.execution.id.to_string()),
            ("ST2_ACTION_API_URL".to_owned(), self.host.options.api_url.clone()),
            ("ST2_ACTION_DEBUG".to_owned(), debug.to_owned()),
        ];
        if let Some(token) = self.token() {
            variables.push(("ST2_ACTION_AUTH_TOKEN".to_owned(), token));
        }
        variables
    }

    /// The directory of the action's pack, absolute.
    pub async fn pack_directory(&self) -> Result<PathBuf, Failure> {
        let pack = &self.action.pack;
        if let Some(found) = self.pack_on_disk(pack).await? {
            return Ok(found);
        }
        // Another node may have installed it a moment ago.
        let workshop = content::Workshop {
            services: self.services.clone(),
            python: self.host.python.own().await.ok(),
            environment: Vec::new(),
            progress: content::install::Progress::default(),
        };
        let fetched = content::install::distribution::ensure(&workshop, pack).await;
        fetched.map_err(|error| Failure::new(error.to_string()))?;
        if let Some(found) = self.pack_on_disk(pack).await? {
            return Ok(found);
        }
        // The row tells where the pack lay on the node that registered it, which may be another.
        let found = self.services.catalog.pack(pack).await.map_err(domain::DomainError::from)?;
        if let Some(path) = found.and_then(|pack| pack.path.clone())
            && tokio::fs::try_exists(&path).await.unwrap_or(false)
        {
            return Ok(std::path::absolute(path)?);
        }
        Err(Failure::new(format!("the directory of pack \"{pack}\" is not on this node")))
    }

    /// Where the action's files lie: in its pack, or in the revision of it that the run asks for.
    pub async fn content_directory(&self, pack_directory: &Path) -> Result<PathBuf, Failure> {
        let Some(version) = self.parameters.runner.get("content_version").and_then(Value::as_str) else {
            return Ok(pack_directory.to_owned());
        };
        if version.is_empty() {
            return Ok(pack_directory.to_owned());
        }
        let found = content::install::revision::at(self.services, &self.action.pack, pack_directory, version).await;
        found.map_err(|error| Failure::new(error.to_string()))
    }

    async fn pack_on_disk(&self, pack: &str) -> Result<Option<PathBuf>, Failure> {
        let candidates = self.services.settings.pack_dirs.iter().map(|directory| directory.join(pack));
        for candidate in candidates {
            if tokio::fs::try_exists(&candidate).await.unwrap_or(false) {
                // Installed packs are links to the revision in force: the run keeps the one that it began with.
                let is_link = tokio::fs::symlink_metadata(&candidate).await.is_ok_and(|meta| meta.is_symlink());
                let path = if is_link { tokio::fs::canonicalize(candidate).await? } else { candidate };
                return Ok(Some(std::path::absolute(path)?));
            }
        }
        Ok(None)
    }

    /// The action's file below its pack (spec/runners.md §2 step 2).
    pub fn entry_file(&self, pack_directory: &Path) -> Result<PathBuf, Failure> {
        let entry_point = self.action.entry_point.as_str();
        if entry_point.is_empty() {
            return Err(Failure::new("Missing entry_point action metadata attribute"));
        }
        let path = Path::new(entry_point);
        let is_plain = path.components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if path.is_absolute() {
            let within = path.starts_with(pack_directory) && !entry_point.split('/').any(|part| part == "..");
            return if within { Ok(path.to_owned()) } else { Err(outside(entry_point, pack_directory)) };
        }
        // `components` drops `//` and inner `./`, which StackStorm refuses as well.
        let is_normal = is_plain && path.components().collect::<PathBuf>().as_os_str() == path.as_os_str();
        if is_normal {
            Ok(pack_directory.join("actions").join(path))
        } else {
            Err(outside(entry_point, pack_directory))
        }
    }
}

fn outside(entry_point: &str, pack_directory: &Path) -> Failure {
    Failure::new(format!(
        "Invalid file path: \"{entry_point}\". File path needs to be relative to the actions of the pack directory \
         {} and may not leave it",
        pack_directory.display()
    ))
}
