//! Frames over the control socket: 8 bytes of length, little-endian, then JSON (`sdk/python/squall_host/child.py`).

use std::io;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// What `run` of the action returned.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    pub result: Value,
    /// The first member of a returned pair.
    pub status: Option<bool>,
}

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("the result of the action has {size} bytes, more than the limit max_result_size = {limit}")]
    TooLarge { size: u64, limit: usize },
    #[error("the result of the action can't be read: {0}")]
    Malformed(String),
}

/// Sends the request, then awaits the answer; `None` if the process ended without one.
pub async fn exchange(
    mut socket: UnixStream,
    request: &[u8],
    max_result: usize,
) -> Result<Option<Answer>, ControlError> {
    // A process that ended before it read all of the request says why on stderr.
    let sent = async {
        socket.write_all(&(request.len() as u64).to_le_bytes()).await?;
        socket.write_all(request).await
    };
    if sent.await.is_err() {
        return Ok(None);
    }
    let mut size = [0; 8];
    if socket.read_exact(&mut size).await.is_err() {
        return Ok(None);
    }
    let size = u64::from_le_bytes(size);
    let length = match usize::try_from(size) {
        Ok(length) if length <= max_result => length,
        // The socket closes and the child's write fails: it does not wait for us.
        _ => return Err(ControlError::TooLarge { size, limit: max_result }),
    };
    let mut payload = Vec::with_capacity(length.min(64 * 1024));
    match (&mut socket).take(size).read_to_end(&mut payload).await {
        Ok(read) if read == length => parse(&payload).map(Some),
        // It ended while it wrote.
        Ok(_) | Err(_) => Ok(None),
    }
}

fn parse(payload: &[u8]) -> Result<Answer, ControlError> {
    let malformed = |error: &dyn std::fmt::Display| ControlError::Malformed(error.to_string());
    let mut value: Value = serde_json::from_slice(payload).map_err(|error| malformed(&error))?;
    let object = value.as_object_mut().ok_or_else(|| malformed(&"it is no object"))?;
    Ok(Answer {
        status: object.get("status").and_then(Value::as_bool),
        result: object.get_mut("result").map(Value::take).unwrap_or_default(),
    })
}

/// Our end, and the child's.
pub fn pair() -> io::Result<(UnixStream, std::os::fd::OwnedFd)> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    Ok((UnixStream::from_std(ours)?, theirs.into()))
}
