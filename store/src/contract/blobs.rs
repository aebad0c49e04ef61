//! Blobs.

use super::*;
use crate::limits::MAX_BLOB_BYTES;
use futures::future::join_all;

/// Bytes that don't compress.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

pub async fn blobs_come_back(factory: &impl Factory) {
    let store = factory.open("blobs").await;
    assert_eq!(store.get_blob(id(0)).await, Ok(None));
    let edge = 4 << 20;
    for (n, length) in [0, 1, 1_000, edge - 1, edge, edge + 1].into_iter().enumerate() {
        let (place, bytes) = (id(n as u64), noise(length, n as u64 + 1));
        store.put_blob(place, bytes.clone()).await.unwrap();
        assert!(store.get_blob(place).await.unwrap() == Some(bytes), "{length} bytes");
    }
}

pub async fn large_blobs(factory: &impl Factory) {
    let store = factory.open("large-blobs").await;
    let (dull, wild) = (vec![b'x'; 20 << 20], noise(20 << 20, 7));
    store.put_blob(id(1), dull.clone()).await.unwrap();
    store.put_blob(id(2), wild.clone()).await.unwrap();
    assert!(store.get_blob(id(1)).await.unwrap() == Some(dull));
    assert!(store.get_blob(id(2)).await.unwrap() == Some(wild.clone()));
    drop(store);
    factory.close("large-blobs").await;
    let store = factory.open("large-blobs").await;
    assert!(store.get_blob(id(2)).await.unwrap() == Some(wild));
    let refused = store.put_blob(id(3), vec![0; MAX_BLOB_BYTES + 1]).await;
    assert!(matches!(refused, Err(crate::StoreError::TooLarge { what: "blob", .. })));
}

pub async fn repeating_is_harmless(factory: &impl Factory) {
    let store = factory.open("blobs-again").await;
    let bytes = noise(9 << 20, 3);
    for _ in 0..3 {
        store.put_blob(id(1), bytes.clone()).await.unwrap();
        assert!(store.get_blob(id(1)).await.unwrap().as_ref() == Some(&bytes));
    }
}

pub async fn deleting(factory: &impl Factory) {
    let store = factory.open("blobs-deleted").await;
    store.delete_blob(id(1)).await.unwrap();
    store.put_blob(id(1), noise(5 << 20, 1)).await.unwrap();
    store.put_blob(id(2), b"two".to_vec()).await.unwrap();
    store.delete_blob(id(1)).await.unwrap();
    assert_eq!(store.get_blob(id(1)).await, Ok(None));
    assert_eq!(store.get_blob(id(2)).await.unwrap().as_deref(), Some(b"two".as_slice()));
    store.put_blob(id(1), b"one".to_vec()).await.unwrap();
    assert_eq!(store.get_blob(id(1)).await.unwrap().as_deref(), Some(b"one".as_slice()));
}

pub async fn concurrent_uploads(factory: &impl Factory) {
    let store = factory.open("blobs-at-once").await;
    let blobs: Vec<Vec<u8>> = (0..4).map(|n| noise(5 << 20, n + 1)).collect();
    // Each blob three times over, with readers that see all of it or nothing.
    let uploads = (0..12).map(|n| {
        let (store, bytes) = (Arc::clone(&store), blobs[n % 4].clone());
        async move { store.put_blob(id(n as u64 % 4), bytes).await.unwrap() }
    });
    let reads = (0..12).map(|n| {
        let (store, blobs) = (Arc::clone(&store), &blobs);
        async move {
            let read = store.get_blob(id(n as u64 % 4)).await.unwrap();
            assert!(read.is_none_or(|bytes| bytes == blobs[n % 4]));
        }
    });
    futures::join!(join_all(uploads), join_all(reads));
    for (n, bytes) in blobs.iter().enumerate() {
        assert!(store.get_blob(id(n as u64)).await.unwrap().as_ref() == Some(bytes));
    }
}
