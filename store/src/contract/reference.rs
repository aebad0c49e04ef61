//! The port's semantics in memory: slow, obvious, and without I/O.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use model::{Collection, Id, Key, Keys};

use crate::batch::{Applied, Batch, Write};
use crate::error::StoreError;
use crate::port::Document;
use crate::query::{Cond, Order, Query};

/// A store of any collections.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reference {
    collections: BTreeMap<&'static str, BTreeMap<Id, Entry>>,
    fences: HashMap<String, u64>,
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    rev: u64,
    body: String,
    keys: BTreeMap<&'static str, Key>,
}

impl Reference {
    /// As [`crate::Store::commit`].
    pub fn commit(&mut self, batch: &Batch) -> Result<Vec<Applied>, StoreError> {
        let mut next = self.clone();
        if let Some(fence) = &batch.fence {
            let current = next.fences.entry(fence.name.clone()).or_insert(fence.epoch);
            if fence.epoch < *current {
                return Err(StoreError::StaleFence { name: fence.name.clone(), given: fence.epoch, current: *current });
            }
            *current = fence.epoch;
        }
        let applied = batch.writes.iter().map(|write| next.apply(write)).collect::<Result<_, _>>()?;
        *self = next;
        Ok(applied)
    }

    fn apply(&mut self, write: &Write) -> Result<Applied, StoreError> {
        match write {
            Write::Insert { collection, id, body, keys, or_ignore } => {
                let documents = self.collections.entry(collection.name).or_default();
                if documents.contains_key(id) {
                    let (collection, fields) = (collection.name, "id".to_owned());
                    return match or_ignore {
                        true => Ok(Applied::Present),
                        false => Err(StoreError::Duplicate { collection, fields, existing: Some(*id) }),
                    };
                }
                check_unique(collection, documents, *id, keys)?;
                documents.insert(*id, Entry { rev: 1, body: body.clone(), keys: keys.iter().cloned().collect() });
                Ok(Applied::Inserted)
            }
            Write::Update { collection, id, rev, body, keys } => {
                let documents = self.collections.entry(collection.name).or_default();
                if documents.get(id).is_none_or(|entry| entry.rev != *rev) {
                    return Err(StoreError::Stale { collection: collection.name, id: *id, expected: *rev });
                }
                check_unique(collection, documents, *id, keys)?;
                let keys = keys.iter().cloned().collect();
                documents.insert(*id, Entry { rev: rev + 1, body: body.clone(), keys });
                Ok(Applied::Updated { rev: rev + 1 })
            }
            Write::Delete { collection, id, rev } => {
                let documents = self.collections.entry(collection.name).or_default();
                match (documents.get(id), rev) {
                    (None, None) => return Ok(Applied::Absent),
                    (Some(entry), Some(rev)) if entry.rev == *rev => {}
                    (Some(_), None) => {}
                    (_, Some(rev)) => {
                        return Err(StoreError::Stale { collection: collection.name, id: *id, expected: *rev });
                    }
                }
                documents.remove(id);
                Ok(Applied::Deleted)
            }
        }
    }

    /// As [`crate::Store::find`].
    pub fn find(&self, collection: &Collection, query: &Query) -> Vec<Document> {
        let mut found = self.matching(collection, query);
        found.sort_by(|(a, x), (b, y)| {
            let by_key = query.order.iter().map(|order| match order {
                Order::Asc(field) => x.keys.get(field).cmp(&y.keys.get(field)),
                Order::Desc(field) => y.keys.get(field).cmp(&x.keys.get(field)),
            });
            by_key.fold(Ordering::Equal, Ordering::then).then(a.cmp(b))
        });
        let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
        let take = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let document = |(id, entry): (&Id, &Entry)| Document { id: *id, rev: entry.rev, body: entry.body.clone() };
        found.into_iter().skip(skip).take(take).map(document).collect()
    }

    /// As [`crate::Store::count`].
    pub fn count(&self, collection: &Collection, query: &Query) -> u64 {
        self.matching(collection, query).len() as u64
    }

    /// As [`crate::Store::distinct`].
    pub fn distinct(&self, collection: &Collection, field: &str, query: &Query, limit: usize) -> Vec<Key> {
        let matching = self.matching(collection, query);
        let values: BTreeSet<&Key> = matching.iter().filter_map(|(_, entry)| entry.keys.get(field)).collect();
        values.into_iter().take(limit).cloned().collect()
    }

    fn matching(&self, collection: &Collection, query: &Query) -> Vec<(&Id, &Entry)> {
        let documents = self.collections.get(collection.name).into_iter().flatten();
        documents.filter(|(id, entry)| query.conds.iter().all(|cond| holds(cond, **id, entry))).collect()
    }
}

fn check_unique(
    collection: &Collection,
    documents: &BTreeMap<Id, Entry>,
    id: Id,
    keys: &Keys,
) -> Result<(), StoreError> {
    let given: BTreeMap<&str, &Key> = keys.iter().map(|(field, key)| (*field, key)).collect();
    for index in collection.indexes.iter().filter(|index| index.unique) {
        let Some(wanted) = index.fields.iter().map(|field| given.get(field).copied()).collect::<Option<Vec<_>>>()
        else {
            continue;
        };
        let holds =
            |entry: &Entry| index.fields.iter().zip(&wanted).all(|(field, key)| entry.keys.get(field) == Some(*key));
        if let Some((existing, _)) = documents.iter().find(|(other, entry)| **other != id && holds(entry)) {
            let (collection, fields) = (collection.name, index.fields.join(","));
            return Err(StoreError::Duplicate { collection, fields, existing: Some(*existing) });
        }
    }
    Ok(())
}

fn holds(cond: &Cond, id: Id, entry: &Entry) -> bool {
    let is = |field: &str, test: &dyn Fn(&Key) -> bool| entry.keys.get(field).is_some_and(test);
    match cond {
        Cond::Eq(field, key) => is(field, &|other| other == key),
        Cond::Ne(field, key) => !is(field, &|other| other == key),
        Cond::In(field, keys) => is(field, &|other| keys.contains(other)),
        Cond::Lt(field, key) => is(field, &|other| other < key),
        Cond::Le(field, key) => is(field, &|other| other <= key),
        Cond::Gt(field, key) => is(field, &|other| other > key),
        Cond::Ge(field, key) => is(field, &|other| other >= key),
        Cond::Prefix(field, prefix) => is(field, &|other| matches!(other, Key::Text(text) if text.starts_with(prefix))),
        Cond::Absent(field) => !is(field, &|_| true),
        Cond::Present(field) => is(field, &|_| true),
        Cond::IdIn(ids) => ids.contains(&id),
        Cond::IdAfter(after) => id > *after,
    }
}
