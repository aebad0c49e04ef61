//! Credentials: flags, environment, configuration, the token cache, and a new token (`spec/cli.md` §3).

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use crate::args::Matches;
use crate::config;
use crate::error::{Error, Result};
use crate::http::{Client, Credential};

/// A token is renewed this long before it ends.
const MARGIN_SECONDS: i64 = 15;

/// Finds the credential for a command, asking for a token with the configured password if need be.
pub async fn prepare(client: &Client, matches: &Matches) -> Result<()> {
    let given = |flag: &str, env: &str| {
        let env = || std::env::var(env).ok().filter(|value| !value.is_empty());
        matches.one(flag).map(str::to_owned).or_else(env)
    };
    let flags = matches
        .one("token")
        .map(|token| Credential::Token(token.to_owned()))
        .or_else(|| matches.one("api-key").map(|key| Credential::ApiKey(key.to_owned())));
    let credential = flags
        .or_else(|| given("token", "ST2_AUTH_TOKEN").map(Credential::Token))
        .or_else(|| given("api-key", "ST2_API_KEY").map(Credential::ApiKey))
        .or_else(|| client.settings.api_key.clone().map(Credential::ApiKey));
    let credential = match credential {
        Some(credential) => Some(credential),
        None => from_account(client).await?,
    };
    client.set_credential(credential);
    Ok(())
}

async fn from_account(client: &Client) -> Result<Option<Credential>> {
    let settings = &client.settings;
    let Some(user) = &settings.username else { return Ok(None) };
    if settings.cache_token
        && let Some(token) = cached(user)
    {
        return Ok(Some(Credential::Token(token)));
    }
    let Some(password) = &settings.password else { return Ok(None) };
    match client.token(user, password, None).await {
        Ok(answer) => {
            if settings.cache_token {
                cache(user, &answer)?;
            }
            Ok(answer.get("token").and_then(Value::as_str).map(|token| Credential::Token(token.to_owned())))
        }
        Err(Error::Unreachable(text)) => {
            eprintln!("warning: {text}");
            Ok(None)
        }
        Err(error) => {
            let text = "Failed to authenticate with credentials provided in the config.";
            Err(Error::failed(format!("{text}\n{error}")))
        }
    }
}

fn cache_path(user: &str) -> PathBuf {
    // a user's name must not lead out of the directory
    config::directory().join(format!("token-{}", user.replace('/', "_")))
}

fn cached(user: &str) -> Option<String> {
    let path = cache_path(user);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            eprintln!("warning: cannot read the cached token \"{}\": {error}", path.display());
            return None;
        }
    };
    let entry: Value = serde_json::from_str(&text).ok()?;
    let expiry = entry.get("expire_timestamp").and_then(Value::as_f64)?;
    let now = Utc::now().timestamp() + MARGIN_SECONDS;
    (expiry > now as f64).then(|| entry.get("token").and_then(Value::as_str).map(str::to_owned))?
}

/// Keeps a token for later commands, readable by its owner only.
pub fn cache(user: &str, answer: &Value) -> Result<()> {
    let expiry = answer.get("expiry").and_then(Value::as_str).unwrap_or_default();
    let expiry = DateTime::parse_from_rfc3339(expiry).map(|instant| instant.timestamp()).unwrap_or_default();
    let entry = json!({ "token": answer.get("token"), "expire_timestamp": expiry });
    write_private(&cache_path(user), &entry.to_string())
}

/// Forgets a user's token.
pub fn forget(user: &str) {
    // nothing to forget is fine
    let _ = std::fs::remove_file(cache_path(user));
}

/// Writes a file with mode 0600 in one step: a reader sees the old text or the new one.
pub fn write_private(path: &std::path::Path, text: &str) -> Result<()> {
    let failed = |error: std::io::Error| Error::failed(format!("cannot write \"{}\": {error}", path.display()));
    if let Some(parent) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
    }
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(text.as_bytes()).map_err(failed)?;
    drop(file);
    std::fs::rename(&temporary, path).map_err(failed)
}

/// Asks for a password.
pub fn ask_password() -> Result<String> {
    read_hidden("Password: ")
}

/// Reads a line from the terminal without showing it.
pub fn read_hidden(prompt: &str) -> Result<String> {
    use nix::sys::termios;
    let stdin = std::io::stdin();
    let failed = |error: std::io::Error| Error::failed(format!("cannot read the password: {error}"));
    eprint!("{prompt}");
    let old = termios::tcgetattr(&stdin).ok();
    if let Some(old) = &old {
        let mut hidden = old.clone();
        hidden.local_flags.remove(termios::LocalFlags::ECHO);
        // a terminal that refuses shows the password; there is no better way to go on
        let _ = termios::tcsetattr(&stdin, termios::SetArg::TCSANOW, &hidden);
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if let Some(old) = &old {
        let _ = termios::tcsetattr(&stdin, termios::SetArg::TCSANOW, old);
        eprintln!();
    }
    if read.map_err(failed)? == 0 {
        return Err(Error::failed("no password given"));
    }
    Ok(line.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn private_files_are_private() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("deep/token-x");
        write_private(&path, "secret").unwrap();
        write_private(&path, "other").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "other");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    }
}
