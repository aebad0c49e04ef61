//! Finding, counting, sorting, paging.

use super::*;
use crate::port::StoreExt as _;
use crate::query::{Cond, Order};

const TEXTS: &[&str] = &[
    "",
    "a",
    "ab",
    "ab%",
    "ab_",
    "abc",
    "a%c",
    "b\\",
    "B",
    "z",
    "\u{e4}",
    "\u{e4}b",
    "\u{d7ff}",
    "\u{e000}",
    "\u{1f600}",
    "\u{10ffff}",
    "'\"",
    "a\0b",
];

/// Fills a store, and the reference alike.
pub(super) async fn fill(store: &dyn Store) -> Reference {
    let mut reference = Reference::default();
    let mut writes = Vec::new();
    for n in 0..200_u64 {
        let mut keys: Keys = Vec::new();
        if n < 2 * TEXTS.len() as u64 && n % 2 == 0 {
            keys.push(("name", text(TEXTS[n as usize / 2])));
        }
        if n % 3 != 0 {
            keys.push(("rank", Key::Int((n % 7) as i64 - 3)));
        }
        if n % 5 != 0 {
            keys.push(("tag", text(TEXTS[n as usize % 6])));
        }
        if n % 11 == 0 {
            keys.push(("group", text("g")));
        }
        if n % 11 == 0 && n % 2 == 0 {
            keys.push(("slot", Key::Int(n as i64)));
        }
        keys.push(("plain", Key::Int((n * 37 % 50) as i64)));
        writes.push(insert(id(n), &format!("{{\"n\":{n}}}"), keys));
    }
    let writes = batch(writes);
    reference.commit(&writes).unwrap();
    store.commit(writes).await.unwrap();
    reference
}

async fn same(store: &dyn Store, reference: &Reference, query: &Query) {
    assert_eq!(store.find(DOCS, query).await.unwrap(), reference.find(DOCS, query), "{query:?}");
    assert_eq!(store.count(DOCS, query).await.unwrap(), reference.count(DOCS, query), "{query:?}");
}

pub async fn every_condition(factory: &impl Factory) {
    let store = factory.open("conditions").await;
    let reference = fill(&*store).await;
    let mut conds = vec![
        Cond::In("rank", vec![]),
        Cond::In("rank", vec![Key::Int(1)]),
        Cond::In("rank", vec![Key::Int(1), Key::Int(-3), Key::Int(99), Key::Int(1)]),
        Cond::In("name", vec![text("a\0b"), text("'\""), text("\u{1f600}")]),
        Cond::IdIn(vec![]),
        Cond::IdIn(vec![id(5)]),
        Cond::IdIn(vec![id(7), id(3), id(900), id(3)]),
        Cond::IdAfter(id(150)),
        Cond::IdAfter(id(900)),
    ];
    for field in ["name", "rank", "tag", "group", "slot", "plain"] {
        conds.extend([Cond::Absent(field), Cond::Present(field)]);
    }
    for value in [-4, -3, 0, 2, 3, 4] {
        for field in ["rank", "plain", "slot"] {
            let key = || Key::Int(value);
            conds.extend([Cond::Eq(field, key()), Cond::Ne(field, key()), Cond::Lt(field, key())]);
            conds.extend([Cond::Le(field, key()), Cond::Gt(field, key()), Cond::Ge(field, key())]);
        }
    }
    for value in TEXTS {
        for field in ["name", "tag"] {
            conds.extend([Cond::Eq(field, text(value)), Cond::Ne(field, text(value)), Cond::Lt(field, text(value))]);
            conds.extend([Cond::Le(field, text(value)), Cond::Gt(field, text(value)), Cond::Ge(field, text(value))]);
        }
    }
    for cond in &conds {
        same(&*store, &reference, &Query::filter(cond.clone())).await;
    }
    for pair in conds.windows(2) {
        same(&*store, &reference, &Query::filter(pair[0].clone()).and(pair[1].clone())).await;
    }
}

pub async fn prefixes_are_literal(factory: &impl Factory) {
    let store = factory.open("prefixes").await;
    let reference = fill(&*store).await;
    for prefix in TEXTS.iter().copied().chain(["%", "_", "ab%%", "a_", "\\", "*", "a*", "[", "\u{10ffff}\u{10ffff}"]) {
        same(&*store, &reference, &Query::filter(Cond::Prefix("name", prefix.into()))).await;
        same(&*store, &reference, &Query::filter(Cond::Prefix("tag", prefix.into()))).await;
    }
    let expected = [id(6), id(8), id(4), id(10)].into_iter().collect::<std::collections::BTreeSet<_>>();
    let ab = found(&*store, &Query::filter(Cond::Prefix("name", "ab".into()))).await;
    assert_eq!(ab.into_iter().collect::<std::collections::BTreeSet<_>>(), expected);
    assert_eq!(found(&*store, &Query::filter(Cond::Prefix("name", "ab%".into()))).await, [id(6)]);
}

pub async fn orders(factory: &impl Factory) {
    let store = factory.open("orders").await;
    let reference = fill(&*store).await;
    for field in ["name", "rank", "tag", "plain"] {
        for order in [Order::Asc(field), Order::Desc(field)] {
            same(&*store, &reference, &Query::all().order(order)).await;
            same(&*store, &reference, &Query::eq("tag", "ab").order(order)).await;
            for second in [Order::Asc("plain"), Order::Desc("tag")] {
                same(&*store, &reference, &Query::all().order(order).order(second)).await;
            }
        }
    }
}

