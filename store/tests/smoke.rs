//! The shortest way through the port with a real resource.

use model::{Id, Timestamp, User};
use store::{Query, SqliteStore, Store, StoreError, StoreExt};

#[tokio::test]
async fn a_resource_is_stored_found_changed_and_removed() {
    let store = SqliteStore::temporary().await.unwrap();
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let user: User = serde_json::from_value(serde_json::json!({
        "id": Id::fresh(now), "name": "ada", "is_service": false, "nicknames": {},
    }))
    .unwrap();
    store.insert(&user).await.unwrap();
    let mut other = user.clone();
    other.id = Id::fresh(now);
    assert_eq!(
        store.insert(&other).await,
        Err(StoreError::Duplicate { collection: "users", fields: "name".into(), existing: Some(user.id) })
    );
    let found = store.first::<User>(&Query::eq("name", "ada")).await.unwrap().unwrap();
    assert_eq!((found.rev, &found.doc), (1, &user));
    let updated = store.update(found.clone()).await.unwrap();
    assert_eq!(updated.rev, 2);
    assert!(store.update(found).await.unwrap_err().is_stale());
    store.put_blob(user.id, b"hello".to_vec()).await.unwrap();
    assert_eq!(store.get_blob(user.id).await.unwrap().as_deref(), Some(b"hello".as_slice()));
    assert!(store.remove::<User>(user.id).await.unwrap());
    store.check().await.unwrap();
    store.close().await;
    assert!(store.check().await.unwrap_err().is_retryable());
}
