//! Lists: filters, limits, sorting and the choice of attributes, for every resource (spec/api.md §5).

use http::header::HeaderName;
use model::{Key, Object, Resource, Versioned};
use serde_json::Value;
use store::{Cond, Order, Query as Find, StoreExt};

use super::error::ApiError;
use super::query::timestamp;
use super::reply::Reply;
use crate::context::Ctx;

/// How a query parameter selects documents.
#[derive(Debug, Clone, Copy)]
pub enum Filter {
    /// Equal text; `null` selects documents without the field.
    Text(&'static str),
    /// One of a comma-separated list.
    Texts(&'static str),
    /// Rules' way of writing booleans.
    Boolean(&'static str),
    /// Equal, or between when written `a..b`.
    Time(&'static str),
    After(&'static str),
    Before(&'static str),
}

/// What a resource's list offers.
#[derive(Debug, Clone, Copy)]
pub struct ListSpec {
    /// Page size when none is asked for; `None`: everything.
    pub default_limit: Option<u64>,
    pub filters: &'static [(&'static str, Filter)],
    /// Query name → field, for `sort`.
    pub sortable: &'static [(&'static str, &'static str)],
    pub order: &'static [Order],
    pub attributes: Attributes,
    /// Takes `offset`.
    pub offset: bool,
}

/// Which attributes may be chosen.
#[derive(Debug, Clone, Copy)]
pub struct Attributes {
    /// Known top-level attributes; empty: any.
    pub known: &'static [&'static str],
    pub excludable: &'static [&'static str],
    /// Shown whatever is chosen.
    pub mandatory: &'static [&'static str],
    /// Dotted attributes are cut out of these objects; other objects are shown whole.
    pub cut: &'static [&'static str],
}

impl Attributes {
    /// For resources of packs.
    pub const fn with_ref(known: &'static [&'static str], excludable: &'static [&'static str]) -> Self {
        Self { known, excludable, mandatory: &["id", "ref"], cut: &[] }
    }

    pub const fn plain(known: &'static [&'static str]) -> Self {
        Self { known, excludable: &[], mandatory: &["id"], cut: &[] }
    }
}

/// The attributes that a request chose.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Projection {
    #[default]
    All,
    /// Dotted paths.
    Include(Vec<String>),
    Exclude(Vec<String>),
}

impl Projection {
    pub fn parse(ctx: &Ctx, attributes: &Attributes) -> Result<Self, ApiError> {
        let include: Vec<String> =
            ctx.query.list("include_attributes").into_iter().map(|s| s.trim().to_owned()).collect();
        let exclude: Vec<String> =
            ctx.query.list("exclude_attributes").into_iter().map(|s| s.trim().to_owned()).collect();
        if !include.is_empty() && !exclude.is_empty() {
            return Err(ApiError::bad_request(
                "exclude_fields and include_fields arguments are mutually exclusive. \
                 You need to provide either one or another, but not both.",
            ));
        }
        for path in &include {
            let top = path.split('.').next().unwrap_or_default();
            if !attributes.known.is_empty() && !attributes.known.contains(&top) && !attributes.mandatory.contains(&top)
            {
                return Err(ApiError::bad_request(format!(
                    "Invalid or unsupported include attribute specified: Cannot resolve field \"{top}\""
                )));
            }
        }
        if let Some(name) = exclude.iter().find(|name| !attributes.excludable.contains(&name.as_str())) {
            return Err(ApiError::bad_request(format!("Invalid or unsupported exclude attribute specified: {name}")));
        }
        Ok(if !include.is_empty() {
            Self::Include(include)
        } else if exclude.is_empty() {
            Self::All
        } else {
            Self::Exclude(exclude)
        })
    }

    /// Whether an attribute is going to be shown, so that it is worth reading.
    pub fn shows(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::Include(paths) => paths.iter().any(|path| path.split('.').next() == Some(name)),
            Self::Exclude(names) => names.iter().all(|other| other != name),
        }
    }

    pub fn apply(&self, attributes: &Attributes, mut object: Object) -> Object {
        match self {
            Self::All => object,
            Self::Exclude(names) => {
                object.retain(|name, _| !names.iter().any(|other| other == name));
                object
            }
            Self::Include(paths) => {
                object.retain(|name, value| {
                    if attributes.mandatory.contains(&name.as_str()) {
                        return true;
                    }
                    let parts: Vec<&str> = paths
                        .iter()
                        .filter_map(|path| match path.split_once('.') {
                            Some((top, rest)) => (top == name).then_some(rest),
                            None => (path == name).then_some(""),
                        })
                        .collect();
                    if attributes.cut.contains(&name.as_str()) && !parts.contains(&"") {
                        cut(value, &parts);
                    }
                    !parts.is_empty()
                });
                object
            }
        }
    }
}

