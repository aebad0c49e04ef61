//! `word-count`: how often each word is in the parameter `text`.

use async_trait::async_trait;
use model::{Object, Status};
use runners::runner::{Ending, Failure, Run, Runner};
use runners::stop::StopReason;
use serde_json::{Value, json};

#[derive(Debug)]
pub struct WordCount;

#[async_trait]
impl Runner for WordCount {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        // What the runner type declares is in `runner`, what the action declares in `action`.
        let text = run.parameters.runner.get("text").and_then(Value::as_str);
        let text = text.ok_or_else(|| Failure::new("text is required"))?.to_owned();
        let patience = run.parameters.action.get("patience").and_then(Value::as_f64).unwrap_or(0.0);
        tokio::select! {
            counted = count(&text, patience) => Ok(Ending::new(Status::Succeeded, json!({"words": counted}))),
            // Whatever was begun is over before this returns.
            reason = run.stop.next() => {
                let status = if reason == StopReason::Cancel { Status::Canceled } else { Status::Abandoned };
                Ok(Ending::new(status, json!({"error": "the count was stopped"})))
            }
        }
    }
}

async fn count(text: &str, patience: f64) -> Object {
    tokio::time::sleep(std::time::Duration::from_secs_f64(patience)).await;
    let mut counted = Object::new();
    for word in text.split_whitespace() {
        let before = counted.get(word).and_then(Value::as_u64).unwrap_or(0);
        counted.insert(word.to_owned(), (before + 1).into());
    }
    counted
}
