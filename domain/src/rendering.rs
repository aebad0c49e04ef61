//! Rendering with datastore keys fetched as templates ask for them.

use std::collections::HashMap;

use expr::{Context, KeyAnswer, KeyRequest, KeySource, RenderError};
use model::Object;

use crate::crypto::Crypto;
use crate::{DomainError, Services, datastore};

/// A template may look up keys named by other keys; past this many rounds it is refused.
const MAX_ROUNDS: usize = 50;

/// Keys fetched so far, for one rendering.
#[derive(Debug)]
struct Fetched<'a> {
    keys: HashMap<KeyRequest, KeyAnswer>,
    crypto: Option<&'a Crypto>,
}

impl KeySource for Fetched<'_> {
    fn get(&self, request: &KeyRequest) -> KeyAnswer {
        self.keys.get(request).cloned().unwrap_or(KeyAnswer::Unknown)
    }

    fn decrypt(&self, ciphertext: &str) -> Result<String, String> {
        let crypto = self.crypto.ok_or("no crypto key is configured")?;
        crypto.decrypt(ciphertext).map_err(|error| error.to_string())
    }
}

/// Runs `render` with a context over `vars`; when it asks for datastore keys, fetches them (user scope: of `user`)
/// and runs it again. Rendering is deterministic, so each round asks for new keys or ends.
///
/// The outer error is the store's; the inner is the rendering's own.
pub async fn with_keys<R, E>(
    services: &Services,
    user: &str,
    vars: &Object,
    render: impl Fn(&Context<'_>) -> Result<R, E> + Send,
) -> Result<Result<R, E>, DomainError>
where
    R: Send,
    E: NeedsKeys + Send,
{
    let mut fetched = Fetched { keys: HashMap::new(), crypto: services.crypto.as_ref() };
    for _ in 0..MAX_ROUNDS {
        let rendered = render(&Context { vars, keys: &fetched });
        let needed = match &rendered {
            Err(error) => error.needed().map(<[KeyRequest]>::to_vec),
            Ok(_) => None,
        };
        let Some(needed) = needed else { return Ok(rendered) };
        for request in needed {
            let found = datastore::get(services, request.scope, user, &request.name).await?;
            let answer = found
                .map_or(KeyAnswer::Absent, |pair| KeyAnswer::Value { secret: pair.doc.secret, value: pair.doc.value });
            fetched.keys.insert(request, answer);
        }
    }
    Err(DomainError::Invalid(format!("the template needs datastore keys in more than {MAX_ROUNDS} rounds")))
}

/// Errors that may be a request for datastore keys.
pub trait NeedsKeys {
    fn needed(&self) -> Option<&[KeyRequest]>;
}

impl NeedsKeys for RenderError {
    fn needed(&self) -> Option<&[KeyRequest]> {
        match self {
            Self::NeedsKeys(keys) => Some(keys),
            _ => None,
        }
    }
}

impl NeedsKeys for expr::criteria::MatchError {
    fn needed(&self) -> Option<&[KeyRequest]> {
        match self {
            Self::NeedsKeys(keys) => Some(keys),
            Self::UnknownOperator(_) => None,
        }
    }
}

impl NeedsKeys for expr::params::ParamError {
    fn needed(&self) -> Option<&[KeyRequest]> {
        match self {
            Self::Render(error) => error.needed(),
            Self::Invalid(_) | Self::Cast(_) => None,
        }
    }
}

pub use crate::pack_config::pack_config;
