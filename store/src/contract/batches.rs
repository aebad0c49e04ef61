//! Commits: atomic, compare-and-set, unique, fenced.

use super::*;
use crate::batch::Applied;
use crate::error::StoreError;
use crate::limits::{MAX_BATCH_WRITES, MAX_DOCUMENT_BYTES};
use crate::query::Cond;

pub async fn documents_go_through_their_life(factory: &impl Factory) {
    let store = factory.open("life").await;
    assert_eq!(store.get(DOCS, id(1)).await.unwrap(), None);
    let keys = vec![("rank", Key::Int(1))];
    assert_eq!(store.commit(batch([insert(id(1), "{\"v\":1}", keys)])).await, Ok(vec![Applied::Inserted]));
    let read = store.get(DOCS, id(1)).await.unwrap();
    assert_eq!(read, Some(Document { id: id(1), rev: 1, body: "{\"v\":1}".into() }));
    // The keys are those of the last write, not merged with older ones.
    let keys = vec![("tag", text("t"))];
    assert_eq!(store.commit(batch([update(id(1), 1, "{\"v\":2}", keys)])).await, Ok(vec![Applied::Updated { rev: 2 }]));
    let read = store.get(DOCS, id(1)).await.unwrap();
    assert_eq!(read, Some(Document { id: id(1), rev: 2, body: "{\"v\":2}".into() }));
    assert_eq!(found(&*store, &Query::eq("rank", 1)).await, []);
    assert_eq!(found(&*store, &Query::eq("tag", "t")).await, [id(1)]);
    // Collections are apart.
    assert_eq!(store.get(NOTES, id(1)).await.unwrap(), None);
    assert_eq!(store.commit(batch([delete(id(1), Some(2))])).await, Ok(vec![Applied::Deleted]));
    assert_eq!(store.get(DOCS, id(1)).await.unwrap(), None);
    // Back again, it begins anew.
    store.commit(batch([insert(id(1), "{}", vec![])])).await.unwrap();
    assert_eq!(store.get(DOCS, id(1)).await.unwrap().unwrap().rev, 1);
    assert_eq!(store.commit(batch([])).await, Ok(vec![]));
}

/// Where the store counts changes, each moves the count of its collection before it is answered.
pub async fn changes_are_counted_if_at_all(factory: &impl Factory) {
    let store = factory.open("changes").await;
    let writes = [insert(id(1), "{}", vec![]), update(id(1), 1, "{\"v\":1}", vec![]), delete(id(1), None)];
    let others = store.changes(NOTES);
    let mut last = store.changes(DOCS);
    let counts = last.is_some();
    for write in writes {
        store.commit(batch([write])).await.unwrap();
        let now = store.changes(DOCS);
        assert_eq!((now.is_some(), now != last), (counts, counts));
        last = now;
    }
    assert_eq!(store.changes(NOTES), others);
}

pub async fn ids_are_unique(factory: &impl Factory) {
    let store = factory.open("ids").await;
    store.commit(batch([insert(id(1), "1", vec![])])).await.unwrap();
    let refused = store.commit(batch([insert(id(1), "2", vec![("rank", Key::Int(1))])])).await;
    assert_eq!(
        refused,
        Err(StoreError::Duplicate { collection: DOCS.name, fields: "id".into(), existing: Some(id(1)) })
    );
    assert_eq!(store.get(DOCS, id(1)).await.unwrap().unwrap().body, "1");
}

pub async fn or_ignore_leaves_what_is_there(factory: &impl Factory) {
    let store = factory.open("ignore").await;
    let keys = vec![("name", text("a")), ("group", text("g")), ("slot", Key::Int(1))];
    let first = insert_or_ignore(id(1), "1", keys.clone());
    assert_eq!(store.commit(batch([first.clone()])).await, Ok(vec![Applied::Inserted]));
    // Its own unique keys don't stand in the way.
    assert_eq!(store.commit(batch([first.clone()])).await, Ok(vec![Applied::Present]));
    store.commit(batch([update(id(1), 1, "2", keys)])).await.unwrap();
    let several = batch([insert_or_ignore(id(2), "2", vec![]), first, insert_or_ignore(id(2), "3", vec![])]);
    assert_eq!(store.commit(several).await, Ok(vec![Applied::Inserted, Applied::Present, Applied::Present]));
    assert_eq!(store.get(DOCS, id(1)).await.unwrap().unwrap(), Document { id: id(1), rev: 2, body: "2".into() });
    assert_eq!(store.get(DOCS, id(2)).await.unwrap().unwrap().body, "2");
    // Another document's unique keys do.
    let other = store.commit(batch([insert_or_ignore(id(3), "3", vec![("name", text("a"))])])).await;
    assert_eq!(
        other,
        Err(StoreError::Duplicate { collection: DOCS.name, fields: "name".into(), existing: Some(id(1)) })
    );
}

