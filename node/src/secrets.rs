//! Secrets that all nodes must share: the datastore's key, the secret of actions' tokens, the first administrator.
//!
//! A node on its own makes them at its first start and keeps them in its data directory. The nodes of a cluster agree
//! through the consensus group: each proposes what it has, or something new; the first proposal holds, and everybody
//! keeps a copy of that.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use domain::action_token::ActionTokens;
use domain::crypto::Crypto;
use serde::{Deserialize, Serialize};

use crate::data_dir::{Admin, DataDir};
use crate::membership::Membership;

/// What a node knows that nobody else may.
#[derive(Debug)]
pub struct Secrets {
    pub crypto: Option<Crypto>,
    pub tokens: ActionTokens,
    pub admin: Admin,
}

/// The environment's password for the administrator.
fn given_password() -> Option<String> {
    std::env::var("SQUALL_ADMIN_PASSWORD").ok().filter(|password| !password.is_empty())
}

/// Those of a node on its own. Blocks.
pub fn own(data: &DataDir, key_path: Option<&Path>) -> Result<Secrets> {
    let admin = data.admin(given_password().as_deref())?;
    let crypto = data.crypto(key_path)?;
    let tokens = ActionTokens::open(&data.action_token_secret())?;
    Ok(Secrets { crypto, tokens, admin })
}

/// The administrator, as the nodes agree on it.
#[derive(Serialize, Deserialize)]
struct AgreedAdmin {
    /// bcrypt.
    hash: String,
    /// If it was made up: so that every node's file tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password: Option<String>,
}

/// Those of the cluster. Asks the group, so a leader must be there.
///
/// # Errors
/// The group's, to be tried again, and those of the files.
pub async fn agreed(membership: &Membership, data: &DataDir, key_path: Option<PathBuf>) -> Result<Secrets> {
    let (proposals, own_key) = blocking({
        let data = data.clone();
        let given_key = key_path.is_some();
        move || proposals(&data, given_key)
    })
    .await?;
    let secret = membership.agree("action-token-secret", proposals.token_secret).await?;
    let admin = membership.agree("first-administrator", proposals.admin).await?;
    let key = match (&key_path, own_key) {
        (None, Some(proposal)) => Some(membership.agree("datastore-key", proposal).await?),
        _ => None,
    };
    let data = data.clone();
    blocking(move || {
        let secret: [u8; 32] =
            secret.try_into().map_err(|_| anyhow!("the agreed secret of action tokens doesn't have 32 bytes"))?;
        let crypto = match key {
            Some(key) => {
                let text = String::from_utf8(key).map_err(|_| anyhow!("the agreed datastore key is no text"))?;
                data.keep_agreed_key(&text)?;
                Some(Crypto::from_key_file(&text).context("the agreed datastore key")?)
            }
            None => data.crypto(key_path.as_deref())?,
        };
        let admin: AgreedAdmin = serde_json::from_slice(&admin).context("the agreed administrator")?;
        let admin = match given_password() {
            Some(password) => data.admin(Some(&password))?,
            None => data.adopt_admin(&admin.hash, admin.password.as_deref())?,
        };
        Ok(Secrets { crypto, tokens: ActionTokens::new(secret), admin })
    })
    .await
}

struct Proposals {
    token_secret: Vec<u8>,
    admin: Vec<u8>,
}

/// What this node would take; what lies in its directory goes before something new.
fn proposals(data: &DataDir, given_key: bool) -> Result<(Proposals, Option<Vec<u8>>)> {
    let token_secret = match std::fs::read(data.action_token_secret()) {
        Ok(secret) if secret.len() == 32 => secret,
        _ => rand::random::<[u8; 32]>().to_vec(),
    };
    let admin = match (given_password(), data.admin_hash()) {
        (None, Some(hash)) => AgreedAdmin { hash, password: None },
        (Some(password), _) => AgreedAdmin { hash: crate::data_dir::hash_password(&password)?, password: None },
        (None, None) => {
            let password = crate::data_dir::random_password();
            AgreedAdmin { hash: crate::data_dir::hash_password(&password)?, password: Some(password) }
        }
    };
    let key =
        if given_key { None } else { Some(data.own_key()?.unwrap_or_else(Crypto::generate_key_file).into_bytes()) };
    Ok((Proposals { token_secret, admin: serde_json::to_vec(&admin)? }, key))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await?
}
