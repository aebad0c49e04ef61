//! Every node follows what the store says of packs: content that is new comes here, what was withdrawn goes
//! (DESIGN §6). Announcements are the doorbell; a look now and then heals what they missed. Each node says in the store
//! what it has ([`super::reports`]).

use std::collections::HashMap;
use std::time::Duration;

use bus::{Event, Received, Topic};
use model::{Config, Id, Pack, PackContent, Resource};
use store::{Query, StoreExt};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::error::{InstallError, blocking};
use super::virtualenv::{self, Order};
use super::{Workshop, deploy, packs_root, reports};
use crate::config_files;

/// Between looks that nobody asked for.
const EVERY: Duration = Duration::from_secs(30);

/// After a first failure; it doubles.
const RETRY: Duration = Duration::from_secs(3);
const RETRY_MAX: Duration = Duration::from_secs(120);

/// For the virtualenv of one pack.
const BUILD: Duration = Duration::from_secs(600);

/// Packs that are brought at the same time.
const AT_ONCE: usize = 4;

/// Follows until `cancel`.
pub async fn follow(workshop: &Workshop, cancel: CancellationToken) {
    let mut events = workshop.services.bus.subscribe(&[Topic::Content]);
    let mut work = Work::default();
    loop {
        let pause = match look(workshop, &mut work).await {
            Ok(pause) => pause,
            Err(error) => {
                tracing::warn!(%error, "this node can't see which packs it is to have");
                RETRY
            }
        };
        let again = tokio::time::sleep(pause);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = &mut again => break,
                Some(done) = work.running.join_next() => {
                    work.ended(done);
                    break;
                }
                received = events.next() => match received {
                    Some(Received::Event(event)) if !concerns(&event) => {}
                    Some(_) => break,
                    None => return,
                },
            }
        }
    }
}

fn concerns(event: &Event) -> bool {
    let follows = [PackContent::COLLECTION.name, Config::COLLECTION.name];
    matches!(event, Event::Content { collection, .. } if follows.contains(&collection.as_str()))
}

/// What became of bringing one pack.
type Done = (String, Id, Result<(), InstallError>);

/// Packs on their way: one that takes long (a virtualenv) holds no other up.
#[derive(Debug, Default)]
struct Work {
    running: JoinSet<Done>,
    busy: HashMap<String, Id>,
    failed: HashMap<String, Failed>,
}

/// Content that could not be had.
#[derive(Debug)]
struct Failed {
    content: Id,
    pause: Duration,
    again: Instant,
}

impl Work {
    fn ended(&mut self, done: Result<Done, tokio::task::JoinError>) {
        let (pack, content, outcome) = match done {
            Ok(done) => done,
            Err(error) => {
                tracing::error!(%error, "bringing a pack panicked");
                // Which one it was isn't known any more: all that don't run are free again.
                self.busy.clear();
                return;
            }
        };
        self.busy.remove(&pack);
        match outcome {
            Ok(()) => drop(self.failed.remove(&pack)),
            Err(error) => {
                tracing::warn!(pack, %error, "the pack is not in force on this node");
                let before = self.failed.get(&pack).filter(|before| before.content == content);
                let pause = before.map_or(RETRY, |before| (before.pause * 2).min(RETRY_MAX));
                let again = Instant::now() + pause.mul_f64(1.0 + rand::random::<f64>() / 4.0);
                self.failed.insert(pack, Failed { content, pause, again });
            }
        }
    }

    /// Whether it may be tried now.
    fn is_due(&self, word: &PackContent) -> bool {
        let failed = self.failed.get(&word.pack).filter(|failed| failed.content == word.content);
        !self.busy.contains_key(&word.pack)
            && self.running.len() < AT_ONCE
            && failed.is_none_or(|failed| failed.again <= Instant::now())
    }
}

