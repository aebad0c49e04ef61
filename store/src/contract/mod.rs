//! What every adapter of [`Store`] must do, as tests.
//!
//! An adapter gives a [`Factory`] and calls [`store_contract!`](crate::store_contract), which makes a test of each
//! function of [`batches`], [`queries`], [`blobs`], [`concurrency`] and [`random`]. Where the port's documents leave a choice open,
//! the suite leaves it open too. [`random`] compares with [`Reference`], the port's semantics in memory.

#![expect(clippy::unwrap_used, reason = "test code")]

pub mod batches;
pub mod blobs;
pub mod concurrency;
pub mod queries;
pub mod random;
pub mod reference;

use std::sync::Arc;

use async_trait::async_trait;
use model::resource::{Collection, KeyKind, Keys, index, unique};
use model::{Id, Key, Timestamp};

use crate::batch::{Batch, Fence, Write};
use crate::port::{Document, Store};
use crate::query::Query;
pub use reference::Reference;

/// Opens the stores of the suite. They keep [`COLLECTIONS`].
#[async_trait]
pub trait Factory: Send + Sync {
    /// Opens the store of this name; the first time, it is empty.
    async fn open(&self, name: &str) -> Arc<dyn Store>;

    /// Closes it, so that it can be opened again. All that was acknowledged stays.
    async fn close(&self, name: &str);
}

/// Documents with keys of every kind.
pub const DOCS: &Collection = &Collection {
    name: "contract_docs",
    fields: &[
        ("name", KeyKind::Text),
        ("group", KeyKind::Text),
        ("slot", KeyKind::Int),
        ("rank", KeyKind::Int),
        ("tag", KeyKind::Text),
        ("plain", KeyKind::Int),
    ],
    indexes: &[unique(&["name"]), unique(&["group", "slot"]), index(&["rank"]), index(&["tag", "rank"])],
};

/// Documents without keys.
pub const NOTES: &Collection = &Collection { name: "contract_notes", fields: &[], indexes: &[] };

/// What a store of the suite keeps.
pub const COLLECTIONS: &[&Collection] = &[DOCS, NOTES];

/// The id of document `n`; ids rise with `n`.
pub fn id(n: u64) -> Id {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&0x6553_f100_u32.to_be_bytes());
    bytes[4..].copy_from_slice(&n.to_be_bytes());
    Id::from_bytes(bytes)
}

/// An id that nothing else has.
pub fn fresh() -> Id {
    Id::fresh(Timestamp::from_micros(1_700_000_000_000_000))
}

pub fn text(value: &str) -> Key {
    Key::Text(value.to_owned())
}

pub fn insert(id: Id, body: &str, keys: Keys) -> Write {
    Write::Insert { collection: DOCS, id, body: body.to_owned(), keys, or_ignore: false }
}

pub fn insert_or_ignore(id: Id, body: &str, keys: Keys) -> Write {
    Write::Insert { collection: DOCS, id, body: body.to_owned(), keys, or_ignore: true }
}

pub fn update(id: Id, rev: u64, body: &str, keys: Keys) -> Write {
    Write::Update { collection: DOCS, id, rev, body: body.to_owned(), keys }
}

pub const fn delete(id: Id, rev: Option<u64>) -> Write {
    Write::Delete { collection: DOCS, id, rev }
}

pub fn batch(writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch { writes: writes.into_iter().collect(), fence: None }
}

pub fn fenced(name: &str, epoch: u64, writes: impl IntoIterator<Item = Write>) -> Batch {
    Batch { fence: Some(Fence { name: name.to_owned(), epoch }), ..batch(writes) }
}

/// All documents, by id.
pub async fn all(store: &dyn Store) -> Vec<Document> {
    store.find(DOCS, &Query::all()).await.unwrap()
}

/// Ids of what a query finds.
pub async fn found(store: &dyn Store, query: &Query) -> Vec<Id> {
    store.find(DOCS, query).await.unwrap().into_iter().map(|document| document.id).collect()
}

/// Makes the tests: `store_contract!(async { MyFactory::new().await })`, the expression being evaluated for each.
/// `store_contract!(maybe async { Option<MyFactory> })` passes where there is no server to test with.
#[macro_export]
macro_rules! store_contract {
    (maybe $factory:expr) => {
        $crate::store_contract!(@all $factory);
    };
    ($factory:expr) => {
        $crate::store_contract!(@all async { Some($factory.await) });
    };
    (@all $factory:expr) => {
        $crate::store_contract!(@module $factory, batches: [
            documents_go_through_their_life, changes_are_counted_if_at_all, ids_are_unique, or_ignore_leaves_what_is_there,
            stale_revisions_are_refused, unique_keys_are_refused, absent_keys_do_not_collide,
            unique_keys_are_freed, a_refused_batch_leaves_nothing, writes_of_a_batch_happen_in_order,
            duplicates_within_a_batch, long_batches, limits, misuse, fences, bodies_come_back_as_they_were,
            survives_reopening,
        ]);
        $crate::store_contract!(@module $factory, queries: [
            every_condition, prefixes_are_literal, orders, sorting_with_absent_keys, paging, counting,
            distinct_values, long_lists, typed_access,
        ]);
        $crate::store_contract!(@module $factory, blobs: [
            blobs_come_back, large_blobs, repeating_is_harmless, deleting, concurrent_uploads,
        ]);
        $crate::store_contract!(@module $factory, concurrency: [
            compare_and_set_counts_exactly, one_of_many_inserts, slots_are_given_once, transfers_are_never_half_seen,
            abandoned_commits_are_whole, refusals_do_not_touch_others, many_readers, check_answers,
        ]);
        $crate::store_contract!(@module $factory, random: [
            one_by_one_as_the_reference, at_once_as_in_some_order, random_queries,
        ]);
    };
    (@module $factory:expr, $module:ident: [$($name:ident),* $(,)?]) => {
        mod $module {
            use super::*;
            $(
                #[tokio::test]
                async fn $name() {
                    let Some(factory) = $factory.await else { return };
                    $crate::contract::$module::$name(&factory).await;
                }
            )*
        }
    };
}
