//! The route table: one row for each method and path, matched by literal segments first.

use std::collections::HashMap;
use std::fmt;

use futures::future::BoxFuture;
use http::Method;

use super::error::ApiError;
use super::reply::Reply;
use crate::context::Ctx;

/// Which of StackStorm's services a path belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    Auth,
    Api,
    Stream,
}

/// What a caller needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// Nothing.
    Open,
    /// A valid token or API key.
    Login,
    /// A login of an administrator.
    Admin,
    /// A login with this permission (spec/auth-rbac.md §9): a global one, or on the resource that the path's first
    /// parameter names.
    Permission(&'static str),
    /// A login with this permission on what the body or the query names: the handler asks `Ctx::require`.
    Checked(&'static str),
}

pub type Handler = fn(Ctx) -> BoxFuture<'static, Result<Reply, ApiError>>;

/// A row of the table.
#[derive(Clone)]
pub struct Route {
    pub service: Service,
    pub method: Method,
    /// `/actions/{ref}`; `{name...}` takes the rest of the path.
    pub pattern: &'static str,
    pub need: Need,
    pub handler: Handler,
    segments: Vec<Segment>,
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {}", self.service, self.method, self.pattern)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Segment {
    Literal(&'static str),
    Param(&'static str),
    Rest(&'static str),
}

impl Route {
    pub fn new(service: Service, method: Method, pattern: &'static str, need: Need, handler: Handler) -> Self {
        let segments = pattern
            .split('/')
            .filter(|part| !part.is_empty())
            .map(|part| match part.strip_prefix('{').and_then(|part| part.strip_suffix('}')) {
                Some(name) => match name.strip_suffix("...") {
                    Some(name) => Segment::Rest(name),
                    None => Segment::Param(name),
                },
                None => Segment::Literal(part),
            })
            .collect();
        Self { service, method, pattern, need, handler, segments }
    }

    fn matches(&self, path: &[String]) -> Option<Vec<(&'static str, String)>> {
        let mut params = Vec::new();
        for (i, segment) in self.segments.iter().enumerate() {
            match *segment {
                Segment::Rest(name) => {
                    let rest = path.get(i..).filter(|rest| !rest.is_empty())?;
                    params.push((name, rest.join("/")));
                    return Some(params);
                }
                Segment::Literal(text) => {
                    if path.get(i)? != text {
                        return None;
                    }
                }
                Segment::Param(name) => {
                    let value = path.get(i).filter(|value| !value.is_empty())?;
                    params.push((name, value.clone()));
                }
            }
        }
        (path.len() == self.segments.len()).then_some(params)
    }
}

/// All routes, found by service and first segment, in the order in which they were declared.
#[derive(Debug, Default)]
pub struct Table(HashMap<(Service, &'static str), Vec<Route>>);

impl Table {
    pub fn new(routes: Vec<Route>) -> Self {
        let mut table: HashMap<_, Vec<Route>> = HashMap::new();
        for route in routes {
            let first = match route.segments.first() {
                Some(Segment::Literal(text)) => text,
                _ => "",
            };
            table.entry((route.service, first)).or_default().push(route);
        }
        Self(table)
    }

    /// The row for a decoded path without prefix, with its parameters.
    pub fn find(&self, service: Service, method: &Method, path: &[String]) -> Option<(&Route, Params)> {
        let first = path.first().map_or("", String::as_str);
        let rows = self.0.iter().find(|((s, text), _)| *s == service && *text == first).map(|(_, rows)| rows)?;
        rows.iter().filter(|row| row.method == *method).find_map(|row| Some((row, Params(row.matches(path)?))))
    }

    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.0.values().flatten()
    }
}

/// Values of `{…}` segments.
#[derive(Debug, Clone, Default)]
pub struct Params(pub Vec<(&'static str, String)>);

impl Params {
    /// Empty if the route has no such segment.
    pub fn get(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// Splits and decodes a path; trailing slashes don't count. `None` if a segment isn't UTF-8.
pub fn segments(path: &str) -> Option<Vec<String>> {
    let path = path.strip_prefix('/').unwrap_or(path).trim_end_matches('/');
    if path.is_empty() {
        return Some(Vec::new());
    }
    path.split('/').map(decode).collect()
}

/// Percent-decoding; a stray `%` stays.
fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let bytes = segment.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let digit = |at: usize| bytes.get(at).and_then(|&byte| char::from(byte).to_digit(16));
        if bytes[i] == b'%'
            && let (Some(high), Some(low)) = (digit(i + 1), digit(i + 2))
        {
            decoded.push((high * 16 + low) as u8);
            i += 3;
        } else {
            decoded.push(bytes[i]);
            i += 1;
        }
    }
    String::from_utf8(decoded).ok()
}

/// `routes! { Api GET "/actions" [Permission("action_list")] actions::list; … }`
#[macro_export]
macro_rules! routes {
    ($($service:ident $method:ident $pattern:literal [$($need:tt)+] $handler:path;)*) => {
        vec![$($crate::http::route::Route::new(
            $crate::http::route::Service::$service,
            http::Method::$method,
            $pattern,
            $crate::http::route::Need::$($need)+,
            |ctx| Box::pin($handler(ctx)),
        )),*]
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_split_before_they_are_decoded() {
        assert_eq!(segments("/a/..%2Fb/").unwrap(), ["a", "../b"]);
        assert_eq!(segments("/a/%zz%").unwrap(), ["a", "%zz%"]);
        assert!(segments("/").unwrap().is_empty());
        assert!(segments("/%ff").is_none());
    }

    async fn nothing(_: Ctx) -> Result<Reply, ApiError> {
        Ok(Reply::no_content())
    }

    #[test]
    fn declared_order_decides() {
        let table = Table::new(routes! {
            Api GET "/rules/views" [Login] nothing;
            Api GET "/rules/views/{ref}" [Login] nothing;
            Api GET "/rules/{ref}" [Login] nothing;
            Api POST "/webhooks/{hook...}" [Open] nothing;
        });
        let find = |method: Method, path: &str| {
            let (route, params) = table.find(Service::Api, &method, &segments(path).unwrap())?;
            Some((route.pattern, params.0.into_iter().map(|(_, value)| value).collect::<Vec<_>>()))
        };
        assert_eq!(find(Method::GET, "/rules/views"), Some(("/rules/views", vec![])));
        assert_eq!(find(Method::GET, "/rules/a.b"), Some(("/rules/{ref}", vec!["a.b".to_owned()])));
        assert_eq!(find(Method::POST, "/webhooks/a/b/"), Some(("/webhooks/{hook...}", vec!["a/b".to_owned()])));
        assert_eq!(find(Method::POST, "/webhooks"), None);
        assert_eq!(find(Method::PATCH, "/rules/a.b"), None);
        assert_eq!(find(Method::GET, "/rules/a.b/c"), None);
    }
}
