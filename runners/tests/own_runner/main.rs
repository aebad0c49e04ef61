//! The example of docs/runners.md: it is this code, and it works.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

#[path = "../common/mod.rs"]
mod common;
mod word_count;

use std::sync::Arc;

use common::Bed;
use domain::Settings;
use domain::executions::cancel;
use model::Status;
use runners::Registry;
use serde_json::{Value, json};

const PAGE: &str = include_str!("../../../docs/runners.md");

/// The block of the page that begins so.
fn block(kind: &str) -> &'static str {
    let start = PAGE.find(&format!("```{kind}\n")).expect("the page has it") + kind.len() + 4;
    &PAGE[start..start + PAGE[start..].find("```").unwrap()]
}

#[test]
fn the_page_shows_this_code() {
    assert_eq!(block("rust"), include_str!("word_count.rs"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_runs() {
    let registry = Registry::default().with("word-count", Arc::new(word_count::WordCount));
    let bed = Bed::with_registry(Settings::default(), |_| {}, registry).await;
    let kind: Value = serde_json::from_str(block("json")).unwrap();
    bed.add_type(&kind).await;
    bed.add_action("test.count", "word-count", "", json!({"patience": {"type": "number", "default": 0}})).await;
    let (status, result) = bed.run("test.count", json!({"text": "to be or not to be"})).await;
    assert_eq!(status, Status::Succeeded, "{result}");
    assert_eq!(result, json!({"words": {"to": 2, "be": 2, "or": 1, "not": 1}}));
    let requested = bed.request("test.count", json!({"text": "a", "patience": 600})).await;
    bed.wait(requested.id, "runs", |execution| execution.status == Status::Running).await;
    cancel(&bed.services, requested.id, "ana").await.unwrap();
    assert_eq!(bed.completed(requested.id).await.status, Status::Canceled);
}
