//! From a request to its answer: routing, authentication, permissions, the body, the handler, shared headers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use domain::Services;
use http::header::{ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH, ORIGIN, SET_COOKIE};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode};
use tracing::Instrument;

use crate::auth::authenticator::Authenticator;
use crate::auth::rate::{Admission, InFlight};
use crate::auth::throttle::Throttle;
use crate::auth::{AuthOptions, Identity, guard};
use crate::context::{Asked, Ctx};
use crate::http::cors::Cors;
use crate::http::idempotency::{self, Begun};
use crate::http::rendered::Rendered;
use crate::http::route::{Handler, Need, Params, Service, Table, segments};
use crate::http::{ApiError, Query, Reply, body, gzip, version};
use crate::metrics::{self, Metrics};
use crate::openapi;
use crate::options::{Cluster, GatewayOptions, Limits, Readiness};
use crate::stream::hub::Hub;
use crate::tls::Tls;
use crate::webhooks::Hooks;
use crate::{health, table};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Which paths a port serves (spec/api.md §1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mount {
    /// StackStorm's port 9100.
    Auth,
    /// 9101.
    Api,
    /// 9102.
    Stream,
    /// `/auth`, `/api`, `/stream` on one port, as a front end maps them.
    Combined,
    /// The same over TLS.
    Tls,
    /// Sends everybody to the TLS port of this number.
    Redirect(u16),
    /// Nothing but `/healthz`: a node without the API role.
    Health,
}

/// What all requests share.
#[derive(Debug)]
pub struct Shared {
    pub services: Arc<Services>,
    pub auth: AuthOptions,
    pub api_url: Option<String>,
    pub readiness: Arc<dyn Readiness>,
    pub cluster: Option<Arc<dyn Cluster>>,
    pub metrics: Option<Arc<dyn Metrics>>,
    pub limits: Limits,
    pub(crate) tls: Option<Arc<Tls>>,
    access_log: bool,
    pub(crate) authenticator: Authenticator,
    pub(crate) throttle: Throttle,
    pub(crate) hub: Hub,
    pub(crate) hooks: Hooks,
    pub(crate) rendered: Rendered,
    admission: Admission,
    pub(crate) cors: Cors,
    table: Table,
}

impl Shared {
    pub(crate) fn new(options: GatewayOptions) -> Arc<Self> {
        let GatewayOptions {
            services,
            auth,
            action_tokens,
            allow_origin,
            api_url,
            readiness,
            cluster,
            metrics,
            limits,
            tls,
            access_log,
        } = options;
        Arc::new(Self {
            authenticator: Authenticator::new(services.clone(), &auth, action_tokens),
            throttle: Throttle::default(),
            admission: Admission::new(limits.rate, limits.max_in_flight),
            hub: Hub::new(limits.stream_backlog),
            hooks: Hooks::default(),
            rendered: Rendered::default(),
            cors: Cors::new(allow_origin.iter().map(String::as_str), api_url.as_deref()),
            table: Table::new(table::routes()),
            services,
            auth,
            api_url,
            readiness,
            cluster,
            metrics,
            limits,
            tls,
            access_log,
        })
    }

    /// Answers one request; never fails.
    pub(crate) async fn answer(
        self: Arc<Self>,
        mount: Mount,
        peer: Option<SocketAddr>,
        request: Request<Body>,
    ) -> Response<Body> {
        let started = Instant::now();
        let request_id = request_id(&request);
        let origin = request.headers().get(ORIGIN).cloned();
        let method = request.method().clone();
        let takes_gzip = gzip::is_accepted(request.headers());
        let is_http_1 = request.version() < http::Version::HTTP_2;
        let mut log = AccessLog { service: "none", pattern: "", user: None, detail: None };
        let span = tracing::info_span!("request", id = &*request_id);
        let outcome =
            self.clone().handle(mount, peer, request_id.clone(), request, &mut log).instrument(span.clone()).await;
        let mut response = match outcome {
            Ok(reply) => reply.into_response(),
            Err(error) => {
                // The text of a client's error may repeat what the client sent, secrets too.
                log.detail =
                    error.detail.clone().or_else(|| error.status.is_server_error().then(|| error.fault.clone()));
                Reply::from(&error).into_response()
            }
        };
        if takes_gzip {
            response = gzip::apply(response).await;
        }
        self.cors.apply(origin.as_ref(), &mut response);
        if let Ok(value) = HeaderValue::from_str(&request_id) {
            response.headers_mut().insert(REQUEST_ID, value);
        }
        if is_http_1 && self.readiness.is_stopping() {
            response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        }
        let status = response.status();
        log.write(&span, &method, status, started);
        if self.access_log {
            log.write_access(&span, &method, status, started, peer);
        }
        metrics::answered(log.service, &method, status, started.elapsed());
        response
    }

    async fn handle(
        self: Arc<Self>,
        mount: Mount,
        peer: Option<SocketAddr>,
        request_id: Arc<str>,
        request: Request<Body>,
        log: &mut AccessLog,
    ) -> Result<Reply, ApiError> {
        let (parts, body) = request.into_parts();
        if parts.method == Method::OPTIONS {
            return Ok(Reply::raw("text/html; charset=UTF-8", Body::empty()));
        }
        let limits = &self.limits;
        let admitted = match self.admit(mount, peer, &parts, log).await {
            Ok(Admitted::Answered(reply)) => return Ok(reply),
            Ok(Admitted::Call(call)) => call,
            Err(error) => {
                body::discard(body, limits.max_body_size, limits.body_timeout).await;
                return Err(error);
            }
        };
        let Call { handler, need, method, params, query, identity, cookie, place } = *admitted;
        let body = if method == Method::GET {
            bytes::Bytes::new()
        } else {
            body::read(body, limits.max_body_size, limits.body_timeout).await?
        };
        let held = match idempotency::key(&parts.headers, &method)? {
            Some(key) if need != Need::Open => {
                match idempotency::begin(&self.services, &identity.user, key, &parts, &body, log.pattern).await? {
                    Begun::Do(held) => Some(held),
                    Begun::Answered(reply) => return Ok(reply),
                }
            }
            _ => None,
        };
        let gateway = self.clone();
        let headers = parts.headers;
        let known = headers.get(IF_NONE_MATCH).filter(|_| method == Method::GET).cloned();
        let asked = Asked::default();
        let ctx = Ctx {
            gateway,
            request_id,
            method,
            params,
            query,
            headers,
            body,
            identity,
            peer,
            asked: asked.clone(),
            derived_id: held.as_ref().map(|held| held.id()),
        };
        let outcome = handler(ctx).await;
        let reply = match held {
            Some(held) => held.finish(&self.services, outcome).await,
            None => outcome,
        }?;
        drop(place);
        let reply = if known.is_some_and(|known| is_known(&reply, &known)) { reply.not_modified() } else { reply };
        if let Need::Checked(permission) = need
            && reply.status.is_success()
            && !asked.was()
        {
            return Err(ApiError::internal(format!("the handler did not ask for {permission}")));
        }
        Ok(match cookie {
            Some(cookie) => reply.header(SET_COOKIE, &cookie),
            None => reply,
        })
    }

    /// Everything before the body is read.
    async fn admit(
        &self,
        mount: Mount,
        peer: Option<SocketAddr>,
        parts: &Parts,
        log: &mut AccessLog,
    ) -> Result<Admitted, ApiError> {
        let path = segments(parts.uri.path()).ok_or_else(ApiError::no_route)?;
        // A HEAD is a GET whose body the HTTP layer leaves out.
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method.clone() };
        if method == Method::GET
            && let Some(reply) = health::answer(self, &path, &parts.headers).await
        {
            (log.service, log.pattern) = ("health", "/healthz");
            return reply.map(Admitted::Answered);
        }
        let is_page =
            matches!(path.iter().map(String::as_str).collect::<Vec<_>>().as_slice(), ["docs"] | ["api", "docs"]);
        if method == Method::GET && is_page && matches!(mount, Mount::Api | Mount::Combined | Mount::Tls) {
            log.pattern = "/docs";
            return Ok(Admitted::Answered(openapi::page()));
        }
        if method == Method::GET
            && let (Some(metrics), ["metrics"]) =
                (&self.metrics, path.iter().map(String::as_str).collect::<Vec<_>>().as_slice())
        {
            (log.service, log.pattern) = ("health", "/metrics");
            return metrics::answer(metrics.as_ref(), &parts.headers).await.map(Admitted::Answered);
        }
        if let Some(missing) = self.readiness.refusal() {
            return Err(ApiError::unavailable(format!("The node can't serve now, try again: {missing} is away.")));
        }
        let (service, path) = resolve(mount, path).ok_or_else(ApiError::no_route)?;
        let (route, params) = self.table.find(service, &method, &path).ok_or_else(ApiError::no_route)?;
        log.pattern = route.pattern;
        log.service = match service {
            Service::Auth => "auth",
            Service::Api => "api",
            Service::Stream => "stream",
        };
        let changes = matches!(method, Method::PUT | Method::DELETE);
        if changes && parts.headers.contains_key(IF_MATCH) && !version::is_known(route.pattern) {
            return Err(version::failed());
        }
        let query = Query::parse(parts.uri.query());
        // Whoever guesses passwords is slowed down by the throttle; whoever guesses tokens by its address.
        let address = || peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
        if route.need == Need::Open {
            self.admission.charge(&address(), Instant::now())?;
        }
        let (identity, cookie) = match self.identify(route.need, &params, &parts.headers, &query).await {
            Ok(identified) => identified,
            Err(error) => {
                self.admission.charge(&address(), Instant::now())?;
                return Err(error);
            }
        };
        log.user = Some(identity.user.clone());
        if identity.is_action && table::is_for_people(route) {
            return Err(ApiError::forbidden("The token of an action can't be used for this."));
        }
        if route.need != Need::Open {
            self.admission.charge(&identity.user, Instant::now())?;
        }
        let place = match service {
            Service::Stream => None,
            _ => Some(self.admission.enter()?),
        };
        let (handler, need) = (route.handler, route.need);
        Ok(Admitted::Call(Box::new(Call { handler, need, method, params, query, identity, cookie, place })))
    }

    async fn identify(
        &self,
        need: Need,
        params: &Params,
        headers: &http::HeaderMap,
        query: &Query,
    ) -> Result<(Identity, Option<String>), ApiError> {
        let permission = match need {
            Need::Open => return Ok((Identity::anonymous(), None)),
            Need::Login | Need::Admin | Need::Checked(_) => None,
            Need::Permission(permission) => Some(permission),
        };
        let (identity, cookie) = self.authenticator.identify(headers, query).await?;
        if need == Need::Admin && !identity.is_admin {
            return Err(ApiError::forbidden("Administrator access required"));
        }
        // The web UI shows packs' icons to everybody who is logged in.
        let is_icon = permission == Some("pack_view") && params.get("path") == "icon.png";
        if let Some(permission) = permission.filter(|_| !is_icon) {
            guard::check(&self.services, &identity, permission, params).await?;
        }
        Ok((identity, cookie))
    }

    /// Called after tokens or API keys changed.
    pub(crate) fn forget_credentials(&self) {
        self.authenticator.forget();
    }

    /// Called after roles or assignments changed.
    pub(crate) fn forget_roles(&self) {
        self.authenticator.forget_roles();
    }
}

