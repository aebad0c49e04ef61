//! The whole way: `packs.install` and `packs.uninstall` (spec/packs.md §6.3).

use std::sync::Arc;
use std::time::Duration;

use model::{Id, PackContent};
use serde_json::{Value, json};

use super::error::InstallError;
use super::source::Source;
use super::steps::{Staged, Staging, missing, stage};
use super::virtualenv::{self, Order};
use super::{SYSTEM_PACKS, Workshop};
use super::{deploy, distribution, reports};
use crate::register::{Kind, RegisterRequest, register};
use crate::unload::unload;

/// Rounds of looking for dependencies of dependencies.
const ROUNDS: usize = 10;

/// How long other nodes may take that have no virtualenv to build.
const SPREAD: Duration = Duration::from_secs(30);

/// What to install.
#[derive(Debug, Clone)]
pub struct InstallRequest {
    pub packs: Vec<String>,
    /// Kinds to register; all if none is given.
    pub kinds: Option<Vec<Kind>>,
    /// Though the pack says that it doesn't run here.
    pub force: bool,
    pub skip_dependencies: bool,
    /// For each virtualenv.
    pub timeout: Duration,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// Refs, dependencies included.
    pub packs: Vec<String>,
    pub warnings: Vec<String>,
    /// Of packs that weren't installed while others were.
    pub failures: Vec<(String, String)>,
}

impl Installed {
    /// What StackStorm's workflow outputs.
    pub fn to_output(&self) -> Value {
        let failed = self.failures.iter().map(|(pack, reason)| format!("Pack \"{pack}\" was not installed: {reason}"));
        let warnings: Vec<String> = self.warnings.iter().cloned().chain(failed).collect();
        json!({
            "packs_list": self.packs,
            "message": "Successfully installed packs",
            "conflict_list": null,
            "warning_list": warnings,
        })
    }
}

/// Fetches, checks, distributes and registers packs with what they depend on. Unless it succeeds, nothing has changed.
pub async fn install(workshop: &Workshop, request: &InstallRequest) -> Result<Installed, InstallError> {
    let staging = Staging::make(workshop).await?;
    let mut indexes = None;
    let mut staged: Vec<Staged> = Vec::new();
    let mut done = Installed::default();
    let mut wanted = request.packs.clone();
    for round in 0..=ROUNDS {
        for text in std::mem::take(&mut wanted) {
            let source = Source::parse(&text);
            workshop.progress.say(format!("fetching {}", source.shown()));
            match stage(workshop, &staging, &mut indexes, &source, request.force).await {
                Ok(one) => {
                    workshop.progress.say(format!("{} {} is sound", one.pack.reference, one.pack.version));
                    staged.retain(|other| other.pack.reference != one.pack.reference);
                    staged.push(one);
                }
                // A pack without what it needs is not installed at all.
                Err(error) if round > 0 => {
                    return Err(InstallError::refused(format!("dependency {}: {error}", source.shown())));
                }
                Err(error) => done.failures.push((source.shown(), error.to_string())),
            }
        }
        if staged.is_empty() {
            let reasons: Vec<String> = done.failures.iter().map(|(pack, reason)| format!("{pack}: {reason}")).collect();
            return Err(InstallError::refused(format!("No packs have been downloaded. {}", reasons.join("\n"))));
        }
        if request.skip_dependencies {
            break;
        }
        let needed: Vec<String> = staged.iter().flat_map(|one| one.pack.dependencies.iter().cloned()).collect();
        let found = missing(workshop, &staged, &needed).await?;
        if !found.conflicts.is_empty() {
            let text = found.conflicts.join(", ");
            return Err(InstallError::refused(format!("One or more packs can't be installed: {text}")));
        }
        if found.sources.is_empty() {
            break;
        }
        if round == ROUNDS {
            return Err(InstallError::refused(format!("dependencies go deeper than {ROUNDS} levels")));
        }
        wanted = found.sources;
    }
    let mut builds = false;
    for one in &staged {
        let order =
            Order { pack: &one.pack.reference, pack_directory: &one.directory, anew: false, timeout: request.timeout };
        builds |= virtualenv::build(workshop, order).await?.is_some();
    }
    put_in_force(workshop, request, &mut staged).await?;
    for one in &staged {
        let versions = one.pack.python_versions.as_deref().unwrap_or_default();
        done.warnings.extend(python_2_warning(&one.pack.reference, versions));
        done.packs.push(one.pack.reference.clone());
    }
    let patience = if builds { request.timeout } else { SPREAD };
    done.warnings.extend(reports::wait(workshop, &done.packs, patience).await?);
    Ok(done)
}

/// What is said of packs that can't run on the Pythons of today.
pub fn python_2_warning(pack: &str, versions: &[String]) -> Option<String> {
    let only_2 = versions == ["2"];
    let text = "only supports Python 2.x, which nothing here runs any more.";
    only_2.then(|| format!("DEPRECATION WARNING: Pack {pack} {text}"))
}

