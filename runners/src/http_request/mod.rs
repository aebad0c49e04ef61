//! `http-request` (spec/runners.md §12).

mod body;
mod clients;
mod request;
mod response;

use async_trait::async_trait;
use model::Status;
use serde_json::json;

pub use clients::Clients;
pub use request::chain;

use crate::runner::{Ending, Failure, Run, Runner};
use crate::stop::StopReason;

#[derive(Debug)]
pub struct HttpRequest;

#[async_trait]
impl Runner for HttpRequest {
    async fn run(&self, run: &mut Run<'_>) -> Result<Ending, Failure> {
        let call = request::Call::from(&run.parameters, &run.action.name)?;
        let limit = run.host.options.output_limit;
        let exchange = async {
            let client = run.host.http.get(&call.connection)?;
            let answer = call.send(&client).await?;
            response::read(answer, limit).await
        };
        tokio::select! {
            answered = exchange => match answered {
                Ok(ending) => Ok(ending),
                Err(request::CallError::Timeout(text)) => Ok(Ending::new(Status::Timeout, json!({"error": text}))),
                Err(request::CallError::Failed(text)) => Err(Failure::new(text)),
            },
            reason = run.stop.next() => {
                let status = if reason == StopReason::Cancel { Status::Canceled } else { Status::Abandoned };
                Ok(Ending::new(status, json!({"error": "the request was stopped"})))
            }
        }
    }
}
