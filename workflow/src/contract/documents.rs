//! Large values: written once, beside the rows.

use super::*;

/// Bytes that compress as JSON does, not as zeros.
fn context(size: usize, seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    while bytes.len() < size {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        bytes.extend_from_slice(format!("{{\"host\":\"web-{:04}\",\"value\":{random}}},", random % 977).as_bytes());
    }
    bytes
}

pub async fn documents_come_back(factory: &impl Factory) {
    let state = factory.open(0).await;
    let bodies = [
        Vec::new(),
        b"x".to_vec(),
        (0..=255).collect::<Vec<u8>>(),
        context(100_000, 1),
        vec![0; 3 << 20],
        // Incompressible, of several chunks.
        (0..900_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect(),
    ];
    let mut first = changes("running");
    for (n, body) in bodies.iter().enumerate() {
        first.document(format!("result/{n}"), body.clone());
    }
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    for (n, body) in bodies.iter().enumerate() {
        let key = format!("result/{n}");
        let info = state.document_info(id(1), &key).await.unwrap().unwrap();
        assert_eq!((info.size, info.hash), (body.len() as u64, Id::of_content(body)));
        assert!(state.document(id(1), &key).await.unwrap().as_ref() == Some(body), "{key}");
    }
    assert_eq!(state.document(id(1), "result").await.unwrap(), None);
    assert_eq!(state.document_info(id(2), "result/0").await.unwrap(), None);
}

pub async fn large_contexts_are_written_once(factory: &impl Factory) {
    let state = factory.open(0).await;
    let context = context(20 << 20, 2);
    let hash = Id::of_content(&context);
    let before = state.stats();
    let mut first = changes("running");
    first.document("context/0", context.clone());
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let created = state.stats().since(before);
    assert!(created.bytes_written < (context.len() * 6 / 10) as u64, "compressed: {created:?}");
    let before = state.stats();
    for n in 0..50 {
        state.deliver(id(1), &[message(n)]).await.unwrap();
        let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
        // Whether a cached copy still holds costs a row.
        let info = drain.document_info(id(1), "context/0").await.unwrap().unwrap();
        assert_eq!(info.hash, hash);
        let mut change = using_all(&*drain);
        change.event("step", format!("{n}"));
        change.document(format!("context/{}", n + 1), format!("{{\"n\":{n}}}").into_bytes());
        drain.commit(change, HOLD).await.unwrap();
    }
    let steps = state.stats().since(before);
    assert!(steps.bytes_written < 50 * 400 && steps.bytes_read < 50 * 400, "{steps:?}");
    assert!(state.document(id(1), "context/0").await.unwrap().as_ref() == Some(&context));
}

pub async fn documents_are_replaced_and_removed(factory: &impl Factory) {
    let state = factory.open(0).await;
    let mut first = changes("running");
    first.document("a", context(2 << 20, 3)).document("b", b"b".to_vec()).document("c", b"c".to_vec());
    state.create(Creation { id: id(1), engine: "toy".to_owned(), changes: first }, HOLD).await.unwrap();
    let before = factory.rows_of(id(1)).await;
    state.deliver(id(1), &[message(1)]).await.unwrap();
    let drain = drain_of(&*state, &Claim::one(id(1), at(0))).await;
    let mut change = using_all(&*drain);
    change.document("a", b"small".to_vec());
    change.document("d", b"d".to_vec());
    change.removed_documents = vec!["b".to_owned(), "d".to_owned(), "never".to_owned()];
    drain.commit(change, HOLD).await.unwrap();
    assert_eq!(state.document(id(1), "a").await.unwrap(), Some(b"small".to_vec()));
    assert_eq!(state.document(id(1), "b").await.unwrap(), None);
    assert_eq!(state.document(id(1), "d").await.unwrap(), Some(b"d".to_vec()));
    let keys: Vec<_> = state.documents(id(1), None, 9).await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(keys, ["a", "c", "d"]);
    // The chunks of the longer one are gone as well.
    assert!(factory.rows_of(id(1)).await <= before + 1);
}