pub async fn stale_revisions_are_refused(factory: &impl Factory) {
    let store = factory.open("stale").await;
    let stale = |n, expected| Err(StoreError::Stale { collection: DOCS.name, id: id(n), expected });
    assert_eq!(store.commit(batch([update(id(1), 1, "x", vec![])])).await, stale(1, 1));
    assert_eq!(store.commit(batch([delete(id(1), Some(1))])).await, stale(1, 1));
    assert_eq!(store.commit(batch([delete(id(1), None)])).await, Ok(vec![Applied::Absent]));
    store.commit(batch([insert(id(1), "1", vec![]), insert(id(2), "1", vec![])])).await.unwrap();
    for rev in [0, 2, u64::MAX] {
        assert_eq!(store.commit(batch([update(id(1), rev, "x", vec![])])).await, stale(1, rev));
        assert_eq!(store.commit(batch([delete(id(1), Some(rev))])).await, stale(1, rev));
    }
    store.commit(batch([update(id(1), 1, "2", vec![])])).await.unwrap();
    assert_eq!(store.commit(batch([update(id(1), 1, "x", vec![])])).await, stale(1, 1));
    assert_eq!(store.get(DOCS, id(1)).await.unwrap().unwrap(), Document { id: id(1), rev: 2, body: "2".into() });
    assert_eq!(store.commit(batch([delete(id(1), None)])).await, Ok(vec![Applied::Deleted]));
}

pub async fn unique_keys_are_refused(factory: &impl Factory) {
    let store = factory.open("unique").await;
    let place = |slot| vec![("group", text("g")), ("slot", Key::Int(slot))];
    let duplicate = |fields: &str, n| {
        Err(StoreError::Duplicate { collection: DOCS.name, fields: fields.into(), existing: Some(id(n)) })
    };
    store.commit(batch([insert(id(1), "1", vec![("name", text("a"))]), insert(id(2), "2", place(1))])).await.unwrap();
    store.commit(batch([insert(id(3), "3", place(2))])).await.unwrap();
    assert_eq!(store.commit(batch([insert(id(4), "4", vec![("name", text("a"))])])).await, duplicate("name", 1));
    assert_eq!(store.commit(batch([insert(id(4), "4", place(2))])).await, duplicate("group,slot", 3));
    assert_eq!(store.commit(batch([update(id(3), 1, "3", place(1))])).await, duplicate("group,slot", 2));
    let several = batch([insert(id(4), "4", vec![]), update(id(3), 1, "3", vec![("name", text("a"))])]);
    assert_eq!(store.commit(several).await, duplicate("name", 1));
    // Its own keys are not in its way.
    store.commit(batch([update(id(3), 1, "3b", place(2))])).await.unwrap();
    assert_eq!(all(&*store).await.len(), 3);
}

pub async fn absent_keys_do_not_collide(factory: &impl Factory) {
    let store = factory.open("sparse").await;
    let group = vec![("group", text("g"))];
    let slot = vec![("slot", Key::Int(1))];
    let writes = [
        insert(id(1), "1", vec![]),
        insert(id(2), "2", vec![]),
        insert(id(3), "3", group.clone()),
        insert(id(4), "4", group),
        insert(id(5), "5", slot.clone()),
        insert(id(6), "6", slot),
        // Empty text is a value, and the text of a number is not the number.
        insert(id(7), "7", vec![("name", text(""))]),
        insert(id(8), "8", vec![("name", text("1"))]),
    ];
    for write in writes {
        store.commit(batch([write])).await.unwrap();
    }
    let refused = store.commit(batch([insert(id(9), "9", vec![("name", text(""))])])).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { existing, .. }) if existing == Some(id(7))));
}

