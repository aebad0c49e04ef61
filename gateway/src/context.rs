//! What a handler gets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use auth::Target;
use bus::{Change, Event};
use bytes::Bytes;
use domain::Services;
use http::header::IF_MATCH;
use http::{HeaderMap, Method};
use model::{Execution, Id, Object, Resource, RoleAssignment, Versioned};
use serde_json::Value;
use store::{Batch, StoreExt};

use crate::auth::Identity;
use crate::auth::guard::{self, Subject};
use crate::gateway::Shared;
use crate::http::body;
use crate::http::route::Params;
use crate::http::shape::Shape;
use crate::http::{ApiError, Query, version};

/// One request, after routing, authentication and reading of its body.
#[derive(Debug, Clone)]
pub struct Ctx {
    pub gateway: Arc<Shared>,
    pub request_id: Arc<str>,
    pub method: Method,
    pub params: Params,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub identity: Identity,
    pub peer: Option<SocketAddr>,
    pub asked: Asked,
    /// Of what the request makes, if its client named it: one that is there under this id was made by the same
    /// request.
    pub derived_id: Option<Id>,
}

/// Whether a handler asked for what its row says it has to ask for.
#[derive(Debug, Clone, Default)]
pub struct Asked(Arc<AtomicBool>);

impl Asked {
    pub fn was(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Ctx {
    pub fn services(&self) -> &Services {
        &self.gateway.services
    }

    /// The body by its content type.
    pub fn parsed_body(&self) -> Result<Value, ApiError> {
        body::parse(&self.headers, &self.body)
    }

    /// The body as an object of this shape.
    pub fn object(&self, shape: &Shape) -> Result<Object, ApiError> {
        shape.check(self.parsed_body()?)
    }

    /// The body as an object of any shape.
    pub fn any_object(&self) -> Result<Object, ApiError> {
        self.object(&Shape { fields: &[], closed: false })
    }

    /// 403 unless the caller has a permission on this resource.
    pub fn require(&self, permission: &str, target: Target) -> Result<(), ApiError> {
        self.asked.0.store(true, Ordering::Relaxed);
        let subject = Subject { uid: target.uid.clone(), target, owner: None };
        guard::require_on(&self.identity, permission, &subject)
    }

    /// 403 unless the caller has a permission on this execution, and sees it at all.
    pub fn require_execution(&self, permission: &str, execution: &Execution) -> Result<(), ApiError> {
        self.asked.0.store(true, Ordering::Relaxed);
        guard::require_on(&self.identity, permission, &Subject::execution(execution))
    }

    /// The handler decided without a grant: it is about the caller's own data.
    pub fn is_own(&self) {
        self.asked.0.store(true, Ordering::Relaxed);
    }

    /// The user whose data alone may be shown, under isolation.
    pub fn only_user(&self) -> Option<&str> {
        self.identity.isolated.then_some(self.identity.user.as_str())
    }

    /// After a change of roles or assignments: this node looks anew, and tells the others.
    pub fn roles_changed(&self) {
        self.gateway.forget_roles();
        let collection = RoleAssignment::COLLECTION.name.to_owned();
        let id = Id::fresh(self.services().now());
        let event = Event::Content { change: Change::Update, collection, id, reference: String::new() };
        self.services().bus.announce(Arc::new(event));
    }

    /// Whether `show_secrets=true` was asked by someone who may.
    pub fn show_secrets(&self) -> Result<bool, ApiError> {
        Ok(self.query.flag("show_secrets")? && self.identity.is_admin)
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Passes on what was found, unless the caller wants to change another version of it: 412 then.
    pub fn unchanged<T>(&self, found: Versioned<T>) -> Result<Versioned<T>, ApiError> {
        let Some(wanted) = self.header("if-match") else { return Ok(found) };
        if version::names(wanted, &version::tag(found.rev)) { Ok(found) } else { Err(version::failed()) }
    }

    /// The revision that has to be there still when the change is stored.
    pub fn expected<T>(&self, found: &Versioned<T>) -> Option<u64> {
        self.headers.contains_key(IF_MATCH).then_some(found.rev)
    }

    /// Removes it; if the caller names a version, only that one.
    pub async fn remove<T: Resource>(&self, found: &Versioned<T>) -> Result<(), ApiError> {
        let mut batch = Batch::new();
        batch.delete::<T>(found.doc.id(), self.expected(found));
        self.services().store.commit(batch).await?;
        Ok(())
    }

    /// The resource with this ref or id; 404 otherwise.
    pub async fn by_ref<T: Resource>(&self, reference: &str) -> Result<Versioned<T>, ApiError> {
        self.find_ref(reference).await?.ok_or_else(|| ApiError::unknown_ref(reference))
    }

    /// A text with a dot is a ref, another one an id.
    pub async fn find_ref<T: Resource>(&self, reference: &str) -> Result<Option<Versioned<T>>, ApiError> {
        let store = &self.gateway.services.store;
        if reference.contains('.') {
            return Ok(store.first::<T>(&store::Query::eq("ref", reference)).await?);
        }
        match reference.parse::<Id>() {
            Ok(id) => Ok(store.read::<T>(id).await?),
            Err(_) => Ok(None),
        }
    }

    /// The resource with this id; 404 otherwise.
    pub async fn by_id<T: Resource>(&self, text: &str) -> Result<Versioned<T>, ApiError> {
        let unknown = || ApiError::unknown_id(text);
        let id: Id = text.parse().map_err(|_| unknown())?;
        self.gateway.services.store.read::<T>(id).await?.ok_or_else(unknown)
    }
}
