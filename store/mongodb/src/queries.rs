//! Queries. All reads of one query see the same moment (a snapshot that a majority has), so that none sees half of a
//! batch.

use std::cmp::Ordering;

use futures::TryStreamExt as _;
use model::{Collection, Id, Key, KeyKind};
use mongodb::ClientSession;
use mongodb::bson::{Bson, Document as Fields, doc};
use mongodb::error::Error;
use mongodb::options::Hint;
use store::{Document, Query, StoreError};

use crate::documents::{document, filter, name, sort_fields};
use crate::store::{Inner, reading};

type Stored = mongodb::Collection<Fields>;

/// Batches of a cursor; most answers fit into one.
const PAGE: u32 = 1_000;

pub(crate) async fn find(inner: &Inner, collection: &Collection, query: &Query) -> Result<Vec<Document>, StoreError> {
    let stored = inner.collection(collection)?;
    let plan = Plan::new(collection, query)?;
    let found = reading!(inner, {
        let mut session = inner.client.start_session().snapshot(true).await?;
        plan.run(&stored, &mut session).await?
    })?;
    found.iter().map(document).collect()
}

/// How a query is run.
struct Plan {
    filter: Fields,
    order: Vec<(String, bool)>,
    skip: u64,
    limit: Option<u64>,
    /// The first sort field is a time: it has few ties, and an index of its own.
    by_time: bool,
}

impl Plan {
    fn new(collection: &Collection, query: &Query) -> Result<Self, StoreError> {
        let order = sort_fields(collection, query)?;
        let kind = |column: &str| {
            let field = collection.fields.iter().find(|(field, _)| format!("k_{field}") == column);
            field.map(|(_, kind)| *kind)
        };
        let by_time = order.first().is_some_and(|(column, _)| kind(column) == Some(KeyKind::Int));
        Ok(Self { filter: filter(collection, query)?, order, skip: query.offset, limit: query.limit, by_time })
    }

    async fn run(&self, stored: &Stored, session: &mut ClientSession) -> Result<Vec<Fields>, Error> {
        if self.limit == Some(0) {
            return Ok(Vec::new());
        }
        // An index serves ascending order with ties by id; the other way round, or with further fields, it can't, and
        // the server would read every match to sort them.
        let served = matches!(self.order[..], [] | [(_, true)]);
        match self.limit {
            Some(limit) if self.by_time && !served => self.by_leading_field(stored, session, limit).await,
            _ => self.by_server(stored, session).await,
        }
    }