/// Where a request goes after its head was looked at.
enum Admitted {
    Answered(Reply),
    Call(Box<Call>),
}

/// A handler to call, and what it is to get.
struct Call {
    handler: Handler,
    need: Need,
    method: Method,
    params: Params,
    query: Query,
    identity: Identity,
    cookie: Option<String>,
    /// Among the requests that are worked on; none for streams.
    place: Option<InFlight>,
}

/// Whether the client has what the reply says already.
fn is_known(reply: &Reply, known: &HeaderValue) -> bool {
    let tag = reply.headers.iter().find(|(name, _)| name == ETAG).and_then(|(_, tag)| tag.to_str().ok());
    match (tag, known.to_str()) {
        (Some(tag), Ok(known)) => version::names(known, tag),
        _ => false,
    }
}

/// The given id if it is a sane one, else a new one.
fn request_id(request: &Request<Body>) -> Arc<str> {
    const LONGEST: usize = 128;
    let given = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    match given {
        Some(id) if !id.is_empty() && id.len() <= LONGEST => id.into(),
        _ => uuid::Uuid::new_v4().to_string().into(),
    }
}

/// The service that a port's path belongs to, and the path without prefix and version.
fn resolve(mount: Mount, mut path: Vec<String>) -> Option<(Service, Vec<String>)> {
    let mut service = match mount {
        Mount::Auth => Service::Auth,
        Mount::Api => Service::Api,
        Mount::Stream => Service::Stream,
        Mount::Health | Mount::Redirect(_) => return None,
        Mount::Combined | Mount::Tls => {
            let service = match path.first().map(String::as_str) {
                Some("auth") => Service::Auth,
                Some("api") => Service::Api,
                Some("stream") => Service::Stream,
                _ => return None,
            };
            path.remove(0);
            service
        }
    };
    if path.first().is_some_and(|first| first == "v1") {
        path.remove(0);
    }
    if matches!(mount, Mount::Combined | Mount::Tls)
        && service == Service::Api
        && path.first().is_some_and(|first| first == "stream")
    {
        service = Service::Stream;
    }
    if let Some(first) = path.first_mut()
        && first == "actionexecutions"
    {
        *first = "executions".to_owned();
    }
    Some((service, path))
}

