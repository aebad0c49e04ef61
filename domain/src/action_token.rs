//! Tokens that running actions carry in `ST2_ACTION_AUTH_TOKEN`: signed, short-lived, and checked without the store.
//!
//! StackStorm stores a token row for each execution; that is a durable write (and a delete) per action. These tokens
//! hold what the check needs: the execution, its user and when it ends, under an HMAC-SHA256 with a secret of the data
//! directory. Every node that serves the API needs the same secret as the nodes that run actions.
//!
//! **For the gateway**: a token that begins with [`PREFIX`] is one of these. [`ActionTokens::verify`] says who it is:
//! authenticate the request as [`ActionToken::user`], as a service token (spec/auth-rbac.md); it is in no collection,
//! so it can't be listed or revoked before it expires. Whoever wants the stricter rule that a token ends with its
//! execution looks whether [`ActionToken::execution`] is completed.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use model::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How these tokens begin; StackStorm's own are 32 hex digits.
pub const PREFIX: &str = "sqat1.";

const SECRET_BYTES: usize = 32;

/// Makes and checks tokens with one secret.
#[derive(Clone)]
pub struct ActionTokens {
    secret: [u8; SECRET_BYTES],
}

impl std::fmt::Debug for ActionTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ActionTokens")
    }
}

/// What a valid token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionToken {
    #[serde(rename = "e")]
    pub execution: Id,
    #[serde(rename = "u")]
    pub user: String,
    #[serde(rename = "x")]
    pub expiry: Timestamp,
    /// Of an operator on the node's host ([`ActionTokens::issue_operator`]): no role limits it.
    #[serde(rename = "o", default, skip_serializing_if = "std::ops::Not::not")]
    pub operator: bool,
}

/// Why a token is refused; the texts never hold the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ActionTokenError {
    #[error("the token is malformed")]
    Malformed,
    #[error("the token was not issued here")]
    Forged,
    #[error("the token has expired")]
    Expired,
}

impl ActionTokens {
    pub fn new(secret: [u8; SECRET_BYTES]) -> Self {
        Self { secret }
    }

