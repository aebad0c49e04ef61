//! CORS headers, on every response of every service (spec/api.md §2).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue,
};
use http::{HeaderMap, Response};

/// The origins that may use the API from a browser.
#[derive(Debug, Clone)]
pub struct Cors {
    allowed: Vec<HeaderValue>,
    any: bool,
}

/// Always allowed besides the configured ones.
const BUILT_IN: [&str; 3] = ["http://127.0.0.1:3000", "http://localhost:8080", "http://127.0.0.1:8080"];

impl Cors {
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>, api_url: Option<&'a str>) -> Self {
        let names: Vec<&str> = configured.into_iter().chain(BUILT_IN).chain(api_url).collect();
        let allowed = names.iter().filter_map(|name| HeaderValue::from_str(name).ok()).collect();
        Self { allowed, any: names.contains(&"*") }
    }

    /// Whether an origin is allowed by its name.
    pub fn names(&self, origin: &str) -> bool {
        self.allowed.iter().any(|allowed| allowed == origin)
    }

    /// The origin of the request if it is allowed, else the first configured one.
    fn origin(&self, request_origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        match request_origin {
            Some(origin) if self.any || self.allowed.contains(origin) => Some(origin.clone()),
            _ => self.allowed.first().cloned(),
        }
    }

    pub fn apply<B>(&self, request_origin: Option<&HeaderValue>, response: &mut Response<B>) {
        let headers: &mut HeaderMap = response.headers_mut();
        if let Some(origin) = self.origin(request_origin) {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        }
        for (name, value) in [
            (ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,PUT,DELETE,OPTIONS"),
            (ACCESS_CONTROL_ALLOW_HEADERS, "Content-Type,Authorization,X-Auth-Token,St2-Api-Key,X-Request-ID"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "Content-Type,X-Limit,X-Total-Count,X-Request-ID"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_origin_gets_the_first_configured_one() {
        let cors = Cors::new(["http://a"], None);
        let evil = HeaderValue::from_static("http://evil");
        assert_eq!(cors.origin(Some(&evil)).unwrap(), "http://a");
        assert_eq!(cors.origin(None).unwrap(), "http://a");
        let known = HeaderValue::from_static("http://localhost:8080");
        assert_eq!(cors.origin(Some(&known)).unwrap(), known);
        assert_eq!(Cors::new(["*"], None).origin(Some(&evil)).unwrap(), evil);
        assert_eq!(Cors::new(["*"], None).origin(None).unwrap(), "*");
    }
}
