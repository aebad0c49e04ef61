//! Definitions and groups on a real store.

use std::sync::Arc;

use anyhow::Result;
use auth::rbac::{Definitions, apply, ensure_system_roles, sync_groups};
use auth::{Directory, Target};
use model::{GroupMapping, Role, RoleAssignment};
use serde_json::{Value, json};
use store::sqlite::SqliteStore;
use store::{Query, StoreExt};

fn definitions(value: Value) -> Result<Definitions> {
    Ok(serde_json::from_value(value)?)
}

async fn roles_of(store: &SqliteStore, user: &str) -> Result<Vec<(String, bool)>> {
    let rows = store.search::<RoleAssignment>(&Query::eq("user", user)).await?;
    let mut roles: Vec<_> = rows.into_iter().map(|row| (row.doc.role, row.doc.is_remote)).collect();
    roles.sort();
    Ok(roles)
}

#[tokio::test]
async fn applying_makes_the_store_as_the_files_say() -> Result<()> {
    let store = Arc::new(SqliteStore::temporary().await?);
    let grant = |name: &str| json!([{"resource_uid": "pack:acme", "permission_types": [name]}]);
    let first = definitions(json!({
        "roles": [{"name": "a", "permission_grants": grant("action_view")}, {"name": "b"}, {"name": "off", "enabled": false}],
        "assignments": [
            {"username": "ana", "roles": ["a", "observer"], "file_path": "assignments/ana.yaml"},
            {"username": "bob", "roles": ["b"], "file_path": "assignments/bob.yaml"},
            {"username": "off", "roles": ["none"], "enabled": false, "file_path": "assignments/off.yaml"},
        ],
        "mappings": [{"group": "g", "roles": ["a"], "file_path": "mappings/g.yaml"}],
    }))?;
    let directory = Directory::new(store.clone());
    let applied = apply(store.as_ref(), &first).await?;
    assert_eq!((applied.roles_changed, applied.assignments_added, applied.mappings_changed), (2, 3, 1));
    // Again: nothing to do.
    assert_eq!(apply(store.as_ref(), &first).await?, auth::rbac::Applied::default());
    let ids: Vec<_> = store.search::<Role>(&Query::eq("name", "a")).await?.iter().map(|role| role.id).collect();
    assert!(directory.grants("ana").await?.may_on("action_view", &Target::action("acme.x")));
    // The groups' roles come and go by themselves.
    assert!(sync_groups(store.as_ref(), "bob", &["g".to_owned(), "unknown".to_owned()]).await?);
    assert!(!sync_groups(store.as_ref(), "bob", &["g".to_owned()]).await?);
    let second = definitions(json!({
        "roles": [{"name": "a", "permission_grants": grant("action_execute")}],
        "assignments": [{"username": "ana", "roles": ["a"], "file_path": "assignments/ana.yaml"}],
        "mappings": [{"group": "h", "roles": ["a"], "file_path": "mappings/g.yaml"}],
    }))?;
    let applied = apply(store.as_ref(), &second).await?;
    assert_eq!((applied.roles_changed, applied.roles_removed, applied.assignments_removed), (1, 1, 2));
    assert_eq!((applied.mappings_changed, applied.mappings_removed), (1, 1));
    // A changed role keeps its id; the system's roles stay, and what a group brought until the next login.
    let again: Vec<_> = store.search::<Role>(&Query::eq("name", "a")).await?.iter().map(|role| role.id).collect();
    assert_eq!(ids, again);
    assert_eq!(store.total::<Role>(&Query::eq("system", true)).await?, 3);
    assert_eq!(roles_of(&store, "bob").await?, [("a".to_owned(), true)]);
    assert!(sync_groups(store.as_ref(), "bob", &["g".to_owned()]).await?);
    assert!(roles_of(&store, "bob").await?.is_empty());
    // What was looked at a moment ago counts until somebody tells.
    directory.forget();
    let grants = directory.grants("ana").await?;
    assert!(
        grants.may_on("action_execute", &Target::action("acme.x"))
            && !grants.may_on("action_modify", &Target::action("acme.x"))
    );
    Ok(())
}

#[tokio::test]
async fn mappings_may_be_off_or_name_roles_that_are_gone() -> Result<()> {
    let store = SqliteStore::temporary().await?;
    ensure_system_roles(&store).await?;
    for (group, roles, enabled) in [("off", "observer", false), ("gone", "none", true), ("on", "observer", true)] {
        let mapping: GroupMapping = serde_json::from_value(json!({
            "id": model::Id::of_content(group.as_bytes()), "group": group, "roles": [roles], "source": group,
            "enabled": enabled,
        }))?;
        store.insert(&mapping).await?;
    }
    let groups = ["off", "gone", "ON"].map(str::to_owned);
    assert!(!sync_groups(&store, "ana", &groups).await?);
    assert!(sync_groups(&store, "ana", &["on".to_owned()]).await?);
    assert_eq!(roles_of(&store, "ana").await?, [("observer".to_owned(), true)]);
    Ok(())
}

#[tokio::test]
async fn two_who_apply_at_once_agree() -> Result<()> {
    let store = SqliteStore::temporary().await?;
    let made = |n: usize| {
        definitions(json!({
            "roles": [{"name": "r", "description": n.to_string()}],
            "assignments": [{"username": format!("u{n}"), "roles": ["r"], "file_path": "assignments/u.yaml"}],
        }))
    };
    let (one, two) = (made(1)?, made(2)?);
    for _ in 0..20 {
        let (first, second) = tokio::join!(apply(&store, &one), apply(&store, &two));
        first?;
        second?;
        let role = store.first::<Role>(&Query::eq("name", "r")).await?.map(|role| role.doc.description);
        let users: Vec<String> =
            store.search::<RoleAssignment>(&Query::all()).await?.into_iter().map(|row| row.doc.user).collect();
        assert_eq!(users, [format!("u{}", role.unwrap_or_default())]);
    }
    Ok(())
}
