//! Sends spans to a collector, in batches, without ever holding up those who make them.

use std::fmt;
use std::time::Duration;

use prost::Message;
use reqwest::header::CONTENT_TYPE;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::otlp::{
    ExportTraceServiceRequest, ExportTraceServiceResponse, KeyValue, Resource, ResourceSpans, Scope, ScopeSpans, Span,
};

/// Where spans go and how many wait.
#[derive(Clone)]
pub struct ExporterOptions {
    /// The collector's address; `/v1/traces` is added unless it ends so.
    pub endpoint: String,
    /// Added to each request: what the collector asks for. Never shown.
    pub headers: Vec<(String, String)>,
    pub service_name: String,
    pub node: String,
    pub version: String,
    /// Spans that may wait; more are dropped.
    pub queue: usize,
    /// Spans of one request.
    pub batch: usize,
    /// A span waits at most this long for others.
    pub delay: Duration,
    /// Of one request.
    pub timeout: Duration,
    /// Tries of one batch; then it is dropped.
    pub tries: u32,
}

impl ExporterOptions {
    pub fn new(endpoint: impl Into<String>, node: impl Into<String>) -> Self {
        Self {
            endpoint: endpoint.into(),
            headers: Vec::new(),
            service_name: "squall".to_owned(),
            node: node.into(),
            version: String::new(),
            queue: 8_192,
            batch: 512,
            delay: Duration::from_secs(1),
            timeout: Duration::from_secs(10),
            tries: 5,
        }
    }
}

impl fmt::Debug for ExporterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // endpoint and headers may hold credentials
        f.debug_struct("ExporterOptions").field("node", &self.node).field("batch", &self.batch).finish_non_exhaustive()
    }
}

/// Takes spans; clones share the queue.
#[derive(Debug, Clone)]
pub struct SpanQueue(mpsc::Sender<Span>);

impl SpanQueue {
    /// Adds spans; those for which there is no room are counted.
    pub(crate) fn add(&self, spans: impl IntoIterator<Item = Span>) {
        for span in spans {
            if self.0.try_send(span).is_err() {
                dropped("full", 1);
            }
        }
    }
}

fn dropped(reason: &'static str, count: usize) {
    metrics::counter!("squall_spans_dropped_total", "reason" => reason).increment(count as u64);
}

/// The task that sends. It ends when it is told to, with what is queued sent if the collector takes it.
#[derive(Debug)]
pub struct Exporter {
    options: ExporterOptions,
    url: String,
    client: reqwest::Client,
    spans: mpsc::Receiver<Span>,
}

/// Why a batch wasn't taken.
enum Refused {
    /// It may be taken later.
    Away(String),
    /// It never will.
    Bad(String),
}

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LAST_PAUSE: Duration = Duration::from_secs(10);

impl Exporter {
    /// The exporter and the queue that feeds it. An address that can't be one is an error.
    pub fn new(options: ExporterOptions) -> Result<(Self, SpanQueue), String> {
        let base = options.endpoint.trim_end_matches('/');
        let url = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        let client = reqwest::Client::builder().timeout(options.timeout).build().map_err(|error| error.to_string())?;
        // the address is looked at now, not when the first span is lost
        let parsed = client.post(&url).build().map_err(|error| error.without_url().to_string())?;
        if !matches!(parsed.url().scheme(), "http" | "https") {
            return Err("the address must begin with http:// or https://".to_owned());
        }
        let (sender, spans) = mpsc::channel(options.queue.max(1));
        Ok((Self { options, url, client, spans }, SpanQueue(sender)))
    }

    /// Sends until `cancel`.
    pub async fn run(mut self, cancel: CancellationToken) {
        let mut batch = Vec::new();
        loop {
            let limit = self.options.batch.max(1);
            let got = tokio::select! {
                got = self.spans.recv_many(&mut batch, limit) => got,
                () = cancel.cancelled() => break,
            };
            if got == 0 {
                return;
            }
            let full = async {
                while batch.len() < limit {
                    let room = limit - batch.len();
                    if self.spans.recv_many(&mut batch, room).await == 0 {
                        break;
                    }
                }
            };
            tokio::select! {
                _ = tokio::time::timeout(self.options.delay, full) => {}
                () = cancel.cancelled() => break,
            }
            self.deliver(std::mem::take(&mut batch), &cancel).await;
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() {
            // `cancel` is set: one try
            self.deliver(batch, &cancel).await;
        }
    }

    /// Tries until the collector takes it, refuses it, or has been away for too long.
    async fn deliver(&self, spans: Vec<Span>, cancel: &CancellationToken) {
        let count = spans.len();
        let body = self.request(spans).encode_to_vec();
        let mut pause = FIRST_PAUSE;
        for attempt in 1..=self.options.tries.max(1) {
            match self.post(body.clone()).await {
                Ok(refused) => {
                    let refused = usize::try_from(refused).unwrap_or(0).min(count);
                    metrics::counter!("squall_spans_exported_total").increment((count - refused) as u64);
                    if refused > 0 {
                        dropped("refused", refused);
                    }
                    return;
                }
                Err(Refused::Bad(error)) => {
                    tracing::warn!(%error, spans = count, "the trace collector refused spans");
                    return dropped("refused", count);
                }
                Err(Refused::Away(error)) if attempt == self.options.tries.max(1) || cancel.is_cancelled() => {
                    tracing::warn!(%error, spans = count, "the trace collector is away: spans are dropped");
                    return dropped("away", count);
                }
                Err(Refused::Away(error)) => tracing::debug!(%error, "the trace collector is away"),
            }
            let jitter = rand::random_range(0.5..1.0);
            tokio::select! {
                () = tokio::time::sleep(pause.mul_f64(jitter)) => {}
                // one more try, at once
                () = cancel.cancelled() => {}
            }
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// How many spans the collector left out.
    async fn post(&self, body: Vec<u8>) -> Result<i64, Refused> {
        let mut request = self.client.post(&self.url).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        for (name, value) in &self.options.headers {
            request = request.header(name, value);
        }
        // the URL may hold credentials
        let away = |error: reqwest::Error| Refused::Away(error.without_url().to_string());
        let answer = request.send().await.map_err(away)?;
        let status = answer.status();
        if status.is_success() {
            let bytes = answer.bytes().await.map_err(away)?;
            let parsed = ExportTraceServiceResponse::decode(bytes.as_ref()).unwrap_or_default();
            return Ok(parsed.partial_success.map_or(0, |partial| partial.rejected_spans));
        }
        let text = format!("status {}", status.as_u16());
        // as OTLP says: these may be tried again, others not
        Err(if matches!(status.as_u16(), 429 | 502 | 503 | 504) { Refused::Away(text) } else { Refused::Bad(text) })
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            KeyValue::text("service.name", self.options.service_name.as_str()),
            KeyValue::text("service.version", self.options.version.as_str()),
            KeyValue::text("service.instance.id", self.options.node.as_str()),
            KeyValue::text("host.name", self.options.node.as_str()),
        ];
        let scope = Some(Scope { name: "squall".to_owned(), version: self.options.version.clone() });
        ExportTraceServiceRequest {
            resource_spans: vec![ResourceSpans {
                resource: Some(Resource { attributes }),
                scope_spans: vec![ScopeSpans { scope, spans }],
            }],
        }
    }
}