pub async fn unique_keys_are_freed(factory: &impl Factory) {
    let store = factory.open("freed").await;
    let name = |name: &str| vec![("name", text(name))];
    store.commit(batch([insert(id(1), "1", name("a")), insert(id(2), "2", name("b"))])).await.unwrap();
    store.commit(batch([update(id(1), 1, "1", name("c"))])).await.unwrap();
    store.commit(batch([insert(id(3), "3", name("a"))])).await.unwrap();
    store.commit(batch([delete(id(2), Some(1)), insert(id(4), "4", name("b"))])).await.unwrap();
    store.commit(batch([update(id(4), 1, "4", vec![]), update(id(3), 1, "3", name("b"))])).await.unwrap();
    assert_eq!(found(&*store, &Query::eq("name", "b")).await, [id(3)]);
}

pub async fn a_refused_batch_leaves_nothing(factory: &impl Factory) {
    let store = factory.open("atomic").await;
    let there = [insert(id(1), "1", vec![("name", text("a"))]), insert(id(2), "2", vec![]), insert(id(3), "3", vec![])];
    store.commit(batch(there)).await.unwrap();
    let before = all(&*store).await;
    let good = [
        insert(id(10), "10", vec![("rank", Key::Int(1))]),
        update(id(2), 1, "2b", vec![]),
        insert_or_ignore(id(11), "11", vec![]),
        delete(id(3), Some(1)),
    ];
    let bad = [
        insert(id(1), "x", vec![]),
        insert(id(12), "x", vec![("name", text("a"))]),
        update(id(1), 7, "x", vec![]),
        update(id(13), 1, "x", vec![]),
        delete(id(1), Some(9)),
    ];
    for place in 0..=good.len() {
        for bad in &bad {
            let mut writes = good.to_vec();
            writes.insert(place, bad.clone());
            let refused = store.commit(batch(writes)).await;
            assert!(
                matches!(refused, Err(StoreError::Stale { .. } | StoreError::Duplicate { .. })),
                "{bad:?} at {place}: {refused:?}"
            );
            assert_eq!(all(&*store).await, before, "{bad:?} at {place}");
        }
    }
    assert_eq!(store.count(DOCS, &Query::filter(Cond::Present("rank"))).await, Ok(0));
    assert_eq!(store.commit(batch(good)).await.unwrap().len(), 4);
}

pub async fn writes_of_a_batch_happen_in_order(factory: &impl Factory) {
    let store = factory.open("order-of-writes").await;
    let writes = [
        insert(id(1), "1", vec![("name", text("a"))]),
        update(id(1), 1, "2", vec![("name", text("b"))]),
        insert(id(2), "1", vec![("name", text("a"))]),
        delete(id(2), Some(1)),
        insert_or_ignore(id(2), "2", vec![("name", text("c"))]),
        update(id(1), 2, "3", vec![("name", text("a"))]),
    ];
    let applied = store.commit(batch(writes)).await.unwrap();
    let expected = [
        Applied::Inserted,
        Applied::Updated { rev: 2 },
        Applied::Inserted,
        Applied::Deleted,
        Applied::Inserted,
        Applied::Updated { rev: 3 },
    ];
    assert_eq!(applied, expected);
    let bodies: Vec<_> = all(&*store).await.into_iter().map(|document| (document.rev, document.body)).collect();
    assert_eq!(bodies, [(3, "3".to_owned()), (1, "2".to_owned())]);
}

pub async fn duplicates_within_a_batch(factory: &impl Factory) {
    let store = factory.open("within").await;
    let name = vec![("name", text("a"))];
    let twice = batch([insert(id(1), "1", name.clone()), insert(id(2), "2", name.clone())]);
    let refused = store.commit(twice).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { ref fields, .. }) if fields == "name"), "{refused:?}");
    let same = batch([insert(id(1), "1", vec![]), insert(id(1), "2", vec![])]);
    let refused = store.commit(same).await;
    assert!(matches!(refused, Err(StoreError::Duplicate { ref fields, .. }) if fields == "id"), "{refused:?}");
    assert!(all(&*store).await.is_empty());
    let stale = batch([insert(id(1), "1", name), update(id(1), 1, "2", vec![]), update(id(1), 1, "3", vec![])]);
    assert!(store.commit(stale).await.unwrap_err().is_stale());
    assert!(all(&*store).await.is_empty());
}

