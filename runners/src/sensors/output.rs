//! What sensors write to stdout and stderr goes into the node's log, line by line.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Longer lines are cut into several.
const LINE_BYTES: usize = 8 * 1024;
/// Lines kept to tell why a process ended.
const TAIL: usize = 20;

/// The last lines of stderr.
#[derive(Debug, Clone, Default)]
pub struct Tail(Arc<Mutex<VecDeque<String>>>);

impl Tail {
    fn push(&self, line: &str) {
        let mut lines = self.0.lock();
        if lines.len() == TAIL {
            lines.pop_front();
        }
        lines.push_back(line.to_owned());
    }

    /// The last line that says something.
    pub fn last(&self) -> Option<String> {
        self.0.lock().iter().rev().find(|line| !line.trim().is_empty()).cloned()
    }
}

/// Which stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

/// Until the end of the stream.
pub async fn copy(mut source: impl AsyncRead + Unpin, stream: Stream, sensor: &str, tail: &Tail) {
    let mut bytes = Vec::with_capacity(LINE_BYTES);
    loop {
        let read = source.read_buf(&mut bytes).await;
        let ended = !matches!(read, Ok(count) if count > 0);
        while let Some(line) = take_line(&mut bytes, ended) {
            let line = String::from_utf8_lossy(&line).into_owned();
            write(stream, sensor, &line);
            if stream == Stream::Stderr {
                tail.push(&line);
            }
        }
        if ended {
            return;
        }
        bytes.reserve(LINE_BYTES);
    }
}

fn take_line(bytes: &mut Vec<u8>, ended: bool) -> Option<Vec<u8>> {
    let end = bytes.iter().position(|byte| *byte == b'\n').filter(|end| *end <= LINE_BYTES);
    let (length, next) = match end {
        Some(end) => (end, end + 1),
        None if bytes.len() > LINE_BYTES => (LINE_BYTES, LINE_BYTES),
        None if ended && !bytes.is_empty() => (bytes.len(), bytes.len()),
        None => return None,
    };
    let mut line: Vec<u8> = bytes.drain(..next).collect();
    line.truncate(length);
    Some(line)
}

fn write(stream: Stream, sensor: &str, line: &str) {
    match stream {
        Stream::Stdout => tracing::info!(target: "sensor", sensor, "{line}"),
        Stream::Stderr => tracing::warn!(target: "sensor", sensor, "{line}"),
    }
}

/// A record of the sensor's own logging, with a level as Python names it.
pub fn log(sensor: &str, level: &str, logger: &str, message: &str) {
    match level.to_ascii_uppercase().as_str() {
        "CRITICAL" | "FATAL" | "ERROR" => tracing::error!(target: "sensor", sensor, logger, "{message}"),
        "WARNING" | "WARN" => tracing::warn!(target: "sensor", sensor, logger, "{message}"),
        "DEBUG" | "TRACE" | "NOTSET" => tracing::debug!(target: "sensor", sensor, logger, "{message}"),
        _ => tracing::info!(target: "sensor", sensor, logger, "{message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_the_last_is_kept() {
        let tail = Tail::default();
        let long = "x".repeat(LINE_BYTES + 10);
        let text = format!("one\n{long}\nlast\n\n");
        copy(text.as_bytes(), Stream::Stderr, "p.S", &tail).await;
        assert_eq!(tail.last().as_deref(), Some("last"));
        let lengths: Vec<usize> = tail.0.lock().iter().map(String::len).collect();
        assert_eq!(lengths, [3, LINE_BYTES, 10, 4, 0]);
        let tail = Tail::default();
        copy(b"no newline\xff".as_slice(), Stream::Stderr, "p.S", &tail).await;
        assert_eq!(tail.last().as_deref(), Some("no newline\u{fffd}"));
    }
}
