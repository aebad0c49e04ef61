//! Live output.

use std::sync::Arc;

use bus::Event;
use model::{Execution, Id, OutputChunk, OutputType};
use store::Batch;

use crate::{DomainError, Services};

/// Stores chunks of one attempt in order, then announces them. `seq` of the first is `first_seq`.
///
/// Ids derive from execution, attempt and order, so that storing a chunk twice changes nothing.
pub async fn append_output(
    services: &Services,
    execution: &Execution,
    first_seq: u64,
    chunks: Vec<(OutputType, String)>,
) -> Result<Vec<OutputChunk>, DomainError> {
    if chunks.is_empty() || !services.settings.stream_output {
        return Ok(Vec::new());
    }
    let now = services.now();
    let (execution_id, attempt) = (execution.id.to_string(), execution.attempt.to_string());
    let chunk = |(index, (output_type, data)): (u64, (OutputType, String))| {
        let seq = first_seq + index;
        OutputChunk {
            id: Id::derive("output", execution.start_timestamp, &[&execution_id, &attempt, &seq.to_string()]),
            execution_id: execution.id,
            action_ref: execution.action.clone(),
            runner_ref: execution.runner_type.clone(),
            timestamp: now,
            output_type,
            data,
            seq,
        }
    };
    let stored: Vec<OutputChunk> = (0..).zip(chunks).map(chunk).collect();
    let mut batch = Batch::new();
    for chunk in &stored {
        batch.insert_or_ignore(chunk);
    }
    services.store.commit(batch).await?;
    for chunk in &stored {
        services.bus.announce(Arc::new(Event::Output(Arc::new(chunk.clone()))));
    }
    Ok(stored)
}
