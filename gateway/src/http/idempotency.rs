//! `Idempotency-Key` on POSTs: a client that didn't get an answer asks again, and nothing is done twice.
//!
//! What a user's key stands for is remembered in the store, with the answer, for a day: any node gives it again. While
//! the first request is worked on, a second one is asked to come back; if the first fails on our side, the next one is
//! taken as if it were the first. Executions need not wait: their ids derive from the key, so that two requests at a
//! time make one.

use std::time::Duration;

use axum::body::Body;
use domain::Services;
use http::header::{HeaderName, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode};
use model::idempotency::{NamedAnswer, NamedRequest};
use model::{Id, Timestamp, Versioned};
use sha2::{Digest, Sha256};
use store::{StoreError, StoreExt};

use super::{ApiError, Reply};

const KEY: HeaderName = HeaderName::from_static("idempotency-key");
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const LONGEST_KEY: usize = 255;
/// Answers are kept that long.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// A request that is not answered by then was lost with its node.
const HELD: Duration = Duration::from_secs(60);
/// Larger answers aren't kept.
const LARGEST_ANSWER: usize = 1024 * 1024;
/// Who loses a race against another request of the same key tries again so often.
const TRIES: usize = 5;
/// Answers that hold a secret, which isn't kept.
const SECRET: &str = "/apikeys";
/// What makes no second one of itself.
const DERIVED: &str = "/executions";

/// The key that a request carries.
pub fn key(headers: &HeaderMap, method: &Method) -> Result<Option<String>, ApiError> {
    let Some(value) = headers.get(KEY).filter(|_| method == Method::POST) else { return Ok(None) };
    match value.to_str() {
        Ok(text) if !text.is_empty() && text.len() <= LONGEST_KEY => Ok(Some(text.to_owned())),
        _ => {
            Err(ApiError::bad_request(format!("\"Idempotency-Key\" must be 1 to {LONGEST_KEY} printable characters.")))
        }
    }
}

/// A request that is ours to do.
#[derive(Debug)]
pub struct Held {
    record: Versioned<NamedRequest>,
    pattern: &'static str,
    user: String,
    key: String,
}

/// What becomes of a request with a key.
#[derive(Debug)]
pub enum Begun {
    Do(Box<Held>),
    Answered(Reply),
}

/// Looks the key up, or remembers it.
pub async fn begin(
    services: &Services,
    user: &str,
    key: String,
    parts: &Parts,
    body: &[u8],
    pattern: &'static str,
) -> Result<Begun, ApiError> {
    let fingerprint = fingerprint(parts, body);
    for _ in 0..TRIES {
        let now = services.now();
        let fresh = NamedRequest {
            id: NamedRequest::id_of(user, &key),
            fingerprint: fingerprint.clone(),
            created_at: now,
            held_until: now.plus(HELD),
            expires_at: now.plus(KEPT),
            answer: None,
        };
        let held = |record| Held { record, pattern, user: user.to_owned(), key: key.clone() };
        if services.store.insert_or_ignore(&fresh).await? {
            return Ok(Begun::Do(Box::new(held(Versioned { rev: 1, doc: fresh }))));
        }
        let Some(mut known) = services.store.read::<NamedRequest>(fresh.id).await? else { continue };
        if known.expires_at <= now {
            known.doc = fresh;
        } else {
            if known.fingerprint != fingerprint {
                let fault = "\"Idempotency-Key\" was used for another request.";
                return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, fault));
            }
            if let Some(answer) = known.doc.answer {
                return Ok(Begun::Answered(again(answer)));
            }
            if known.held_until > now && pattern != DERIVED {
                let fault = "The first request with this \"Idempotency-Key\" is being worked on.";
                return Err(ApiError { retry_after: Some(1), ..ApiError::new(StatusCode::CONFLICT, fault) });
            }
            known.doc.held_until = now.plus(HELD);
        }
        match services.store.update(known).await {
            Ok(record) => return Ok(Begun::Do(Box::new(held(record)))),
            // Another request with this key was faster.
            Err(StoreError::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(ApiError { retry_after: Some(1), ..ApiError::new(StatusCode::CONFLICT, "Too many requests with one key.") })
}

fn fingerprint(parts: &Parts, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [parts.method.as_str(), parts.uri.path(), parts.uri.query().unwrap_or_default()] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.update(body);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn again(answer: NamedAnswer) -> Reply {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let header = |(name, value): (String, String)| Some((name.parse().ok()?, HeaderValue::from_str(&value).ok()?));
    let headers = answer.headers.into_iter().filter_map(header).collect();
    Reply { status, headers, body: Body::from(answer.body) }.header(REPLAYED, "true")
}

impl Held {
    /// The id of what the request makes.
    pub fn id(&self) -> Id {
        Id::derive("named-request", self.record.created_at, &[&self.user, &self.key])
    }

    /// Remembers the answer. One that is a failure of ours, or says that it is too early, frees the key instead.
    pub async fn finish(mut self, services: &Services, outcome: Result<Reply, ApiError>) -> Result<Reply, ApiError> {
        let mut reply = match outcome {
            Ok(reply) => reply,
            Err(error) if error.status.is_server_error() || error.retry_after.is_some() => {
                self.record.doc.held_until = Timestamp::default();
                self.store(services).await;
                return Err(error);
            }
            Err(error) => Reply::from(&error),
        };
        let bytes = axum::body::to_bytes(reply.body, usize::MAX).await;
        let bytes = bytes.map_err(|error| ApiError::internal(format!("body of an answer: {error}")))?;
        self.record.doc.answer = self.answer(&reply.status, &reply.headers, &bytes);
        if self.record.doc.answer.is_none() {
            self.record.doc.held_until = Timestamp::default();
        }
        self.store(services).await;
        reply.body = Body::from(bytes);
        Ok(reply)
    }

    fn answer(&self, status: &StatusCode, headers: &[(HeaderName, HeaderValue)], body: &[u8]) -> Option<NamedAnswer> {
        if self.pattern == SECRET && status.is_success() {
            let done =
                "The request with this \"Idempotency-Key\" was done; its answer held a secret, which isn't kept.";
            let error = ApiError::new(StatusCode::CONFLICT, done);
            let headers = vec![("content-type".to_owned(), "application/json".to_owned())];
            return Some(NamedAnswer { status: error.status.as_u16(), headers, body: error.body() });
        }
        if body.len() > LARGEST_ANSWER {
            return None;
        }
        let text =
            |(name, value): &(HeaderName, HeaderValue)| Some((name.to_string(), value.to_str().ok()?.to_owned()));
        Some(NamedAnswer {
            status: status.as_u16(),
            headers: headers.iter().filter_map(text).collect(),
            body: String::from_utf8(body.to_vec()).ok()?,
        })
    }

    /// The request is done whether this succeeds or not; if not, a repetition is worked on again.
    async fn store(self, services: &Services) {
        match services.store.update(self.record).await {
            // Another request with the key took it over.
            Ok(_) | Err(StoreError::Stale { .. }) => {}
            Err(error) => tracing::warn!(%error, "the answer to a request with an idempotency key isn't kept"),
        }
    }
}
