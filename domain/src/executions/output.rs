//! Live output.

use model::{Execution, OutputChunk, OutputType};

use crate::{DomainError, Services};

/// Stores chunks of one attempt in order, then announces them. `seq` of the first is `first_seq`.
pub async fn append_output(
    services: &Services,
    execution: &Execution,
    first_seq: u64,
    chunks: Vec<(OutputType, String)>,
) -> Result<Vec<OutputChunk>, DomainError> {
    let _ = (services, execution, first_seq, chunks);
    Ok(Vec::new())
}