/// Adapters that leave documents without a key out of its index must not leave them out of an answer.
pub async fn sorting_with_absent_keys(factory: &impl Factory) {
    let store = factory.open("absent-sorted").await;
    let by_rank = Query::all().order(Order::Asc("rank"));
    let with = |n: u64, rank| insert(id(n), "", vec![("rank", Key::Int(rank))]);
    store.commit(batch([with(1, 5), with(2, 4)])).await.unwrap();
    assert_eq!(found(&*store, &by_rank).await, [id(2), id(1)]);
    store.commit(batch([insert(id(3), "", vec![])])).await.unwrap();
    assert_eq!(found(&*store, &by_rank).await, [id(3), id(2), id(1)]);
    assert_eq!(found(&*store, &Query::all().order(Order::Desc("rank"))).await, [id(1), id(2), id(3)]);
    store.commit(batch([insert(id(4), "", vec![("tag", text("x"))])])).await.unwrap();
    store.commit(batch([update(id(2), 1, "", vec![])])).await.unwrap();
    assert_eq!(found(&*store, &by_rank).await, [id(2), id(3), id(4), id(1)]);
    drop(store);
    factory.close("absent-sorted").await;
    let store = factory.open("absent-sorted").await;
    assert_eq!(found(&*store, &by_rank.limit(3)).await, [id(2), id(3), id(4)]);
    assert_eq!(found(&*store, &Query::all().order(Order::Desc("tag"))).await, [id(4), id(1), id(2), id(3)]);
}

pub async fn paging(factory: &impl Factory) {
    let store = factory.open("paging").await;
    let reference = fill(&*store).await;
    let ordered = Query::filter(Cond::Present("rank")).order(Order::Desc("rank"));
    let everything = found(&*store, &ordered).await;
    for size in [1, 7, 200] {
        let mut pages = Vec::new();
        loop {
            let page = found(&*store, &ordered.clone().offset(pages.len() as u64).limit(size)).await;
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(pages, everything);
    }
    let mut last = None;
    let mut walked = Vec::new();
    loop {
        let mut query = Query::eq("tag", "ab").limit(4);
        query.conds.extend(last.map(Cond::IdAfter));
        let page = found(&*store, &query).await;
        let Some(end) = page.last() else { break };
        last = Some(*end);
        walked.extend(page);
    }
    assert_eq!(walked, found(&*store, &Query::eq("tag", "ab")).await);
    for query in [
        Query::all().limit(0),
        Query::all().offset(500),
        Query::all().offset(195),
        Query::all().limit(u64::MAX).offset(1),
    ] {
        same(&*store, &reference, &query).await;
    }
}

pub async fn counting(factory: &impl Factory) {
    let store = factory.open("counting").await;
    assert_eq!(store.count(DOCS, &Query::all()).await, Ok(0));
    fill(&*store).await;
    assert_eq!(store.count(DOCS, &Query::all()).await, Ok(200));
    // Whatever the limit and offset.
    assert_eq!(store.count(DOCS, &Query::all().limit(3).offset(50)).await, Ok(200));
    assert_eq!(store.count(DOCS, &Query::filter(Cond::Absent("tag")).limit(1)).await, Ok(40));
}

pub async fn distinct_values(factory: &impl Factory) {
    let store = factory.open("distinct").await;
    for field in ["name", "rank", "tag", "plain"] {
        assert_eq!(store.distinct(DOCS, field, &Query::all(), 10).await, Ok(vec![]));
    }
    let reference = fill(&*store).await;
    for field in ["name", "rank", "tag", "group", "slot", "plain"] {
        for query in
            [Query::all(), Query::eq("tag", "ab"), Query::filter(Cond::Absent("rank")), Query::eq("tag", "none")]
        {
            for limit in [0, 1, 3, 1_000] {
                let values = store.distinct(DOCS, field, &query, limit).await.unwrap();
                assert_eq!(values, reference.distinct(DOCS, field, &query, limit as usize), "{field} {query:?}");
            }
        }
    }
}

pub async fn long_lists(factory: &impl Factory) {
    let store = factory.open("lists").await;
    fill(&*store).await;
    let many = Query::filter(Cond::IdIn((100..50_000).map(id).collect()));
    assert_eq!(store.count(DOCS, &many).await, Ok(100));
    let many = Query::filter(Cond::In("plain", (0..50_000).map(Key::Int).collect()));
    assert_eq!(found(&*store, &many.limit(10)).await.len(), 10);
}

pub async fn typed_access(factory: &impl Factory) {
    let store = factory.open("typed").await;
    let note = Note { id: id(1), text: "hello".into() };
    store.insert(&note).await.unwrap();
    assert!(!store.insert_or_ignore(&note).await.unwrap());
    let mut read = store.read::<Note>(id(1)).await.unwrap().unwrap();
    assert_eq!((read.rev, &read.doc), (1, &note));
    read.doc.text = "changed".into();
    let read = store.update(read).await.unwrap();
    assert_eq!(store.first::<Note>(&Query::all()).await.unwrap(), Some(read.clone()));
    assert_eq!(store.total::<Note>(&Query::all()).await.unwrap(), 1);
    // A document of another shape says which it is.
    store
        .commit(batch([Write::Update { collection: NOTES, id: id(1), rev: 2, body: "[]".into(), keys: vec![] }]))
        .await
        .unwrap();
    let corrupt = store.read::<Note>(id(1)).await.unwrap_err();
    assert!(matches!(corrupt, crate::StoreError::Corrupt { id: which, .. } if which == id(1)));
    assert!(store.remove::<Note>(id(1)).await.unwrap());
    assert!(!store.remove::<Note>(id(1)).await.unwrap());
}

#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
struct Note {
    id: Id,
    text: String,
}

impl model::Resource for Note {
    const COLLECTION: &'static Collection = NOTES;

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        Keys::new()
    }
}