/// Fetches and distributes packs without registering them: `{ref: "Success."}`, or why not.
pub async fn download(workshop: &Workshop, packs: &[String], force: bool) -> Result<Value, InstallError> {
    let staging = Staging::make(workshop).await?;
    let services = &workshop.services;
    let mut indexes = None;
    let mut status = model::Object::new();
    let mut any = packs.is_empty();
    for text in packs {
        let source = Source::parse(text);
        let done = async {
            let one = stage(workshop, &staging, &mut indexes, &source, force).await?;
            let pack = one.pack.reference;
            let old = deploy::wanted(services, &pack).await?;
            deploy::publish(services, &pack, one.bundle, &one.source).await?;
            distribution::ensure(workshop, &pack).await?;
            deploy::forget(services, &pack, old).await;
            Ok::<_, InstallError>(pack)
        };
        match done.await {
            Ok(pack) => {
                any = true;
                status.insert(pack, "Success.".into());
            }
            Err(error) => {
                status.insert(source.shown(), error.to_string().into());
            }
        }
    }
    if any {
        return Ok(status.into());
    }
    let reasons: Vec<String> = status.iter().map(|(pack, reason)| format!("{pack}: {reason}")).collect();
    Err(InstallError::refused(format!("No packs have been downloaded. {}", reasons.join("\n"))))
}

/// Distribution and registration; undone if one of them fails.
async fn put_in_force(
    workshop: &Workshop,
    request: &InstallRequest,
    staged: &mut [Staged],
) -> Result<(), InstallError> {
    let services = &workshop.services;
    let mut before = Vec::new();
    let attempt = async {
        for one in staged.iter_mut() {
            let pack = one.pack.reference.as_str();
            workshop.progress.say(format!("distributing {pack}"));
            let bytes = Arc::new(std::mem::take(&mut one.bundle));
            deploy::mend(services, pack, &bytes).await?;
            let bytes = Arc::unwrap_or_clone(bytes);
            let environment = virtualenv::current(&services.settings.base_path, pack).await;
            let old = deploy::wanted(services, pack).await?;
            before.push(Before { pack: pack.to_owned(), content: old, environment });
            deploy::publish(services, pack, bytes, &one.source).await?;
            distribution::ensure(workshop, pack).await?;
        }
        // Dependencies first: rules name triggers of other packs.
        let names: Vec<String> = staged.iter().rev().map(|one| one.pack.reference.clone()).collect();
        workshop.progress.say(format!("registering {}", names.join(", ")));
        let request = RegisterRequest { packs: Some(names), kinds: request.kinds.clone(), fail_on_failure: true };
        let counts = register(services, &request).await?;
        workshop.progress.say(Value::Object(counts.to_api()).to_string());
        Ok::<(), InstallError>(())
    };
    let outcome = attempt.await;
    match outcome {
        Ok(()) => {
            for one in before {
                deploy::forget(services, &one.pack, one.content).await;
            }
            Ok(())
        }
        Err(error) => {
            for one in before {
                if let Err(error) = undo(workshop, &one).await {
                    tracing::error!(pack = one.pack, %error, "what was installed of the pack can't be undone");
                }
            }
            Err(error)
        }
    }
}

/// What there was of a pack.
#[derive(Debug)]
struct Before {
    pack: String,
    content: Option<PackContent>,
    environment: Option<Id>,
}

/// Back to what there was.
async fn undo(workshop: &Workshop, before: &Before) -> Result<(), InstallError> {
    let services = &workshop.services;
    let pack = before.pack.as_str();
    let registers_again = match &before.content {
        Some(old) => {
            deploy::restore(services, old).await?;
            distribution::bring(workshop, old).await?;
            true
        }
        None => {
            unload(services, &[pack.to_owned()]).await?;
            deploy::withdraw(services, pack).await?;
            virtualenv::put_in_force(&services.settings.base_path, pack, before.environment).await?;
            let is_back = deploy::put_back(services, pack).await?;
            if !is_back {
                deploy::remove(services, pack).await?;
            }
            is_back
        }
    };
    if registers_again {
        let request = RegisterRequest { packs: Some(vec![pack.to_owned()]), kinds: None, fail_on_failure: false };
        register(services, &request).await?;
    }
    Ok(())
}

/// Removes packs: their resources, files and virtualenvs. Configurations and datastore keys stay.
pub async fn uninstall(workshop: &Workshop, packs: &[String]) -> Result<(), InstallError> {
    refuse_system_packs(packs)?;
    unload(&workshop.services, packs).await?;
    delete(workshop, packs, true).await
}

/// The files alone.
pub async fn delete(workshop: &Workshop, packs: &[String], virtualenvs: bool) -> Result<(), InstallError> {
    refuse_system_packs(packs)?;
    let services = &workshop.services;
    for pack in packs {
        deploy::withdraw(services, pack).await?;
        deploy::remove(services, pack).await?;
        if virtualenvs {
            virtualenv::remove(&services.settings.base_path, pack).await?;
        }
        workshop.progress.say(format!("removed {pack}"));
    }
    Ok(())
}

fn refuse_system_packs(packs: &[String]) -> Result<(), InstallError> {
    for pack in packs {
        if SYSTEM_PACKS.contains(&pack.as_str()) {
            return Err(InstallError::refused(format!("Uninstall includes an uninstallable pack - {pack}.")));
        }
        if !crate::pack_dir::is_pack_ref(pack) {
            return Err(InstallError::refused(format!("{pack:?} is no ref of a pack")));
        }
    }
    Ok(())
}