/// One look: begins what is missing, removes what was withdrawn; after how long to look again.
async fn look(workshop: &Workshop, work: &mut Work) -> Result<Duration, InstallError> {
    let words = workshop.services.store.search::<PackContent>(&Query::all()).await?;
    for word in &words {
        let word = &word.doc;
        if work.is_due(word) && !reports::is_done(&workshop.services, word).await? {
            work.busy.insert(word.pack.clone(), word.content);
            let (workshop, word) = (workshop.clone(), word.clone());
            work.running.spawn(async move {
                let outcome = bring(&workshop, &word).await;
                (word.pack, word.content, outcome)
            });
        }
    }
    config_files::follow(&workshop.services).await?;
    work.failed.retain(|pack, _| words.iter().any(|word| word.pack == *pack));
    let root = packs_root(&workshop.services.settings);
    let linked = blocking(move || Ok(deploy::linked(&root))).await?;
    for pack in linked.iter().filter(|pack| words.iter().all(|word| word.pack != **pack)) {
        // Asked again, for it may just have been installed.
        if deploy::wanted(&workshop.services, pack).await?.is_none() {
            tracing::info!(pack, "the pack was removed");
            deploy::remove(&workshop.services, pack).await?;
            virtualenv::remove(&workshop.services.settings.base_path, pack).await?;
        }
    }
    let now = Instant::now();
    let soon = work.failed.values().map(|failed| failed.again.saturating_duration_since(now)).min();
    Ok(soon.map_or(EVERY, |soon| soon.clamp(Duration::from_millis(100), EVERY)))
}

/// How a pack came.
enum Came {
    WasThere,
    New,
    /// Another content is wanted by now.
    TooLate,
}

/// Makes one pack be on this node as the store wants it: its files, its virtualenv, then both in force at once. What
/// came of it is said in the store.
pub async fn bring(workshop: &Workshop, word: &PackContent) -> Result<(), InstallError> {
    let services = &workshop.services;
    let attempt = async {
        if deploy::is_in_force(services, word).await? {
            let directory = deploy::fetch(services, word).await?;
            let order = Order { pack: &word.pack, pack_directory: &directory, anew: false, timeout: BUILD };
            virtualenv::ensure(workshop, order).await?;
            return Ok(Came::WasThere);
        }
        let directory = deploy::fetch(services, word).await?;
        let order = Order { pack: &word.pack, pack_directory: &directory, anew: false, timeout: BUILD };
        let environment = virtualenv::build(workshop, order).await?;
        let _turn = deploy::turn().await;
        // Since then another content may be wanted.
        if deploy::wanted(services, &word.pack).await?.is_none_or(|now| now.content != word.content) {
            return Ok(Came::TooLate);
        }
        // Whoever installs it and whoever follows are two.
        if deploy::is_in_force(services, word).await? {
            virtualenv::put_in_force(&services.settings.base_path, &word.pack, environment).await?;
            return Ok(Came::WasThere);
        }
        virtualenv::put_in_force(&services.settings.base_path, &word.pack, environment).await?;
        deploy::put_in_force(services, word).await?;
        Ok(Came::New)
    };
    let outcome: Result<Came, InstallError> = attempt.await;
    if !matches!(outcome, Ok(Came::TooLate)) {
        reports::say(services, word, outcome.as_ref().err()).await?;
    }
    if matches!(outcome?, Came::New) {
        tracing::info!(pack = word.pack, content = %word.content, "the pack is in force on this node");
        announce(workshop, &word.pack).await?;
    }
    Ok(())
}

/// Who runs a sensor of the pack looks whether its code is still the same.
async fn announce(workshop: &Workshop, pack: &str) -> Result<(), InstallError> {
    if let Some(row) = workshop.services.store.first::<Pack>(&Query::eq("ref", pack)).await? {
        workshop.services.bus.announce(std::sync::Arc::new(Event::Content {
            change: bus::Change::Update,
            collection: Pack::COLLECTION.name.to_owned(),
            id: row.doc.id,
            reference: row.doc.reference,
        }));
    }
    Ok(())
}

/// For whoever needs a pack right now: fetches it unless this node has what the store wants.
pub async fn ensure(workshop: &Workshop, pack: &str) -> Result<(), InstallError> {
    match deploy::wanted(&workshop.services, pack).await? {
        Some(word) if deploy::is_in_force(&workshop.services, &word).await? => Ok(()),
        Some(word) => bring(workshop, &word).await,
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The node keeps it as a task.
    #[test]
    fn following_can_be_a_task() {
        fn task<F: Future<Output = ()> + Send + 'static>(_role: impl FnOnce(CancellationToken) -> F) {}
        let role = |workshop: Workshop| {
            task(|cancel| async move {
                follow(&workshop, cancel).await;
            });
        };
        let _: fn(Workshop) = role;
    }
}
