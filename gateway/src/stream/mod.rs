//! Server-sent events (spec/api.md §9): the event stream and the output of one execution.

pub mod events;
pub mod filter;
pub mod history;
pub mod hub;
pub mod output;

use axum::body::Body;
use bytes::Bytes;
use futures::Stream;
use http::header::{CACHE_CONTROL, HeaderName};

use crate::http::Reply;

/// An answer that goes on: event-stream headers over frames.
fn reply(frames: impl Stream<Item = Bytes> + Send + 'static) -> Reply {
    use futures::StreamExt;
    let frames = frames.map(Ok::<_, std::convert::Infallible>);
    Reply::raw("text/event-stream; charset=UTF-8", Body::from_stream(frames))
        .header(CACHE_CONTROL, "no-cache")
        .header(HeaderName::from_static("x-accel-buffering"), "no")
}

/// `event: <name>\ndata: <JSON>\n\n`. JSON has no raw newlines.
fn frame(name: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\ndata: {data}\n\n"))
}

/// Name of a chunk of output's event.
const OUTPUT_CREATED: &str = "st2.execution.output__create";

/// Sent at once and after a silence.
const HEARTBEAT: Bytes = Bytes::from_static(b"\n");