    /// With the secret in `path`; makes it (32 random bytes, mode 0600) if the file is not there.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Self::from_bytes(&bytes, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Self::create(path),
            Err(error) => Err(error),
        }
    }

    fn from_bytes(bytes: &[u8], path: &Path) -> std::io::Result<Self> {
        let secret = bytes.try_into().map_err(|_| {
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("{} has {} bytes, not {SECRET_BYTES}", path.display(), bytes.len()),
            )
        })?;
        Ok(Self::new(secret))
    }

    /// Complete under its name or not there: a crash leaves no half of it.
    fn create(path: &Path) -> std::io::Result<Self> {
        let secret: [u8; SECRET_BYTES] = rand::random();
        let draft = path.with_extension(format!("new-{}", std::process::id()));
        let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&secret)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        match linked {
            // Another process was first: its secret holds.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                Self::from_bytes(&std::fs::read(path)?, path)
            }
            Err(error) => Err(error),
            Ok(()) => Ok(Self::new(secret)),
        }
    }

    /// A token for `user`, good until `now` + `ttl`.
    pub fn issue(&self, execution: Id, user: &str, now: Timestamp, ttl: Duration) -> String {
        self.sign(&ActionToken { execution, user: user.to_owned(), expiry: now.plus(ttl), operator: false })
    }

    /// A token for whoever may read this secret, which is to say the node's owner on its host.
    pub fn issue_operator(&self, now: Timestamp, ttl: Duration) -> String {
        let user = "operator".to_owned();
        self.sign(&ActionToken { execution: Id::fresh(now), user, expiry: now.plus(ttl), operator: true })
    }

    fn sign(&self, token: &ActionToken) -> String {
        let claims = serde_json::json!(token).to_string();
        let claims = URL_SAFE_NO_PAD.encode(claims);
        let signature = URL_SAFE_NO_PAD.encode(self.mac(&claims).finalize().into_bytes());
        format!("{PREFIX}{claims}.{signature}")
    }

    /// Who `token` stands for at `now`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<ActionToken, ActionTokenError> {
        let rest = token.strip_prefix(PREFIX).ok_or(ActionTokenError::Malformed)?;
        let (claims, signature) = rest.split_once('.').ok_or(ActionTokenError::Malformed)?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| ActionTokenError::Malformed)?;
        // Compares in constant time.
        self.mac(claims).verify_slice(&signature).map_err(|_| ActionTokenError::Forged)?;
        let claims = URL_SAFE_NO_PAD.decode(claims).map_err(|_| ActionTokenError::Malformed)?;
        let token: ActionToken = serde_json::from_slice(&claims).map_err(|_| ActionTokenError::Malformed)?;
        if token.expiry <= now { Err(ActionTokenError::Expired) } else { Ok(token) }
    }

    /// A text that others keep meanwhile, signed for one purpose. They can read it.
    pub fn seal(&self, purpose: &str, text: &str) -> String {
        let text = URL_SAFE_NO_PAD.encode(text);
        let signature = self.seal_mac(purpose, &text).finalize().into_bytes();
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// The text, if it was sealed with this secret for this purpose.
    pub fn unseal(&self, purpose: &str, sealed: &str) -> Option<String> {
        let (text, signature) = sealed.split_once('.')?;
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        self.seal_mac(purpose, text).verify_slice(&signature).ok()?;
        String::from_utf8(URL_SAFE_NO_PAD.decode(text).ok()?).ok()
    }

    /// Neither a token nor what is sealed for another purpose has the same.
    fn seal_mac(&self, purpose: &str, text: &str) -> Hmac<Sha256> {
        self.mac(&format!("sealed {purpose} {text}"))
    }

    fn mac(&self, claims: &str) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any size")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any key size");
        mac.update(PREFIX.as_bytes());
        mac.update(claims.as_bytes());
        mac
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

    #[test]
    fn a_token_is_good_until_it_expires_and_only_here() {
        let tokens = ActionTokens::new([7; 32]);
        let execution = Id::fresh(NOW);
        let text = tokens.issue(execution, "stänley", NOW, Duration::from_secs(60));
        let token = tokens.verify(&text, NOW).unwrap();
        assert!(!token.operator);
        let operator = tokens.issue_operator(NOW, Duration::from_secs(60));
        assert!(tokens.verify(&operator, NOW).unwrap().operator);
        assert_eq!((token.execution, token.user.as_str()), (execution, "stänley"));
        assert_eq!(tokens.verify(&text, NOW.plus(Duration::from_secs(60))), Err(ActionTokenError::Expired));
        assert_eq!(ActionTokens::new([8; 32]).verify(&text, NOW), Err(ActionTokenError::Forged));
        let other = tokens.issue(execution, "admin", NOW, Duration::from_secs(60));
        let (claims, _) = other.rsplit_once('.').unwrap();
        let (_, signature) = text.rsplit_once('.').unwrap();
        assert_eq!(tokens.verify(&format!("{claims}.{signature}"), NOW), Err(ActionTokenError::Forged));
        for text in ["", "sqat1.", "sqat1.a", "sqat1.a.!", "0123456789abcdef0123456789abcdef"] {
            assert_eq!(tokens.verify(text, NOW), Err(ActionTokenError::Malformed), "{text}");
        }
    }

    #[test]
    fn what_is_sealed_holds_for_its_purpose_alone() {
        let tokens = ActionTokens::new([7; 32]);
        let sealed = tokens.seal("a", "some text");
        assert_eq!(tokens.unseal("a", &sealed).as_deref(), Some("some text"));
        assert_eq!(tokens.unseal("b", &sealed), None);
        assert_eq!(ActionTokens::new([8; 32]).unseal("a", &sealed), None);
        let (text, signature) = sealed.split_once('.').unwrap();
        let other = URL_SAFE_NO_PAD.encode("other text");
        for forged in [format!("{other}.{signature}"), format!("{text}."), text.to_owned(), String::new()] {
            assert_eq!(tokens.unseal("a", &forged), None, "{forged}");
        }
    }

    #[test]
    fn the_secret_is_made_once_for_the_owner_alone() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("action-token.key");
        let first = ActionTokens::open(&path).unwrap();
        let text = first.issue(Id::fresh(NOW), "u", NOW, Duration::from_secs(1));
        ActionTokens::open(&path).unwrap().verify(&text, NOW).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&path, "short").unwrap();
        assert!(ActionTokens::open(&path).is_err());
    }
}
