//! Requests to the provider: bounded in time and size, and never redirected, for a provider that could send this
//! service elsewhere could have it ask servers that only it can reach.

use std::error::Error;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use openidconnect::{ErrorResponse, HttpRequest, HttpResponse, RequestTokenError};

use super::SsoError;

/// A description, a set of keys or tokens that is larger is not read.
const LARGEST: usize = 1 << 20;

#[derive(Debug, Clone)]
pub(super) struct Http {
    client: reqwest::Client,
}

type Sending = Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send>>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error("{}", causes(.0))]
    Request(#[from] reqwest::Error),
    #[error("the answer is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("{0}")]
    Answer(#[from] ::http::Error),
}

/// The error with what lies below it; reqwest's own text doesn't say why.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        below = cause.source();
    }
    text
}

impl Http {
    pub(super) fn new(timeout: Duration, ca_file: Option<&Path>) -> Result<Self, Box<dyn Error>> {
        let mut builder = reqwest::Client::builder().timeout(timeout).redirect(reqwest::redirect::Policy::none());
        if let Some(file) = ca_file {
            let roots = reqwest::Certificate::from_pem_bundle(&std::fs::read(file)?)?;
            builder = builder.tls_certs_merge(roots);
        }
        Ok(Self { client: builder.build()? })
    }

    /// As `openidconnect` asks for it; boxed, for the compiler doesn't see through its lifetimes otherwise.
    pub(super) fn as_function(&self) -> impl Fn(HttpRequest) -> Sending + Send + Sync + 'static {
        let http = self.clone();
        move |request| {
            let http = http.clone();
            Box::pin(async move { http.send(request).await })
        }
    }

    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut answer = self.client.execute(request.try_into()?).await?;
        let mut built = ::http::Response::builder().status(answer.status());
        for (name, value) in answer.headers() {
            built = built.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST {
                return Err(HttpError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(built.body(body)?)
    }
}

/// A code that the provider refuses is the browser's fault; all else is the provider's.
pub(super) fn refusal<T: ErrorResponse>(error: RequestTokenError<HttpError, T>) -> SsoError {
    match error {
        RequestTokenError::ServerResponse(answer) => {
            SsoError::Refused(format!("the provider refused the code: {answer}"))
        }
        RequestTokenError::Request(error) => SsoError::Unavailable(error.to_string()),
        RequestTokenError::Parse(error, _) => SsoError::Unavailable(format!("tokens that can't be read: {error}")),
        RequestTokenError::Other(error) => SsoError::Unavailable(error),
    }
}