pub async fn long_batches(factory: &impl Factory) {
    let store = factory.open("long").await;
    let mut writes: Vec<Write> = (0..300).map(|n| insert(id(n), "1", vec![("rank", Key::Int(n as i64))])).collect();
    writes.extend((0..100).map(|n| update(id(n), 1, "2", vec![])));
    writes.extend((100..150).map(|n| delete(id(n), None)));
    writes.extend((280..320).map(|n| insert_or_ignore(id(n), "3", vec![])));
    let applied = store.commit(batch(writes.clone())).await.unwrap();
    assert_eq!(applied.len(), writes.len());
    assert_eq!(applied.iter().filter(|applied| **applied == Applied::Present).count(), 20);
    assert_eq!(all(&*store).await.len(), 270);
    // The last write is refused: nothing of it all stays.
    let mut writes: Vec<Write> = (0..50).map(|n| update(id(n), 2, "x", vec![])).collect();
    writes.extend((500..700).map(|n| insert(id(n), "x", vec![])));
    writes.push(update(id(60), 1, "x", vec![]));
    assert!(store.commit(batch(writes)).await.unwrap_err().is_stale());
    assert!(all(&*store).await.iter().all(|document| document.body != "x"));
}

pub async fn limits(factory: &impl Factory) {
    let store = factory.open("limits").await;
    let many = (0..=MAX_BATCH_WRITES as u64).map(|n| insert(id(n), "{}", vec![]));
    let refused = store.commit(batch(many)).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { what: "batch", limit: MAX_BATCH_WRITES, .. })), "{refused:?}");
    let large = insert(id(1), &"x".repeat(MAX_DOCUMENT_BYTES + 1), vec![]);
    let refused = store.commit(batch([large])).await;
    assert!(matches!(refused, Err(StoreError::TooLarge { what: "document", .. })));
    assert!(all(&*store).await.is_empty());
    let largest = "y".repeat(MAX_DOCUMENT_BYTES);
    store.commit(batch([insert(id(1), &largest, vec![])])).await.unwrap();
    assert!(store.get(DOCS, id(1)).await.unwrap().unwrap().body == largest);
}

pub async fn misuse(factory: &impl Factory) {
    const UNKNOWN: &Collection = &Collection { name: "contract_unknown", fields: &[], indexes: &[] };
    let store = factory.open("misuse").await;
    let is_misuse = |error: StoreError| assert!(matches!(error, StoreError::Misuse(_)), "{error:?}");
    is_misuse(store.commit(batch([insert(id(1), "1", vec![("other", text("x"))])])).await.unwrap_err());
    is_misuse(store.commit(batch([insert(id(1), "1", vec![("rank", text("x"))])])).await.unwrap_err());
    is_misuse(store.commit(batch([insert(id(1), "1", vec![("name", Key::Int(1))])])).await.unwrap_err());
    let queries = [
        Query::eq("other", "x"),
        Query::eq("rank", "x"),
        Query::eq("name", 1),
        Query::filter(Cond::In("name", vec![text("a"), Key::Int(1)])),
        Query::filter(Cond::Prefix("rank", "1".into())),
        Query::filter(Cond::Absent("other")),
        Query::filter(Cond::Present("body")),
    ];
    for query in queries {
        is_misuse(store.find(DOCS, &query).await.unwrap_err());
        is_misuse(store.count(DOCS, &query).await.unwrap_err());
    }
    is_misuse(store.find(DOCS, &Query::all().order(crate::query::Order::Asc("other"))).await.unwrap_err());
    is_misuse(store.distinct(DOCS, "other", &Query::all(), 1).await.unwrap_err());
    is_misuse(store.get(UNKNOWN, id(1)).await.unwrap_err());
    assert!(all(&*store).await.is_empty());
}

