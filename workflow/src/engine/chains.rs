//! Chains as rows: what a step writes, and how a chain is read again.
//!
//! | where | what |
//! |---|---|
//! | document `chain` | what it began with: definition, parameters, contexts |
//! | head | status, the node that runs, what was reported |
//! | cells `entry` | nodes that were run, by their number |
//! | cell `state`/`vars` | variables, what was published, the error |

use model::resource::Object;
use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::job::Effect;
use super::rows::{self, Loader, Out};
use super::{CHAIN, EngineError};
use crate::chain::{Begin, Chain, Current, Entry, Error};
use crate::changes::{Changes, Creation};
use crate::orquesta::Status;
use crate::port::Drain;
use crate::rows::{Head, HeadState, Timer};

#[derive(Debug, Serialize, Deserialize)]
struct HeadBody {
    current: Option<Current>,
    launches: u64,
    reported: Status,
    entries: usize,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Variables {
    vars: Object,
    published: Object,
    error: Option<Error>,
}

/// Tells for whom keys are fetched.
pub fn context_of(begin: &Begin) -> Object {
    Object::from_iter([("st2".to_owned(), Value::Object(begin.context.clone()))])
}

/// All of a new chain.
pub fn creation(chain: &mut Chain, effects: Vec<Effect>, now: Timestamp) -> Result<Creation, EngineError> {
    let mut changes = changes(chain, effects, Vec::new(), &[], (1, now))?;
    changes.document("chain", rows::json(&chain.begin)?.into_bytes());
    Ok(Creation { id: chain.begin.id, engine: CHAIN.to_owned(), changes })
}

/// What a step has changed, that leads to revision `rev`.
pub fn changes(
    chain: &mut Chain,
    effects: Vec<Effect>,
    used: Vec<u64>,
    due: &[Timer],
    (rev, now): (u64, Timestamp),
) -> Result<Changes, EngineError> {
    let body = HeadBody {
        current: chain.current.clone(),
        launches: chain.launches,
        reported: chain.reported,
        entries: chain.entries.len(),
    };
    let head = HeadState {
        execution: chain.begin.execution,
        status: chain.status.to_string(),
        finished: chain.status.is_completed().then_some(now),
        body: rows::json(&body)?,
    };
    let mut changes = Changes::new(head, now);
    changes.used = used;
    changes.cleared_timers = due.iter().map(|timer| timer.key.clone()).collect();
    let mut out = Out { changes: &mut changes };
    for (number, entry) in chain.entries.iter().enumerate().skip(chain.written) {
        out.cell("entry", &rows::key(number as u64), rows::json(entry)?);
    }
    let vars = json!({"vars": chain.vars, "published": chain.published, "error": chain.error});
    out.cell("state", "vars", rows::json(&vars)?);
    let (id, created) = (chain.begin.id.to_string(), chain.created);
    out.effects(effects, rev, |kind, at| Id::derive(kind, created, &[&id, &rev.to_string(), &at.to_string()]))?;
    chain.written = chain.entries.len();
    Ok(changes)
}

/// Reads a chain as it is stored.
pub async fn load(drain: &dyn Drain, head: &Head) -> Result<Chain, EngineError> {
    let loader = Loader { state: drain, workflow: head.id };
    let body: HeadBody = loader.parse(&head.body)?;
    let begin: Begin =
        loader.document("chain").await?.ok_or_else(|| loader.corrupt("the document chain is missing"))?;
    let mut chain = Chain::new(begin, head.created);
    chain.status =
        Status::parse(&head.status).ok_or_else(|| loader.corrupt(format!("the status '{}'", head.status)))?;
    let stored: Option<(String, Variables)> = loader.cells("state").await?.pop();
    let Variables { vars, published, error } = stored.map(|(_, stored)| stored).unwrap_or_default();
    (chain.vars, chain.published, chain.error) = (vars, published, error);
    chain.entries = loader.cells::<Entry>("entry").await?.into_iter().map(|(_, entry)| entry).collect();
    if chain.entries.len() != body.entries {
        return Err(loader.corrupt(format!("{} of {} entries", chain.entries.len(), body.entries)));
    }
    chain.written = body.entries;
    chain.current = body.current;
    chain.launches = body.launches;
    chain.reported = body.reported;
    Ok(chain)
}