/// Keeps only the given dotted paths.
fn cut(value: &mut Value, paths: &[&str]) {
    let Some(object) = value.as_object_mut() else { return };
    object.retain(|name, value| {
        let parts: Vec<&str> = paths
            .iter()
            .filter_map(|path| match path.split_once('.') {
                Some((top, rest)) => (top == name).then_some(rest),
                None => (*path == name).then_some(""),
            })
            .collect();
        if !parts.is_empty() && !parts.contains(&"") {
            cut(value, &parts);
        }
        !parts.is_empty()
    });
}

/// Sizes of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    /// `None`: everything.
    pub limit: Option<u64>,
    pub offset: u64,
}

impl Page {
    pub fn parse(ctx: &Ctx, default: Option<u64>, with_offset: bool) -> Result<Self, ApiError> {
        let given = ctx.query.integer("limit")?;
        let limit = match given {
            None => default,
            Some(0) => {
                return Err(ApiError::bad_request(
                    "Limit, \"0\" specified, must be a positive number or -1 for full result set.",
                ));
            }
            Some(-1) => {
                if !ctx.identity.is_admin {
                    return Err(ApiError::forbidden(
                        "Administrator access required to be able to specify limit=-1 and retrieve all the records",
                    ));
                }
                None
            }
            Some(limit) if limit < 0 => {
                return Err(ApiError::bad_request(format!("Limit, \"{limit}\" specified, must be a positive number.")));
            }
            Some(limit) => {
                let max = ctx.gateway.limits.max_page_size;
                let limit = limit.unsigned_abs();
                if limit > max && !ctx.identity.is_admin {
                    return Err(ApiError::forbidden(format!(
                        "Limit \"{limit}\" specified, maximum value is \"{max}\""
                    )));
                }
                Some(limit)
            }
        };
        let offset = if with_offset { ctx.query.integer("offset")?.unwrap_or(0) } else { 0 };
        if offset >= 1 << 31 {
            return Err(ApiError::bad_request(format!("Offset \"{offset}\" specified is more than 32-bit int")));
        }
        let offset = u64::try_from(offset)
            .map_err(|_| ApiError::bad_request(format!("Offset \"{offset}\" specified must not be negative.")))?;
        Ok(Self { limit, offset })
    }
}

/// A checked list request.
#[derive(Debug, Clone)]
pub struct List {
    pub find: Find,
    pub page: Page,
    pub projection: Projection,
    attributes: Attributes,
}

impl ListSpec {
    /// Reads the parameters of a list request.
    pub fn parse(&self, ctx: &Ctx) -> Result<List, ApiError> {
        let page = Page::parse(ctx, self.default_limit, self.offset)?;
        let projection = Projection::parse(ctx, &self.attributes)?;
        let mut find = Find { limit: page.limit, offset: page.offset, ..Find::default() };
        let mut order: Option<Order> = None;
        for (name, filter) in self.filters {
            if let Some(value) = ctx.query.text(name) {
                let (conds, by_time) = filter.conds(value)?;
                find.conds.extend(conds);
                order = by_time.or(order);
            }
        }
        if let Some(ids) = ctx.query.ids("id")? {
            find.conds.push(Cond::IdIn(ids));
        }
        find.order = match order {
            Some(order) => vec![order],
            None => self.order.to_vec(),
        };
        let sorted: Vec<Order> = ctx.query.list("sort").into_iter().filter_map(|key| self.sort_key(key)).collect();
        if !sorted.is_empty() {
            find.order = sorted;
        }
        Ok(List { find, page, projection, attributes: self.attributes })
    }

    fn sort_key(&self, key: &str) -> Option<Order> {
        let name = key.trim_start_matches(['-', '+', ' ']);
        let field = self.sortable.iter().find(|(other, _)| *other == name)?.1;
        Some(if key.starts_with('-') { Order::Desc(field) } else { Order::Asc(field) })
    }
}

impl Filter {
    /// Conditions, and the order that a range of times forces.
    fn conds(&self, value: &str) -> Result<(Vec<Cond>, Option<Order>), ApiError> {
        let null = value.eq_ignore_ascii_case("null");
        Ok(match *self {
            Self::Text(field) if null => (vec![Cond::Absent(field)], None),
            Self::Text(field) => (vec![Cond::Eq(field, value.into())], None),
            Self::Texts(field) => {
                let values = value.split(',').filter(|v| !v.is_empty()).map(Key::from).collect();
                (vec![Cond::In(field, values)], None)
            }
            Self::Boolean(field) => {
                let flag = match value {
                    "1" | "true" | "True" => true,
                    "0" | "false" | "False" => false,
                    _ => {
                        return Err(ApiError::bad_request(format!(
                            "Invalid bool representation \"{value}\" provided."
                        )));
                    }
                };
                (vec![Cond::Eq(field, flag.into())], None)
            }
            Self::Time(field) => match value.split_once("..") {
                Some((from, to)) => {
                    let (from, to) = (timestamp(from)?, timestamp(to)?);
                    let order = if from > to { Order::Desc(field) } else { Order::Asc(field) };
                    let conds = vec![Cond::Ge(field, from.min(to).into()), Cond::Le(field, from.max(to).into())];
                    (conds, Some(order))
                }
                None => (vec![Cond::Eq(field, timestamp(value)?.into())], None),
            },
            Self::After(field) => (vec![Cond::Gt(field, timestamp(value)?.into())], None),
            Self::Before(field) => (vec![Cond::Lt(field, timestamp(value)?.into())], None),
        })
    }
}

