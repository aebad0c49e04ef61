//! Documents and conditions as MongoDB has them.

use model::{Collection, Id, Key, KeyKind, Keys};
use mongodb::bson::oid::ObjectId;
use mongodb::bson::{Bson, Document as Fields, doc};
use store::{Cond, Document, Order, Query, StoreError};

pub(crate) fn object_id(id: Id) -> ObjectId {
    ObjectId::from_bytes(*id.as_bytes())
}

/// Marks what one commit wrote.
pub(crate) type Mark = ObjectId;

/// The stored form.
pub(crate) fn stored(
    collection: &Collection,
    id: Id,
    rev: i64,
    body: &str,
    keys: &Keys,
    mark: Mark,
) -> Result<Fields, StoreError> {
    let mut fields = doc! {"_id": object_id(id), "rev": rev};
    for (field, key) in keys {
        fields.insert(name(collection, field, Some(key))?, value(key));
    }
    fields.insert("body", body);
    fields.insert("w", mark);
    Ok(fields)
}

/// Revisions are far from this limit; one beyond it names no document.
pub(crate) fn revision(rev: u64) -> Option<i64> {
    i64::try_from(rev).ok()
}

pub(crate) fn document(fields: &Fields) -> Result<Document, StoreError> {
    let bad = |_| StoreError::Unavailable("a stored document lacks its id, revision or body".to_owned());
    let id = fields.get_object_id("_id").map_err(bad)?;
    let rev = fields.get_i64("rev").map_err(bad)?;
    let body = fields.get_str("body").map_err(bad)?.to_owned();
    Ok(Document { id: Id::from_bytes(id.bytes()), rev: u64::try_from(rev).unwrap_or(0), body })
}

pub(crate) fn value(key: &Key) -> Bson {
    match key {
        Key::Text(text) => Bson::String(text.clone()),
        Key::Int(number) => Bson::Int64(*number),
    }
}

/// The stored name of a declared field; asking for another, or with another kind of key, is the caller's mistake.
pub(crate) fn name(collection: &Collection, field: &str, key: Option<&Key>) -> Result<String, StoreError> {
    let declared = collection.fields.iter().find(|(declared, _)| *declared == field);
    let Some((_, kind)) = declared else {
        return Err(StoreError::Misuse(format!("{} declares no field {field}", collection.name)));
    };
    let fits = match key {
        None => true,
        Some(Key::Text(_)) => *kind == KeyKind::Text,
        Some(Key::Int(_)) => *kind == KeyKind::Int,
    };
    if fits {
        Ok(format!("k_{field}"))
    } else {
        Err(StoreError::Misuse(format!("field {field} of {} holds keys of another kind", collection.name)))
    }
}

pub(crate) fn filter(collection: &Collection, query: &Query) -> Result<Fields, StoreError> {
    let conds = query.conds.iter().map(|cond| condition(collection, cond)).collect::<Result<Vec<_>, _>>()?;
    let mut all: Vec<Fields> = conds.into_iter().flatten().collect();
    Ok(match all.len() {
        0 => Fields::new(),
        1 => all.remove(0),
        _ => doc! {"$and": all},
    })
}

fn condition(collection: &Collection, cond: &Cond) -> Result<Vec<Fields>, StoreError> {
    let compare = |field: &str, operator: &str, key: &Key| -> Result<Vec<Fields>, StoreError> {
        Ok(vec![doc! {name(collection, field, Some(key))?: {operator: value(key)}}])
    };
    match cond {
        Cond::Eq(field, key) => compare(field, "$eq", key),
        Cond::Ne(field, key) => compare(field, "$ne", key),
        Cond::Lt(field, key) => compare(field, "$lt", key),
        Cond::Le(field, key) => compare(field, "$lte", key),
        Cond::Gt(field, key) => compare(field, "$gt", key),
        Cond::Ge(field, key) => compare(field, "$gte", key),
        Cond::In(field, keys) => {
            let column = name(collection, field, None)?;
            for key in keys {
                name(collection, field, Some(key))?;
            }
            Ok(vec![doc! {column: {"$in": keys.iter().map(value).collect::<Vec<_>>()}}])
        }
        Cond::Prefix(field, prefix) => {
            let column = name(collection, field, Some(&Key::Text(String::new())))?;
            let mut range = vec![doc! {&column: {"$gte": prefix}}];
            range.extend(store::query::after_prefix(prefix).map(|end| doc! {&column: {"$lt": end}}));
            Ok(range)
        }
        Cond::Absent(field) => Ok(vec![doc! {name(collection, field, None)?: {"$exists": false}}]),
        Cond::Present(field) => Ok(vec![doc! {name(collection, field, None)?: {"$exists": true}}]),
        Cond::IdIn(ids) => {
            let ids: Vec<ObjectId> = ids.iter().map(|id| object_id(*id)).collect();
            Ok(vec![doc! {"_id": {"$in": ids}}])
        }
        Cond::IdAfter(id) => Ok(vec![doc! {"_id": {"$gt": object_id(*id)}}]),
    }
}

/// Sort fields and whether they ascend. A field that is named again says nothing new.
pub(crate) fn sort_fields(collection: &Collection, query: &Query) -> Result<Vec<(String, bool)>, StoreError> {
    let mut fields: Vec<(String, bool)> = Vec::with_capacity(query.order.len());
    for order in &query.order {
        let (field, ascending) = match order {
            Order::Asc(field) => (field, true),
            Order::Desc(field) => (field, false),
        };
        let column = name(collection, field, None)?;
        if fields.iter().all(|(known, _)| *known != column) {
            fields.push((column, ascending));
        }
    }
    Ok(fields)
}
