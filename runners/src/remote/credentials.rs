//! How a run logs in (spec/runners.md §8): password, key, or the node's agent.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::Object;
use russh::keys::{PrivateKey, decode_secret_key};

use super::options::{SshOptions, expand_home};
use crate::shell::execute::text;

/// What to log in with.
#[derive(Clone)]
pub enum Credential {
    Password(String),
    Key(Arc<PrivateKey>),
    /// The keys of the agent at this socket.
    Agent(PathBuf),
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Password(_) => "Password",
            Self::Key(_) => "Key",
            Self::Agent(_) => "Agent",
        })
    }
}

/// What the parameters say.
#[derive(Debug)]
pub enum Given {
    Credential(Credential),
    /// Nothing: each host's ssh configuration decides, then the node's settings.
    Nothing,
}

impl Given {
    pub async fn from(parameters: &Object) -> Result<Self, String> {
        if let Some(password) = text(parameters, "password") {
            return Ok(Self::Credential(Credential::Password(password.to_owned())));
        }
        let passphrase = text(parameters, "passphrase");
        let Some(key) = text(parameters, "private_key") else {
            return match passphrase {
                Some(_) => Err("passphrase should accompany private key material".to_owned()),
                None => Ok(Self::Nothing),
            };
        };
        let key = if key.to_ascii_lowercase().contains("private key-----") {
            decode(key.to_owned(), passphrase.map(str::to_owned)).await?
        } else {
            load(&expand_home(key), passphrase).await?
        };
        Ok(Self::Credential(Credential::Key(key)))
    }

    /// The credential for a host whose ssh configuration names `identity`.
    pub async fn for_host(&self, identity: Option<&Path>, options: &SshOptions) -> Result<Credential, String> {
        if let Self::Credential(credential) = self {
            return Ok(credential.clone());
        }
        let file: Option<PathBuf> = identity.map(Path::to_owned).or_else(|| options.key_file.clone());
        if let Some(file) = file {
            return Ok(Credential::Key(load(&file, None).await?));
        }
        let agent = options.agent.clone().map(Credential::Agent);
        agent.ok_or_else(|| "There is neither a password nor a private key to log in with".to_owned())
    }
}

async fn load(file: &Path, passphrase: Option<&str>) -> Result<Arc<PrivateKey>, String> {
    let text = tokio::fs::read_to_string(file).await;
    let text = text.map_err(|error| format!("Private key file {}: {error}", file.display()))?;
    match decode(text, passphrase.map(str::to_owned)).await {
        Err(_) if passphrase.is_none() && is_protected(file).await => {
            Err(format!("Private key file {} is passphrase protected. Supply a passphrase.", file.display()))
        }
        decoded => decoded,
    }
}

async fn is_protected(file: &Path) -> bool {
    let text = tokio::fs::read_to_string(file).await.unwrap_or_default();
    matches!(decode_secret_key(&text, None), Err(russh::keys::Error::KeyIsEncrypted)) || text.contains("ENCRYPTED")
}

/// Deriving the key of a protected one takes its time.
async fn decode(text: String, passphrase: Option<String>) -> Result<Arc<PrivateKey>, String> {
    let decoded = tokio::task::spawn_blocking(move || {
        let invalid = if passphrase.is_some() {
            "Invalid passphrase or invalid/unsupported key type"
        } else {
            "Invalid or unsupported key type"
        };
        decode_secret_key(&text, passphrase.as_deref()).map(Arc::new).map_err(|_| invalid.to_owned())
    });
    decoded.await.unwrap_or_else(|error| Err(error.to_string()))
}