/// One line for each request. The pattern of the route stands for the path, which may hold an API key.
struct AccessLog {
    service: &'static str,
    pattern: &'static str,
    user: Option<String>,
    detail: Option<String>,
}

impl AccessLog {
    fn write(&self, span: &tracing::Span, method: &Method, status: StatusCode, started: Instant) {
        let _entered = span.enter();
        let (status, route) = (status.as_u16(), self.pattern);
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let user = self.user.as_deref().unwrap_or_default();
        match (&self.detail, status) {
            (Some(detail), 500..) => tracing::error!(%method, route, status, micros, user, detail, "request failed"),
            (_, 401 | 403) => tracing::info!(%method, route, status, micros, user, "request refused"),
            (Some(detail), _) => tracing::info!(%method, route, status, micros, user, detail, "request refused"),
            (None, _) => tracing::debug!(%method, route, status, micros, user, "request"),
        }
    }

    /// The line of `api.access_log` (docs/operations.md).
    fn write_access(
        &self,
        span: &tracing::Span,
        method: &Method,
        status: StatusCode,
        started: Instant,
        peer: Option<SocketAddr>,
    ) {
        let _entered = span.enter();
        let (service, route, status) = (self.service, self.pattern, status.as_u16());
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        let peer = peer.map(|peer| peer.ip().to_string()).unwrap_or_default();
        let user = self.user.as_deref().unwrap_or("-");
        tracing::info!(target: "access", peer, user, %method, service, route, status, micros, "answered");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(mount: Mount, path: &str) -> Option<(Service, String)> {
        let (service, path) = resolve(mount, segments(path)?)?;
        Some((service, path.join("/")))
    }

    #[test]
    fn ports_and_prefixes() {
        let api = |path: &str| Some((Service::Api, path.to_owned()));
        assert_eq!(at(Mount::Api, "/actions"), api("actions"));
        assert_eq!(at(Mount::Api, "/v1/actions/"), api("actions"));
        assert_eq!(at(Mount::Api, "/v1"), api(""));
        assert_eq!(at(Mount::Api, "/v1/actionexecutions/x"), api("executions/x"));
        assert_eq!(at(Mount::Api, "/api/v1/actions"), api("api/v1/actions"));
        assert_eq!(at(Mount::Combined, "/api/v1/actions"), api("actions"));
        assert_eq!(at(Mount::Combined, "/api/stream"), Some((Service::Stream, "stream".to_owned())));
        assert_eq!(at(Mount::Combined, "/stream/v1/stream"), Some((Service::Stream, "stream".to_owned())));
        assert_eq!(at(Mount::Combined, "/auth/tokens"), Some((Service::Auth, "tokens".to_owned())));
        assert_eq!(at(Mount::Combined, "/actions"), None);
        assert_eq!(at(Mount::Health, "/actions"), None);
    }
}
