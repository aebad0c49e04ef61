//! A workflow in the engine's hands, whatever language it is written in.

use expr::KeyRequest;
use model::resource::Object;
use model::{Id, Timestamp};

use super::job::{Effect, Job};
use super::{Answers, CHAIN, EngineError, Host, Read, chains, rows};
use crate::chain::{Chain, NeedsKeys};
use crate::changes::Changes;
use crate::orquesta::{ConductError, Env};
use crate::port::Drain;
use crate::rows::{Head, Timer};

/// A workflow, by its language.
#[derive(Debug)]
pub enum Work {
    Orquesta(Box<Job>),
    Chain(Box<Chain>),
}

/// Why a step wasn't decided.
#[derive(Debug)]
pub enum Trouble {
    /// These have to be fetched first.
    Keys(Vec<KeyRequest>),
    Conduct(ConductError),
}

impl From<ConductError> for Trouble {
    fn from(error: ConductError) -> Self {
        match error.keys() {
            Some(keys) => Self::Keys(keys.to_vec()),
            None => Self::Conduct(error),
        }
    }
}

impl From<NeedsKeys> for Trouble {
    fn from(NeedsKeys(keys): NeedsKeys) -> Self {
        Self::Keys(keys)
    }
}

impl Work {
    /// Reads it as it is stored.
    pub async fn load(drain: &dyn Drain, head: &Head) -> Result<Self, EngineError> {
        Ok(if head.engine == CHAIN {
            Self::Chain(Box::new(chains::load(drain, head).await?))
        } else {
            Self::Orquesta(Box::new(rows::load(drain, head).await?))
        })
    }

    pub fn id(&self) -> Id {
        match self {
            Self::Orquesta(job) => job.id,
            Self::Chain(chain) => chain.begin.id,
        }
    }

    pub fn is_finished(&self) -> bool {
        match self {
            Self::Orquesta(job) => job.is_finished(),
            Self::Chain(chain) => chain.status.is_completed(),
        }
    }

    /// Tells for whom keys are fetched.
    pub fn context(&self) -> Object {
        match self {
            Self::Orquesta(job) => {
                job.conductor.state().contexts.values().first().map(|first| Object::clone(first)).unwrap_or_default()
            }
            Self::Chain(chain) => chains::context_of(&chain.begin),
        }
    }

    /// What messages lead to. After an error it is half-way, and has to be loaded again.
    pub fn decide(
        &mut self,
        messages: &[Read],
        host: &dyn Host,
        answers: &Answers,
        now: Timestamp,
    ) -> Result<Vec<Effect>, Trouble> {
        let known = messages.iter().filter_map(|(_, source, content)| Some((*source, content.clone()?)));
        let mut effects = Vec::new();
        match self {
            Self::Orquesta(job) => {
                let expressions = host.expressions(answers.clone());
                for (source, content) in known {
                    effects.extend(job.take(source, content, Env { expressions: &*expressions, now })?);
                }
            }
            Self::Chain(chain) => {
                let keys = host.keys(answers.clone());
                for (source, content) in known {
                    effects.extend(chain.take(source, content, &*keys, now)?);
                }
            }
        }
        Ok(effects)
    }

    /// What a step has changed, that leads to revision `rev`.
    pub fn changes(
        &mut self,
        effects: Vec<Effect>,
        used: Vec<u64>,
        due: &[Timer],
        at: (u64, Timestamp),
    ) -> Result<Changes, EngineError> {
        match self {
            Self::Orquesta(job) => rows::changes(job, effects, used, due, at),
            Self::Chain(chain) => chains::changes(chain, effects, used, due, at),
        }
    }
}