    async fn by_server(&self, stored: &Stored, session: &mut ClientSession) -> Result<Vec<Fields>, Error> {
        let mut sort = Fields::new();
        for (column, ascending) in &self.order {
            sort.insert(column, if *ascending { 1 } else { -1 });
        }
        sort.insert("_id", 1);
        let mut find = stored.find(self.filter.clone()).sort(sort).batch_size(PAGE).allow_disk_use(true);
        if self.skip > 0 {
            find = find.skip(self.skip);
        }
        if let Some(limit) = self.limit {
            find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        all(find.session(&mut *session).await?, session).await
    }

    /// Reads in the order of the first field alone, which an index serves either way, then puts ties in order.
    async fn by_leading_field(
        &self,
        stored: &Stored,
        session: &mut ClientSession,
        limit: u64,
    ) -> Result<Vec<Fields>, Error> {
        let leading = &self.order[0].0;
        let wanted = self.skip.saturating_add(limit);
        // Skipped documents are only ordered, not read.
        let whole = self.skip == 0;
        let mut rows = self.read(stored, session, self.filter.clone(), Some(wanted)).await?;
        if rows.len() as u64 == wanted
            && let Some(last) = rows.last().map(|row| row.get(leading).cloned())
        {
            rows.retain(|row| row.get(leading) != last.as_ref());
            let tie = match last {
                Some(value) => doc! {leading: value},
                None => doc! {leading: {"$exists": false}},
            };
            let filter = if self.filter.is_empty() {
                tie
            } else {
                doc! {"$and": [self.filter.clone(), tie]}
            };
            rows.extend(self.read(stored, session, filter, None).await?);
        }
        rows.sort_by(|a, b| self.compare(a, b));
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        let take = usize::try_from(limit).unwrap_or(usize::MAX);
        let rows: Vec<Fields> = rows.into_iter().skip(skip).take(take).collect();
        if whole {
            return Ok(rows);
        }
        let ids: Vec<Bson> = rows.iter().filter_map(|row| row.get("_id").cloned()).collect();
        let find = stored.find(doc! {"_id": {"$in": &ids}}).batch_size(PAGE);
        let mut found = all(find.session(&mut *session).await?, session).await?;
        found.sort_by_cached_key(|row| ids.iter().position(|id| row.get("_id") == Some(id)));
        Ok(found)
    }

    /// In the order of the first field alone.
    async fn read(
        &self,
        stored: &Stored,
        session: &mut ClientSession,
        filter: Fields,
        limit: Option<u64>,
    ) -> Result<Vec<Fields>, Error> {
        let (leading, ascending) = &self.order[0];
        let mut find = stored.find(filter).sort(doc! {leading: if *ascending { 1 } else { -1 }}).batch_size(PAGE);
        if let Some(limit) = limit {
            find = find.limit(i64::try_from(limit).unwrap_or(i64::MAX));
        }
        if self.skip > 0 {
            let mut columns = doc! {"_id": 1};
            columns.extend(self.order.iter().map(|(column, _)| (column.clone(), Bson::Int32(1))));
            find = find.projection(columns);
        }
        all(find.session(&mut *session).await?, session).await
    }

    fn compare(&self, a: &Fields, b: &Fields) -> Ordering {
        let by_key = self.order.iter().map(|(column, ascending)| {
            let order = key(a.get(column)).cmp(&key(b.get(column)));
            if *ascending { order } else { order.reverse() }
        });
        by_key
            .fold(Ordering::Equal, Ordering::then)
            .then_with(|| a.get_object_id("_id").ok().cmp(&b.get_object_id("_id").ok()))
    }
}

/// A stored key; absent ones come first.
fn key(value: Option<&Bson>) -> Option<Key> {
    match value? {
        Bson::String(text) => Some(Key::Text(text.clone())),
        Bson::Int64(number) => Some(Key::Int(*number)),
        Bson::Int32(number) => Some(Key::Int(i64::from(*number))),
        _ => None,
    }
}

async fn all(mut cursor: mongodb::SessionCursor<Fields>, session: &mut ClientSession) -> Result<Vec<Fields>, Error> {
    cursor.stream(session).try_collect().await
}

pub(crate) async fn count(inner: &Inner, collection: &Collection, query: &Query) -> Result<u64, StoreError> {
    let stored = inner.collection(collection)?;
    let filter = filter(collection, query)?;
    reading!(inner, {
        let mut session = inner.client.start_session().snapshot(true).await?;
        let mut count = stored.count_documents(filter.clone());
        if filter.is_empty() {
            // Through the index: the documents themselves are not read.
            count = count.hint(Hint::Keys(doc! {"_id": 1}));
        }
        count.session(&mut session).await?
    })
}

pub(crate) async fn distinct(
    inner: &Inner,
    collection: &Collection,
    field: &str,
    query: &Query,
    limit: u64,
) -> Result<Vec<Key>, StoreError> {
    let stored = inner.collection(collection)?;
    let column = name(collection, field, None)?;
    if limit == 0 {
        return Ok(Vec::new());
    }
    let present = doc! {&column: {"$exists": true}};
    let filter = filter(collection, query)?;
    let matching = if filter.is_empty() {
        present
    } else {
        doc! {"$and": [filter, present]}
    };
    let pipeline = vec![
        doc! {"$match": matching},
        doc! {"$group": {"_id": format!("${column}")}},
        doc! {"$sort": {"_id": 1}},
        doc! {"$limit": i64::try_from(limit).unwrap_or(i64::MAX)},
    ];
    let found: Vec<Fields> = reading!(inner, {
        let mut session = inner.client.start_session().snapshot(true).await?;
        let mut cursor = stored.aggregate(pipeline.clone()).session(&mut session).await?;
        cursor.stream(&mut session).try_collect().await?
    })?;
    Ok(found.iter().filter_map(|row| key(row.get("_id"))).collect())
}

/// The document that holds a unique key, if it is still there.
pub(crate) async fn holder(inner: &Inner, stored: &Stored, filter: Fields) -> Result<Option<Id>, StoreError> {
    let found = reading!(inner, stored.find_one(filter.clone()).projection(doc! {"_id": 1}).await?)?;
    Ok(found.and_then(|fields| fields.get_object_id("_id").ok()).map(|id| Id::from_bytes(id.bytes())))
}
