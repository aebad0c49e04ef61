//! What travels over the broker, in versioned envelopes of JSON.
//!
//! A reader takes version 1 and ignores fields that it doesn't know. What needs more gets a new version, which is only
//! written once all nodes can read it; a job that can't be read goes to the dead letters, events count as lost.

use std::sync::Arc;

use bus::{Event, Job, Subject, Topic};
use model::{Id, Versioned};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

const VERSION: u32 = 1;

#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("version {0} of the format is not known")]
    Version(u32),
    #[error("the message can't be read: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// The version alone, for what can't be read otherwise.
#[derive(Deserialize)]
struct Versions {
    v: u32,
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8], version: impl Fn(&T) -> u32) -> Result<T, WireError> {
    let read = serde_json::from_slice::<T>(bytes);
    let found = match &read {
        Ok(message) => version(message),
        Err(_) => serde_json::from_slice::<Versions>(bytes).map_or(VERSION, |versions| versions.v),
    };
    if found == VERSION { Ok(read?) } else { Err(WireError::Version(found)) }
}

// --- jobs --------------------------------------------------------------------------------------------------------

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Execution,
    TriggerInstance,
}

impl Kind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Execution => "execution",
            Self::TriggerInstance => "trigger_instance",
        }
    }
}

#[derive(Serialize)]
struct JobOut<'a> {
    v: u32,
    kind: Kind,
    id: Id,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct JobIn<'a> {
    v: u32,
    kind: Kind,
    id: Id,
    #[serde(borrow, default)]
    hint: Option<&'a RawValue>,
}

/// A job's kind, for the message's properties: they are readable when the body isn't.
pub(crate) const fn kind_of(job: &Job) -> &'static str {
    match job {
        Job::Execution { .. } => Kind::Execution.as_str(),
        Job::TriggerInstance { .. } => Kind::TriggerInstance.as_str(),
    }
}

/// What a message's properties say it is about.
pub(crate) fn subject_of(kind: &str, id: &str) -> Option<Subject> {
    let id: Id = id.parse().ok()?;
    match kind {
        "execution" => Some(Subject::Execution(id)),
        "trigger_instance" => Some(Subject::TriggerInstance(id)),
        _ => None,
    }
}

/// The hint goes along if its JSON is not longer than `hint_limit`.
pub(crate) fn encode_job(job: &Job, hint_limit: usize) -> Result<Vec<u8>, WireError> {
    let (kind, hint) = match job {
        Job::Execution { hint, .. } => (Kind::Execution, raw(hint.as_deref(), hint_limit)?),
        Job::TriggerInstance { hint, .. } => (Kind::TriggerInstance, raw(hint.as_deref(), hint_limit)?),
    };
    Ok(serde_json::to_vec(&JobOut { v: VERSION, kind, id: job.id(), hint: hint.as_deref() })?)
}

fn raw<T: Serialize>(document: Option<&T>, limit: usize) -> Result<Option<Box<RawValue>>, WireError> {
    let Some(document) = document else { return Ok(None) };
    let text = serde_json::value::to_raw_value(document)?;
    Ok((text.get().len() <= limit).then_some(text))
}

/// A hint that can't be read is as good as none.
pub(crate) fn decode_job(bytes: &[u8]) -> Result<Job, WireError> {
    let job: JobIn<'_> = read(bytes, |job: &JobIn<'_>| job.v)?;
    Ok(match job.kind {
        Kind::Execution => Job::Execution { id: job.id, hint: hint(job.hint) },
        Kind::TriggerInstance => Job::TriggerInstance { id: job.id, hint: hint(job.hint) },
    })
}

fn hint<T: DeserializeOwned>(raw: Option<&RawValue>) -> Option<Arc<Versioned<T>>> {
    serde_json::from_str(raw?.get()).ok().map(Arc::new)
}

// --- events ------------------------------------------------------------------------------------------------------

/// Events of one process, in order; without any it only says that the process is there and how far it got.
#[derive(Serialize)]
struct BatchOut<'a> {
    v: u32,
    /// Number of the first event, counted from the start of the sending process.
    first: u64,
    /// Whether others should tell how far they got.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asks: bool,
    events: &'a [(Topic, Box<RawValue>)],
}

#[derive(Deserialize)]
struct BatchIn<'a> {
    v: u32,
    first: u64,
    #[serde(default)]
    asks: bool,
    #[serde(borrow)]
    events: Vec<(&'a RawValue, &'a RawValue)>,
}

/// A batch that came.
#[derive(Debug)]
pub(crate) struct Batch<'a> {
    pub first: u64,
    pub asks: bool,
    /// Topic and event, unread; an unknown topic is `None`.
    pub events: Vec<(Option<Topic>, &'a RawValue)>,
}

/// An event in the form in which a batch carries it.
pub(crate) fn encode_event(event: &Event) -> Result<(Topic, Box<RawValue>), WireError> {
    Ok((event.topic(), serde_json::value::to_raw_value(event)?))
}

