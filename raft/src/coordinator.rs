//! The coordination port over the group: permits are commands, grants are heard from the log as this node applies it.

use async_trait::async_trait;
use coordinator::{Answer, Ask, Coordinator, CoordinatorError, Grant, Grants, Holder};
use sha2::{Digest, Sha256};

use crate::error::RaftError;
use crate::group::Group;
use crate::state::{Command, PermitHolder, Refusal, Response};

/// [`Coordinator`] by the consensus group: needs no other server. Cheap to clone.
///
/// It never forgets, so its generation is that of the cluster, for ever. Every call but [`Coordinator::check`] is a
/// command in the log, so calls are linearizable on whichever node they are made.
#[derive(Clone)]
pub struct RaftCoordinator {
    group: Group,
    generation: u64,
}

impl std::fmt::Debug for RaftCoordinator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RaftCoordinator").field("generation", &self.generation).finish_non_exhaustive()
    }
}

impl RaftCoordinator {
    pub fn new(group: Group) -> Self {
        let digest = Sha256::digest(group.cluster_id());
        let generation = digest.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte));
        Self { group, generation }
    }

    async fn call(&self, command: Command) -> Result<Response, CoordinatorError> {
        self.group.call(command).await.map_err(translate)
    }
}

fn unexpected() -> CoordinatorError {
    CoordinatorError::Unavailable("an answer that doesn't fit the command".to_owned())
}

#[async_trait]
impl Coordinator for RaftCoordinator {
    async fn acquire(&self, ask: Ask) -> Result<Answer, CoordinatorError> {
        coordinator::port::check_ask(&ask)?;
        let Ask { key, limit, request, wait } = ask;
        match self.group.call(Command::AskPermit { key, limit, request, wait }).await {
            Ok(Response::Granted { token, slot }) => Ok(Answer::Granted(Grant { slot, token })),
            Ok(Response::Queued { .. }) => Ok(Answer::Queued),
            Err(RaftError::Refused(Refusal::Busy)) => Ok(Answer::Busy),
            Ok(_) => Err(unexpected()),
            Err(error) => Err(translate(error)),
        }
    }

    async fn release(&self, key: &str, request: &str) -> Result<(), CoordinatorError> {
        coordinator::port::check_name("key", key)?;
        coordinator::port::check_name("request", request)?;
        let command = Command::GiveUpPermit { key: key.to_owned(), request: request.to_owned() };
        self.call(command).await.map(drop)
    }

    async fn restore(&self, key: &str, limit: u32, holders: &[Holder]) -> Result<(), CoordinatorError> {
        coordinator::port::check_holders(key, holders)?;
        let holders = holders.iter().map(|holder| (holder.request.clone(), holder.slot)).collect();
        self.call(Command::RestorePermits { key: key.to_owned(), limit, holders }).await.map(drop)
    }

    async fn holders(&self, key: &str) -> Result<Vec<(Holder, Grant)>, CoordinatorError> {
        coordinator::port::check_name("key", key)?;
        match self.call(Command::InspectPermits { key: key.to_owned() }).await? {
            Response::Holders(holders) => Ok(holders.into_iter().map(held).collect()),
            _ => Err(unexpected()),
        }
    }

    async fn generation(&self) -> Result<u64, CoordinatorError> {
        Ok(self.generation)
    }

    fn grants(&self) -> Box<dyn Grants> {
        self.group.grants()
    }

    async fn check(&self) -> Result<(), CoordinatorError> {
        self.group.check().map_err(translate)
    }
}

fn held(PermitHolder { request, slot, token }: PermitHolder) -> (Holder, Grant) {
    (Holder { request, slot }, Grant { slot, token })
}

fn translate(error: RaftError) -> CoordinatorError {
    match error {
        RaftError::Refused(Refusal::TooManyWaiters) => CoordinatorError::TooManyWaiters,
        RaftError::Refused(refusal) => CoordinatorError::Misuse(refusal.to_string()),
        RaftError::Stopped => CoordinatorError::Closed,
        other => CoordinatorError::Unavailable(other.to_string()),
    }
}