impl List {
    /// The page's documents and the number of matches.
    pub async fn fetch<T: Resource>(&self, ctx: &Ctx) -> Result<(Vec<Versioned<T>>, u64), ApiError> {
        let store = &ctx.gateway.services.store;
        let max = ctx.gateway.limits.max_rows;
        let mut find = self.find.clone();
        // One row more than we would answer, to tell "all" from "too many".
        find.limit = Some(find.limit.unwrap_or(max + 1).min(max + 1));
        let rows = store.search::<T>(&find).await?;
        let got = rows.len() as u64;
        if got > max {
            return Err(ApiError::bad_request(format!(
                "More than {max} records match: use \"limit\" and \"offset\" to get them page by page."
            )));
        }
        let complete = self.page.limit.is_none_or(|limit| got < limit) && (got > 0 || self.page.offset == 0);
        let total = if complete { self.page.offset + got } else { store.total::<T>(&self.find).await? };
        Ok((rows, total))
    }

    pub fn project(&self, object: Object) -> Object {
        self.projection.apply(&self.attributes, object)
    }

    /// The answer with its count headers.
    pub fn reply(&self, items: Vec<Object>, total: u64) -> Result<Reply, ApiError> {
        let items: Vec<Object> = items.into_iter().map(|item| self.project(item)).collect();
        Ok(count_headers(Reply::json(&items)?, total, self.page.limit))
    }
}

/// `X-Total-Count`, and `X-Limit` unless unlimited.
pub fn count_headers(reply: Reply, total: u64, limit: Option<u64>) -> Reply {
    let reply = reply.header(HeaderName::from_static("x-total-count"), &total.to_string());
    match limit {
        Some(limit) => reply.header(HeaderName::from_static("x-limit"), &limit.to_string()),
        None => reply,
    }
}

/// A list of resources that are shown as `to_api` gives them, whoever asks.
pub async fn simple<T: Resource>(ctx: &Ctx, spec: &ListSpec, to_api: fn(&T) -> Object) -> Result<Reply, ApiError> {
    let list = spec.parse(ctx)?;
    // Asked before the documents are read: what changes in between is noticed the next time.
    let Some(changes) = ctx.services().store.changes(T::COLLECTION) else {
        let (rows, total) = list.fetch::<T>(ctx).await?;
        return list.reply(rows.iter().map(|row| to_api(&row.doc)).collect(), total);
    };
    let question = (T::COLLECTION.name, format!("{:?} {:?}", list.find, list.projection));
    let rendered = &ctx.gateway.rendered;
    let answer = match rendered.find(&question, changes) {
        Some(answer) => answer,
        None => {
            let (rows, total) = list.fetch::<T>(ctx).await?;
            let items: Vec<Object> = rows.iter().map(|row| list.project(to_api(&row.doc))).collect();
            let text = serde_json::to_vec(&items).map_err(|e| ApiError::internal(format!("answer as JSON: {e}")))?;
            rendered.keep(question, changes, total, text.into())
        }
    };
    let reply = answer.reply(super::gzip::is_accepted(&ctx.headers)).await?;
    Ok(count_headers(reply, answer.total, list.page.limit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ATTRIBUTES: Attributes = Attributes { known: &[], excludable: &[], mandatory: &["id"], cut: &["action"] };

    #[test]
    fn dotted_attributes_are_cut_out() {
        let object = model::resource::to_object(&json!({
            "id": "1", "action": {"ref": "a.b", "pack": "a", "x": {"y": 1, "z": 2}}, "context": {"user": "u", "n": 1}, "q": 1
        }));
        let include = |paths: &[&str]| {
            let projection = Projection::Include(paths.iter().map(|p| (*p).to_owned()).collect());
            Value::Object(projection.apply(&ATTRIBUTES, object.clone()))
        };
        assert_eq!(include(&["action.ref", "action.x.y"]), json!({"id": "1", "action": {"ref": "a.b", "x": {"y": 1}}}));
        assert_eq!(include(&["context.user"]), json!({"id": "1", "context": {"user": "u", "n": 1}}));
        assert_eq!(include(&["action", "action.ref"])["action"]["pack"], json!("a"));
    }

    #[test]
    fn filters() {
        assert_eq!(Filter::Text("parent").conds("NULL").unwrap().0, [Cond::Absent("parent")]);
        assert_eq!(
            Filter::Boolean("enabled").conds("yes").unwrap_err().fault,
            "Invalid bool representation \"yes\" provided."
        );
        let (conds, order) = Filter::Time("t").conds("2026-01-02T00:00:00Z..2026-01-01T00:00:00Z").unwrap();
        assert_eq!((conds.len(), order), (2, Some(Order::Desc("t"))));
        assert_eq!(
            Filter::After("t").conds("yesterday").unwrap_err().fault,
            "Datetime value does not match expected format."
        );
    }
}
