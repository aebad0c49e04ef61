//! Long lists as they were last answered, kept while nothing changes.
//!
//! Clients ask for all actions again and again (the web UI, completion, Hubot), and get some hundred bytes for each:
//! rendering them takes far longer than sending them. What is kept is exact, not merely recent: it is used only where
//! the store says that the collection is what it was ([`store::Store::changes`]).

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::body::{Body, Bytes};
use http::header::{CONTENT_ENCODING, HeaderValue, VARY};
use parking_lot::Mutex;

use super::error::ApiError;
use super::gzip;
use super::reply::Reply;

/// Shorter answers are rendered as fast as they are looked up.
const SMALLEST: usize = 16 * 1024;
/// All that is kept; when it is full it begins anew.
const MOST_BYTES: usize = 32 << 20;

/// The collection, and all that the answer depends on beside its documents.
pub type Question = (&'static str, String);

/// The answers that are kept.
#[derive(Debug, Default)]
pub struct Rendered(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    answers: HashMap<Question, Arc<Answer>>,
    bytes: usize,
}

/// One list.
#[derive(Debug)]
pub struct Answer {
    /// Of the collection, when its documents were read.
    changes: u64,
    pub total: u64,
    body: Bytes,
    packed: OnceLock<Option<Bytes>>,
}

impl Rendered {
    /// The answer, if the collection still is what it was then.
    pub fn find(&self, question: &Question, changes: u64) -> Option<Arc<Answer>> {
        self.0.lock().answers.get(question).filter(|answer| answer.changes == changes).cloned()
    }

    /// Keeps an answer whose documents were read after the collection had `changes`.
    pub fn keep(&self, question: Question, changes: u64, total: u64, body: Bytes) -> Arc<Answer> {
        let size = body.len();
        let answer = Arc::new(Answer { changes, total, body, packed: OnceLock::new() });
        if !(SMALLEST..=MOST_BYTES).contains(&size) {
            return answer;
        }
        let mut kept = self.0.lock();
        if kept.bytes + size > MOST_BYTES {
            *kept = Kept::default();
        }
        kept.bytes += size;
        if let Some(old) = kept.answers.insert(question, answer.clone()) {
            kept.bytes -= old.body.len();
        }
        answer
    }
}

impl Answer {
    /// The list, compressed (once) for a client that takes that.
    pub async fn reply(self: &Arc<Self>, takes_gzip: bool) -> Result<Reply, ApiError> {
        let plain = || Reply::raw("application/json", Body::from(self.body.clone()));
        if !takes_gzip || self.body.len() < SMALLEST {
            return Ok(plain());
        }
        if self.packed.get().is_none() {
            let answer = self.clone();
            let packing = tokio::task::spawn_blocking(move || {
                answer.packed.get_or_init(|| gzip::pack(&answer.body).map(Bytes::from));
            });
            packing.await.map_err(|error| ApiError::internal(format!("compressing a list: {error}")))?;
        }
        let Some(Some(packed)) = self.packed.get() else { return Ok(plain()) };
        let mut reply = Reply::raw("application/json", Body::from(packed.clone()));
        reply.headers.push((CONTENT_ENCODING, HeaderValue::from_static("gzip")));
        reply.headers.push((VARY, HeaderValue::from_static("Accept-Encoding")));
        Ok(reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(text: &str) -> Question {
        ("actions", text.to_owned())
    }

    fn body(size: usize) -> Bytes {
        Bytes::from(vec![b'x'; size])
    }

    #[test]
    fn an_answer_is_used_while_nothing_changes() {
        let rendered = Rendered::default();
        rendered.keep(question("a"), 3, 7, body(SMALLEST));
        assert_eq!(rendered.find(&question("a"), 3).map(|answer| answer.total), Some(7));
        assert!(rendered.find(&question("a"), 4).is_none() && rendered.find(&question("b"), 3).is_none());
        rendered.keep(question("a"), 4, 8, body(SMALLEST + 1));
        assert_eq!(rendered.find(&question("a"), 4).map(|answer| answer.total), Some(8));
        assert_eq!(rendered.0.lock().bytes, SMALLEST + 1);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let rendered = Rendered::default();
        rendered.keep(question("short"), 1, 1, body(10));
        rendered.keep(question("huge"), 1, 1, body(MOST_BYTES + 1));
        assert!(rendered.0.lock().answers.is_empty());
        for n in 0..100 {
            rendered.keep(question(&n.to_string()), 1, 1, body(MOST_BYTES / 10));
            assert!(rendered.0.lock().bytes <= MOST_BYTES);
        }
        assert!(rendered.find(&question("99"), 1).is_some());
    }

    #[tokio::test]
    async fn it_is_compressed_once() {
        let rendered = Rendered::default();
        let answer = rendered.keep(question("a"), 1, 1, body(SMALLEST));
        assert!(answer.reply(false).await.unwrap().headers.iter().all(|(name, _)| name != CONTENT_ENCODING));
        for _ in 0..2 {
            let packed = answer.reply(true).await.unwrap();
            assert!(packed.headers.iter().any(|(name, value)| name == CONTENT_ENCODING && value == "gzip"));
            let bytes = axum::body::to_bytes(packed.body, usize::MAX).await.unwrap();
            assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < SMALLEST / 10);
        }
    }
}