pub(crate) fn encode_batch(first: u64, asks: bool, events: &[(Topic, Box<RawValue>)]) -> Result<Vec<u8>, WireError> {
    Ok(serde_json::to_vec(&BatchOut { v: VERSION, first, asks, events })?)
}

pub(crate) fn decode_batch(bytes: &[u8]) -> Result<Batch<'_>, WireError> {
    let batch: BatchIn<'_> = read(bytes, |batch: &BatchIn<'_>| batch.v)?;
    let events = batch.events.into_iter().map(|(topic, event)| (serde_json::from_str(topic.get()).ok(), event));
    Ok(Batch { first: batch.first, asks: batch.asks, events: events.collect() })
}

pub(crate) fn decode_event(raw: &RawValue) -> Result<Event, WireError> {
    Ok(serde_json::from_str(raw.get())?)
}

#[cfg(test)]
mod tests {
    use bus::Change;
    use model::{Timestamp, TriggerInstance};
    use serde_json::json;

    use super::*;

    fn id() -> Id {
        Id::from_bytes([7; 12])
    }

    fn instance() -> Arc<Versioned<TriggerInstance>> {
        let doc = json!({
            "id": id(), "trigger": "core.st2.webhook", "payload": {"a": 1}, "occurrence_time": Timestamp::default(),
            "status": "pending",
        });
        Arc::new(Versioned { rev: 3, doc: serde_json::from_value(doc).unwrap() })
    }

    #[test]
    fn jobs_survive() {
        let job = Job::Execution { id: id(), hint: None };
        let bytes = encode_job(&job, 10).unwrap();
        assert_eq!(
            String::from_utf8(bytes.clone()).unwrap(),
            format!(r#"{{"v":1,"kind":"execution","id":"{}"}}"#, id())
        );
        assert!(matches!(decode_job(&bytes).unwrap(), Job::Execution { id: which, hint: None } if which == id()));
        let job = Job::TriggerInstance { id: id(), hint: Some(instance()) };
        let Job::TriggerInstance { hint: Some(hint), .. } = decode_job(&encode_job(&job, 64 * 1024).unwrap()).unwrap()
        else {
            panic!()
        };
        assert_eq!(hint, instance());
        // Too large: it is read from the store.
        let bytes = encode_job(&job, 20).unwrap();
        assert!(matches!(decode_job(&bytes).unwrap(), Job::TriggerInstance { hint: None, .. }));
        assert_eq!(subject_of(kind_of(&job), &job.id().to_string()), Some(Subject::TriggerInstance(id())));
        assert_eq!(subject_of("other", &id().to_string()), None);
        assert_eq!(subject_of("execution", "x"), None);
    }

    /// A sample of version 1, kept: it must stay readable.
    #[test]
    fn old_samples_are_read() {
        let old = br#"{"v":1,"kind":"execution","id":"070707070707070707070707","hint":{"rev":"?"},"more":1}"#;
        assert!(matches!(decode_job(old).unwrap(), Job::Execution { id: which, hint: None } if which == id()));
        let old = br#"{"v":1,"first":4,"more":0,"events":[["Cancel",{"Cancel":{"execution":"070707070707070707070707"}}],["Later",{}]]}"#;
        let batch = decode_batch(old).unwrap();
        assert_eq!((batch.first, batch.asks, batch.events.len()), (4, false, 2));
        assert_eq!(batch.events[0].0, Some(Topic::Cancel));
        assert!(matches!(decode_event(batch.events[0].1).unwrap(), Event::Cancel { execution } if execution == id()));
        assert_eq!(batch.events[1].0, None);
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        assert!(matches!(decode_job(br#"{"v":2,"other":1}"#), Err(WireError::Version(2))));
        for bad in [&b"x"[..], b"", b"{}", br#"{"v":1}"#, br#"{"v":1,"kind":"cake","id":"070707070707070707070707"}"#] {
            assert!(matches!(decode_job(bad), Err(WireError::Malformed(_))));
        }
        assert!(matches!(decode_batch(br#"{"v":9,"first":0,"events":[]}"#), Err(WireError::Version(9))));
    }

    #[test]
    fn events_survive() {
        let events = [
            Event::Cancel { execution: id() },
            Event::Content { change: Change::Delete, collection: "rules".into(), id: id(), reference: "a.b".into() },
            Event::Announcement { route: "r".into(), payload: json!({"x": [1]}), trace_context: None },
        ];
        let encoded: Vec<_> = events.iter().map(|event| encode_event(event).unwrap()).collect();
        let bytes = encode_batch(5, true, &encoded).unwrap();
        let batch = decode_batch(&bytes).unwrap();
        assert!(batch.asks && batch.first == 5);
        for (sent, (topic, raw)) in events.iter().zip(batch.events) {
            assert_eq!(topic, Some(sent.topic()));
            assert_eq!(format!("{:?}", decode_event(raw).unwrap()), format!("{sent:?}"));
        }
    }
}
