//! What an operator asks of a node of a cluster, over the nodes' own protocol: with a node's certificate.
//!
//! `squall cluster status|remove|transfer` call these with the certificate of the node on whose machine they run.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use crate::error::RaftError;
use crate::group::{Status, blocking};
use crate::network::peers::{Peers, answer};
use crate::network::tls::Tls;
use crate::network::wire::{AdminAnswer, AdminCall};
use crate::options::TlsFiles;

/// Deadline of one call; changes of the membership wait for a quorum.
const WITHIN: Duration = Duration::from_secs(15);
/// How often the leader may have changed meanwhile.
const HOPS: usize = 5;

/// The group as the node at `address` (`host:port`) sees it.
///
/// # Errors
/// [`RaftError::Certificate`], [`RaftError::NotAdmitted`] with the reason if the node can't be reached or refuses.
pub async fn status(address: &str, tls: &TlsFiles) -> Result<Status, RaftError> {
    match ask(address, tls, AdminCall::Status).await? {
        AdminAnswer::Status(status) => Ok(*status),
        other => Err(refused(other)),
    }
}

/// Removes a node; see [`Group::remove_node`](crate::Group::remove_node). Any member may be asked.
pub async fn remove(address: &str, tls: &TlsFiles, node: &str) -> Result<(), RaftError> {
    done(ask(address, tls, AdminCall::Remove { node: node.to_owned() }).await?)
}

/// Makes another voter the leader; see [`Group::transfer_leader`](crate::Group::transfer_leader).
pub async fn transfer(address: &str, tls: &TlsFiles, to: Option<&str>) -> Result<(), RaftError> {
    done(ask(address, tls, AdminCall::Transfer { to: to.map(str::to_owned) }).await?)
}

fn done(answer: AdminAnswer) -> Result<(), RaftError> {
    match answer {
        AdminAnswer::Done => Ok(()),
        other => Err(refused(other)),
    }
}

fn refused(answer: AdminAnswer) -> RaftError {
    match answer {
        AdminAnswer::Refused(reason) => RaftError::NotAdmitted(reason),
        AdminAnswer::NotLeader(leader) => RaftError::NotLeader { leader: leader.map(|leader| leader.name) },
        AdminAnswer::Done | AdminAnswer::Status(_) => RaftError::NotAdmitted("an answer that doesn't fit".to_owned()),
    }
}

async fn ask(address: &str, tls: &TlsFiles, call: AdminCall) -> Result<AdminAnswer, RaftError> {
    let files = tls.clone();
    let tls = Arc::new(blocking(move || Tls::load(files, false)).await?);
    let peers = Peers::new(0, tls.name(), String::new(), tls, Handle::current());
    let mut address = address.to_owned();
    for hop in 1.. {
        let asked = async {
            let request = peers.request(0, &call)?;
            let mut client = peers.client_at(&address)?;
            answer::<AdminAnswer>(client.admin(request), WITHIN).await
        };
        let answered = asked.await.map_err(|error| RaftError::NotAdmitted(format!("{address}: {error}")))?;
        match answered {
            AdminAnswer::NotLeader(Some(leader)) if hop < HOPS => address = leader.address,
            other => return Ok(other),
        }
    }
    Err(RaftError::NotLeader { leader: None })
}