pub async fn fences(factory: &impl Factory) {
    let store = factory.open("fences").await;
    store.commit(fenced("duty", 3, [insert(id(1), "1", vec![])])).await.unwrap();
    store.commit(fenced("duty", 3, [insert(id(2), "2", vec![])])).await.unwrap();
    let stale = |given, current| Err(StoreError::StaleFence { name: "duty".into(), given, current });
    assert_eq!(store.commit(fenced("duty", 2, [insert(id(3), "3", vec![])])).await, stale(2, 3));
    assert_eq!(store.get(DOCS, id(3)).await.unwrap(), None);
    // Refused for another reason, a batch doesn't raise its fence either.
    assert!(store.commit(fenced("duty", 9, [update(id(1), 7, "x", vec![])])).await.unwrap_err().is_stale());
    store.commit(fenced("duty", 3, [update(id(1), 1, "1b", vec![])])).await.unwrap();
    // Other names are apart; so are batches without a fence.
    store.commit(fenced("other", 1, [insert(id(4), "4", vec![])])).await.unwrap();
    store.commit(batch([insert(id(5), "5", vec![])])).await.unwrap();
    // A batch may do nothing but raise.
    store.commit(fenced("duty", 5, [])).await.unwrap();
    assert_eq!(store.commit(fenced("duty", 4, [])).await, stale(4, 5));
    let several = [insert(id(6), "6", vec![]), update(id(1), 2, "x", vec![])];
    assert_eq!(store.commit(fenced("duty", 4, several)).await, stale(4, 5));
    drop(store);
    factory.close("fences").await;
    let store = factory.open("fences").await;
    assert_eq!(store.commit(fenced("duty", 4, [insert(id(7), "7", vec![])])).await, stale(4, 5));
    store.commit(fenced("duty", 5, [insert(id(7), "7", vec![])])).await.unwrap();
}

pub async fn bodies_come_back_as_they_were(factory: &impl Factory) {
    let store = factory.open("bodies").await;
    let bodies = [
        "",
        "{}",
        "\"\\u0000\"",
        "{\"a\": \"\u{e4}\u{1f600}\u{10ffff}\"}",
        " {\"z\":1,  \"a\":2}\n",
        "'; DROP TABLE x; --",
    ];
    for (n, body) in bodies.iter().enumerate() {
        let keys = vec![("name", text(body)), ("rank", Key::Int([i64::MIN, -1, 0, 1, i64::MAX, 7][n]))];
        store.commit(batch([insert(id(n as u64), body, keys)])).await.unwrap();
    }
    let read: Vec<_> = all(&*store).await.into_iter().map(|document| document.body).collect();
    assert_eq!(read, bodies);
    for (n, body) in bodies.iter().enumerate() {
        assert_eq!(found(&*store, &Query::eq("name", *body)).await, [id(n as u64)]);
    }
    assert_eq!(found(&*store, &Query::eq("rank", i64::MIN)).await, [id(0)]);
    assert_eq!(found(&*store, &Query::eq("rank", i64::MAX)).await, [id(4)]);
}

pub async fn survives_reopening(factory: &impl Factory) {
    let store = factory.open("reopen").await;
    let writes = (0..50).map(|n| insert(id(n), &n.to_string(), vec![("rank", Key::Int(n as i64))]));
    store.commit(batch(writes)).await.unwrap();
    store.commit(batch([update(id(7), 1, "seven", vec![("name", text("seven"))]), delete(id(8), None)])).await.unwrap();
    store.put_blob(id(1), b"blob".to_vec()).await.unwrap();
    let before = all(&*store).await;
    drop(store);
    for _ in 0..2 {
        factory.close("reopen").await;
        let store = factory.open("reopen").await;
        assert_eq!(all(&*store).await, before);
        assert_eq!(store.get(DOCS, id(7)).await.unwrap().unwrap().rev, 2);
        assert_eq!(found(&*store, &Query::eq("name", "seven")).await, [id(7)]);
        assert_eq!(store.get_blob(id(1)).await.unwrap().as_deref(), Some(b"blob".as_slice()));
        let refused = store.commit(batch([insert(fresh(), "x", vec![("name", text("seven"))])])).await;
        assert!(matches!(refused, Err(StoreError::Duplicate { .. })));
    }
}
