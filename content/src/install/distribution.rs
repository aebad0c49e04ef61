//! Every node follows what the store says of packs: content that is new comes here, what was withdrawn goes
//! (DESIGN §6). Announcements are the doorbell; a look now and then heals what they missed.

use std::time::Duration;

use bus::{Event, Received, Topic};
use model::{Pack, PackContent, Resource};
use store::{Query, StoreExt};
use tokio_util::sync::CancellationToken;

use super::error::{InstallError, blocking};
use super::virtualenv::{self, Order};
use super::{Workshop, deploy, packs_root};

/// Between looks that nobody asked for.
const EVERY: Duration = Duration::from_secs(30);

/// After a look that failed.
const RETRY: Duration = Duration::from_secs(3);

/// For the virtualenv of one pack.
const BUILD: Duration = Duration::from_secs(600);

/// Follows until `cancel`.
pub async fn follow(workshop: &Workshop, cancel: CancellationToken) {
    let mut events = workshop.services.bus.subscribe(&[Topic::Content]);
    loop {
        let pause = tokio::select! {
            () = cancel.cancelled() => return,
            looked = converge(workshop) => match looked {
                Ok(()) => EVERY,
                Err(error) => {
                    tracing::warn!(%error, "this node doesn't have the content of all packs yet");
                    RETRY
                }
            },
        };
        let again = tokio::time::sleep(pause);
        tokio::pin!(again);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                () = &mut again => break,
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
    matches!(event, Event::Content { collection, .. } if collection == PackContent::COLLECTION.name)
}

/// One look. A pack that can't be had doesn't keep the others away.
pub async fn converge(workshop: &Workshop) -> Result<(), InstallError> {
    let words = workshop.services.store.search::<PackContent>(&Query::all()).await?;
    let mut failed = None;
    for word in &words {
        if let Err(error) = one(workshop, word).await {
            tracing::warn!(pack = word.pack, %error, "the pack is not in force on this node");
            failed = Some(error);
        }
    }
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
    failed.map_or(Ok(()), Err)
}

/// Makes one pack be on this node as the store wants it.
async fn one(workshop: &Workshop, word: &PackContent) -> Result<(), InstallError> {
    let Some(directory) = deploy::follow(&workshop.services, word).await? else { return Ok(()) };
    tracing::info!(pack = word.pack, content = %word.content, "the pack is in force on this node");
    let order = Order { pack: &word.pack, pack_directory: &directory, anew: false, timeout: BUILD };
    virtualenv::ensure(workshop, order).await?;
    announce(workshop, &word.pack).await
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
        Some(word) => one(workshop, &word).await,
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
