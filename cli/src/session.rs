//! `st2 auth`, `login`, `whoami`.

use serde_json::{Value, json};

use crate::auth;
use crate::context::{Context, say};
use crate::error::{Error, Result};
use crate::http::Query;

/// The user, the password and the answer.
async fn token(context: &Context) -> Result<(String, String, Value)> {
    let user = context.argument("username")?.to_owned();
    let password = match context.matches.one("password") {
        Some(password) => password.to_owned(),
        None => auth::ask_password()?,
    };
    let ttl = context.number("ttl")?.map(|ttl| u64::try_from(ttl).unwrap_or_default());
    let answer = context.client.token(&user, &password, ttl).await?;
    Ok((user, password, answer))
}

/// `auth`.
pub async fn auth(context: &Context) -> Result<()> {
    let (_, _, answer) = token(context).await?;
    if context.matches.has("only-token") {
        say(answer.get("token").and_then(Value::as_str).unwrap_or_default());
    } else {
        context.show(&answer, &["user", "token", "expiry"], true);
    }
    Ok(())
}

/// `login`: remembers the user in the configuration and the token in the cache.
pub async fn login(context: &Context) -> Result<()> {
    let (user, password, answer) = token(context).await.map_err(|error| match error {
        Error::Unreachable(text) => Error::Unreachable(text),
        other => Error::failed(format!("Failed to log in: {other}")),
    })?;
    let settings = &context.client.settings;
    let mut file = settings.file.clone();
    file.set("credentials", "api_key", None);
    file.set("credentials", "password", None);
    let keep = context.matches.has("write-password");
    if keep {
        file.set("credentials", "password", Some(&password));
    }
    file.set("credentials", "username", Some(&user));
    auth::write_private(&settings.file_path, &file.text())?;
    if settings.cache_token {
        auth::cache(&user, &answer)?;
    } else {
        auth::forget(&user);
    }
    say(&format!("Logged in as {user}"));
    if !keep {
        say(&format!(
            "\nNote: the password wasn't stored (that takes --write-password and puts it into {} in plain text), \
             so this login ends with its token, in 24 hours unless a TTL was given.",
            settings.file_path.display()
        ));
    }
    Ok(())
}

/// `whoami`.
pub async fn whoami(context: &Context) -> Result<()> {
    match context.client.get("/user", &Query::new()).await {
        Ok(answer) => {
            say(&identity(&answer.body));
        }
        Err(Error::Http { status: 401, .. }) => say("Not authenticated"),
        Err(Error::Unreachable(text)) => return Err(Error::Unreachable(text)),
        Err(_) => say("Unable to retrieve currently logged-in user"),
    }
    Ok(())
}

fn identity(body: &Value) -> String {
    let text = |pointer: &str| body.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let mut lines = vec![
        format!("Currently logged in as \"{}\".", text("/username")),
        String::new(),
        format!("Authentication method: {}", text("/authentication/method")),
    ];
    let expiry = text("/authentication/token_expire");
    if !expiry.is_empty() {
        lines.push(format!("Authentication token expire time: {expiry}"));
    }
    let enabled =
        if body.pointer("/rbac/enabled").and_then(Value::as_bool).unwrap_or(false) { "True" } else { "False" };
    let none = json!([]);
    let roles = body.pointer("/rbac/roles").unwrap_or(&none).as_array().cloned().unwrap_or_default();
    let roles: Vec<&str> = roles.iter().filter_map(Value::as_str).collect();
    lines.extend([String::new(), "RBAC:".to_owned(), format!(" - Enabled: {enabled}")]);
    lines.push(format!(" - Roles: {}", roles.join(", ")));
    lines.join("\n")
}
