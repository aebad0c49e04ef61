//! What a provider says about somebody.

use openidconnect::core::{
    CoreAuthDisplay, CoreAuthPrompt, CoreErrorResponseType, CoreGenderClaim, CoreJsonWebKey,
    CoreJweContentEncryptionAlgorithm, CoreJwsSigningAlgorithm, CoreRevocableToken, CoreRevocationErrorResponse,
    CoreTokenIntrospectionResponse, CoreTokenType,
};
use openidconnect::{
    AdditionalClaims, EmptyExtraTokenFields, EndpointMaybeSet, EndpointNotSet, EndpointSet, IdTokenClaims,
    IdTokenFields, StandardErrorResponse, StandardTokenResponse,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Person, SsoError, SsoOptions};

/// Names that are longer are somebody's mistake.
const LONGEST_NAME: usize = 255;

/// Claims that OpenID Connect doesn't define.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Others {
    #[serde(flatten)]
    claims: Map<String, Value>,
}

impl AdditionalClaims for Others {}

type Fields = IdTokenFields<
    Others,
    EmptyExtraTokenFields,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJwsSigningAlgorithm,
>;

pub(super) type Token = StandardTokenResponse<Fields, CoreTokenType>;

/// A client of a provider that has described itself.
pub(super) type Client = openidconnect::Client<
    Others,
    CoreAuthDisplay,
    CoreGenderClaim,
    CoreJweContentEncryptionAlgorithm,
    CoreJsonWebKey,
    CoreAuthPrompt,
    StandardErrorResponse<CoreErrorResponseType>,
    Token,
    CoreTokenIntrospectionResponse,
    CoreRevocableToken,
    CoreRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

/// The user's name and groups, from the claims that the options name.
pub(super) fn person(
    claims: &IdTokenClaims<Others, CoreGenderClaim>,
    options: &SsoOptions,
) -> Result<Person, SsoError> {
    let all = serde_json::to_value(claims).map_err(|error| SsoError::Refused(error.to_string()))?;
    of(&all, options)
}

fn of(all: &Value, options: &SsoOptions) -> Result<Person, SsoError> {
    let claim = &options.user_claim;
    let refused = |reason: &str| Err(SsoError::Refused(format!("the claim `{claim}` {reason}")));
    let Some(user) = all.get(claim).and_then(Value::as_str).filter(|user| !user.is_empty()) else {
        return refused("names nobody");
    };
    // An address that nobody has confirmed may be anybody's.
    if claim == "email" && all.get("email_verified") == Some(&Value::Bool(false)) {
        return refused("is not verified");
    }
    // Keys of users are stored as `user:name`.
    if user.len() > LONGEST_NAME || user.contains(|c: char| c.is_control() || c == ':') {
        return refused("is no name of a user");
    }
    let groups = options.groups_claim.as_ref().map(|claim| match all.get(claim) {
        Some(Value::Array(groups)) => groups.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        Some(Value::String(group)) => vec![group.clone()],
        _ => Vec::new(),
    });
    Ok(Person { user: user.to_owned(), groups })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn options(user_claim: &str) -> SsoOptions {
        SsoOptions {
            issuer: "https://id.example".to_owned(),
            client_id: "squall".to_owned(),
            client_secret: None,
            redirect_url: "https://squall.example/auth/v1/sso/callback".to_owned(),
            scopes: Vec::new(),
            user_claim: user_claim.to_owned(),
            groups_claim: Some("groups".to_owned()),
            allowed_groups: Vec::new(),
            ca_file: None,
            timeout: Duration::from_secs(1),
        }
    }

    #[test]
    fn names_and_groups() {
        let all = json!({"sub": "1", "preferred_username": "ana", "groups": ["ops", 7, "dev"]});
        let person = of(&all, &options("preferred_username")).unwrap();
        assert_eq!((person.user.as_str(), person.groups.unwrap()), ("ana", vec!["ops".to_owned(), "dev".to_owned()]));
        let one = of(&json!({"sub": "ana", "groups": "ops"}), &options("sub")).unwrap();
        assert_eq!(one.groups.unwrap(), ["ops"]);
        assert_eq!(of(&json!({"sub": "ana"}), &options("sub")).unwrap().groups.unwrap(), [""; 0]);
    }

    #[test]
    fn who_is_nobody_is_refused() {
        for (all, claim) in [
            (json!({"sub": "1"}), "preferred_username"),
            (json!({"name": ""}), "name"),
            (json!({"name": 7}), "name"),
            (json!({"name": "a:b"}), "name"),
            (json!({"name": "a\nb"}), "name"),
            (json!({"name": "a".repeat(256)}), "name"),
            (json!({"email": "ana@example.org", "email_verified": false}), "email"),
        ] {
            assert!(matches!(of(&all, &options(claim)), Err(SsoError::Refused(_))), "{all}");
        }
    }
}
