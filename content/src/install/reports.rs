//! What nodes say of the packs that they are to have, and waiting until all have said it (DESIGN §6).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::Topic;
use domain::Services;
use model::{Id, PackContent, PackReport};
use store::{Cond, Query, StoreExt};
use tokio::time::Instant;

use super::error::InstallError;
use super::{Workshop, deploy};
use crate::upsert::upsert;

/// Between looks at reports whose announcement was missed.
const LOOK: Duration = Duration::from_secs(1);

/// This node's name, where it has one.
fn name(services: &Services) -> &str {
    services.nodes.get().map_or("", |nodes| nodes.name())
}

fn own(services: &Services, pack: &str) -> Query {
    Query::eq("pack", pack).and(Cond::Eq("node", name(services).into()))
}

/// Whether this node has the pack as the store wants it, and has said so.
pub(super) async fn is_done(services: &Services, word: &PackContent) -> Result<bool, InstallError> {
    let said = services.store.first::<PackReport>(&own(services, &word.pack)).await?;
    let said = said.is_some_and(|said| said.doc.content == word.content && said.doc.error.is_none());
    Ok(said && deploy::is_in_force(services, word).await?)
}

/// Says what came of bringing the pack here.
pub(super) async fn say(
    services: &Services,
    word: &PackContent,
    error: Option<&InstallError>,
) -> Result<(), InstallError> {
    let query = own(services, &word.pack);
    let error = error.map(|error| error.to_string().chars().take(4000).collect::<String>());
    let said = services.store.first::<PackReport>(&query).await?;
    if said.is_some_and(|said| said.doc.content == word.content && said.doc.error == error) {
        return Ok(());
    }
    let now = services.now();
    let report = PackReport {
        id: Id::fresh(now),
        pack: word.pack.clone(),
        node: name(services).to_owned(),
        content: word.content,
        error,
        at: now,
    };
    Ok(upsert(services, &query, report).await?)
}

/// What all nodes have said of a pack, by their names.
pub async fn of_pack(services: &Services, pack: &str) -> Result<Vec<PackReport>, InstallError> {
    let mut reports: Vec<PackReport> =
        services.store.search::<PackReport>(&Query::eq("pack", pack)).await?.into_iter().map(|one| one.doc).collect();
    reports.sort_by(|a, b| a.node.cmp(&b.node));
    Ok(reports)
}

/// Nobody is to have the pack any more.
pub(super) async fn forget(services: &Services, pack: &str) -> Result<(), InstallError> {
    for report in of_pack(services, pack).await? {
        services.store.remove::<PackReport>(report.id).await?;
    }
    Ok(())
}

/// Waits until every node that is up has these packs in force, for `patience` at most; what to warn of.
pub(super) async fn wait(
    workshop: &Workshop,
    packs: &[String],
    patience: Duration,
) -> Result<Vec<String>, InstallError> {
    let services = &workshop.services;
    let deadline = Instant::now() + patience;
    let mut events = services.bus.subscribe(&[Topic::Content]);
    let mut told = BTreeSet::new();
    loop {
        let Some(up) = services.nodes.get().and_then(|nodes| nodes.with_packs()) else { return Ok(Vec::new()) };
        let mut failed = BTreeMap::new();
        let mut open = Vec::new();
        for pack in packs {
            let Some(word) = deploy::wanted(services, pack).await? else { continue };
            let reports = of_pack(services, pack).await?;
            for node in &up {
                let report = reports.iter().find(|one| one.node == *node && one.content == word.content);
                match report.map(|one| &one.error) {
                    None => open.push(format!("{node} ({pack})")),
                    Some(None) => {
                        if told.insert((node.clone(), pack.clone())) {
                            workshop.progress.say(format!("{pack} is in force on {node}"));
                        }
                    }
                    Some(Some(error)) => {
                        failed.insert((node.clone(), pack.clone()), error.clone());
                    }
                }
            }
        }
        let mut warnings: Vec<String> = failed
            .into_iter()
            .map(|((node, pack), error)| format!("Node \"{node}\" doesn't have pack \"{pack}\" yet: {error}"))
            .collect();
        if open.is_empty() {
            return Ok(warnings);
        }
        let now = Instant::now();
        if now >= deadline {
            warnings.push(format!("Not yet on all nodes: {}", open.join(", ")));
            return Ok(warnings);
        }
        // An announcement, or a look for what was missed.
        drop(tokio::time::timeout(LOOK.min(deadline - now), events.next()).await);
    }
}
