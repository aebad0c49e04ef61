//! Making the store as the definitions say, and a user's roles as the directory service's groups say.
//!
//! Each is one batch: readers see the old state or the new one, and repeating it changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use model::{GroupMapping, Id, Role, RoleAssignment, Versioned};
use serde::Serialize;
use store::{Batch, Query, Store, StoreError, StoreExt};

use super::definitions::Definitions;
use super::{DefinitionError, SYSTEM_ADMIN, SYSTEM_ROLES};

/// How often a change that another one overtook is tried again.
const TRIES: u32 = 5;

/// Why definitions weren't applied; nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    #[error(transparent)]
    Definitions(#[from] DefinitionError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What applying changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Applied {
    pub roles_changed: usize,
    pub roles_removed: usize,
    pub assignments_added: usize,
    pub assignments_removed: usize,
    pub mappings_changed: usize,
    pub mappings_removed: usize,
}

fn role_id(name: &str) -> Id {
    Id::of_content(format!("role:{name}").as_bytes())
}

fn system_role(name: &str) -> Role {
    Role { id: role_id(name), name: name.to_owned(), description: name.to_owned(), system: true, grants: Vec::new() }
}

/// Puts the system's roles where they are missing.
pub async fn ensure_system_roles(store: &dyn Store) -> Result<(), StoreError> {
    if store.total::<Role>(&Query::eq("system", true)).await? == SYSTEM_ROLES.len() as u64 {
        return Ok(());
    }
    let mut batch = Batch::new();
    for name in SYSTEM_ROLES {
        batch.insert_or_ignore(&system_role(name));
    }
    store.commit(batch).await.map(drop)
}

/// Roles, local assignments and mappings become those of the definitions; what comes from groups stays.
pub async fn apply(store: &dyn Store, definitions: &Definitions) -> Result<Applied, ApplyError> {
    definitions.check()?;
    ensure_system_roles(store).await?;
    let mut tries = 0;
    loop {
        match apply_once(store, definitions).await {
            // Somebody else applied at the same time: look again.
            Err(StoreError::Stale { .. } | StoreError::Duplicate { .. }) if tries < TRIES => tries += 1,
            other => return Ok(other?),
        }
    }
}

async fn apply_once(store: &dyn Store, definitions: &Definitions) -> Result<Applied, StoreError> {
    let (mut batch, mut done) = (Batch::new(), Applied::default());
    // Read before everything else, and written with it: of two that apply at once, the later one looks again.
    let serial = store.first::<Role>(&Query::eq("name", SYSTEM_ADMIN)).await?;
    roles(store, definitions, &mut batch, &mut done).await?;
    let old = store.search::<RoleAssignment>(&Query::all()).await?;
    let old = old.iter().map(|row| &row.doc).filter(|row| !row.is_remote);
    let (added, removed) = replace_assignments(old, wanted_assignments(definitions), &mut batch);
    (done.assignments_added, done.assignments_removed) = (added, removed);
    mappings(store, definitions, &mut batch, &mut done).await?;
    if !batch.is_empty() {
        if let Some(serial) = &serial {
            batch.update(serial);
        }
        store.commit(batch).await?;
    }
    Ok(done)
}

async fn roles(
    store: &dyn Store,
    definitions: &Definitions,
    batch: &mut Batch,
    done: &mut Applied,
) -> Result<(), StoreError> {
    let mut old: BTreeMap<String, Versioned<Role>> = BTreeMap::new();
    for role in store.search::<Role>(&Query::all()).await? {
        old.insert(role.name.clone(), role);
    }
    for file in definitions.roles.iter().filter(|role| role.enabled) {
        let found = old.remove(&file.name);
        let role = Role {
            id: found.as_ref().map_or_else(|| role_id(&file.name), |role| role.id),
            name: file.name.clone(),
            description: file.description.clone().unwrap_or_default(),
            system: false,
            grants: file.permission_grants.clone(),
        };
        match found {
            Some(found) if found.doc == role => continue,
            Some(found) => batch.update(&Versioned { rev: found.rev, doc: role }),
            None => batch.insert(&role),
        };
        done.roles_changed += 1;
    }
    for role in old.into_values().filter(|role| !role.system) {
        batch.delete::<Role>(role.id, Some(role.rev));
        done.roles_removed += 1;
    }
    Ok(())
}

fn wanted_assignments(definitions: &Definitions) -> Vec<RoleAssignment> {
    let files = definitions.assignments.iter().filter(|file| file.enabled);
    files
        .flat_map(|file| {
            file.roles.iter().map(|role| RoleAssignment {
                id: RoleAssignment::id_of(&file.username, role, &file.file_path),
                user: file.username.clone(),
                role: role.clone(),
                source: file.file_path.clone(),
                description: file.description.clone().unwrap_or_default(),
                is_remote: false,
            })
        })
        .collect()
}

/// Old rows that aren't wanted go, wanted ones that aren't there come. Ids are derived, so sets of them suffice.
fn replace_assignments<'a>(
    old: impl Iterator<Item = &'a RoleAssignment>,
    wanted: Vec<RoleAssignment>,
    batch: &mut Batch,
) -> (usize, usize) {
    let mut missing: BTreeMap<Id, RoleAssignment> = wanted.into_iter().map(|row| (row.id, row)).collect();
    let mut removed = 0;
    for row in old {
        if missing.get(&row.id) == Some(row) {
            missing.remove(&row.id);
        } else {
            batch.delete::<RoleAssignment>(row.id, None);
            removed += 1;
        }
    }
    for row in missing.values() {
        batch.insert_or_ignore(row);
    }
    (missing.len(), removed)
}

async fn mappings(
    store: &dyn Store,
    definitions: &Definitions,
    batch: &mut Batch,
    done: &mut Applied,
) -> Result<(), StoreError> {
    let mut old: BTreeMap<String, Versioned<GroupMapping>> = BTreeMap::new();
    for mapping in store.search::<GroupMapping>(&Query::all()).await? {
        old.insert(mapping.group.clone(), mapping);
    }
    for file in &definitions.mappings {
        let mapping = GroupMapping {
            id: Id::of_content(format!("group_mapping:{}", file.group).as_bytes()),
            group: file.group.clone(),
            roles: file.roles.clone(),
            source: file.file_path.clone(),
            description: file.description.clone().unwrap_or_default(),
            enabled: file.enabled,
        };
        match old.remove(&file.group) {
            Some(found) if found.doc == mapping => continue,
            Some(found) => batch.update(&Versioned { rev: found.rev, doc: mapping }),
            None => batch.insert(&mapping),
        };
        done.mappings_changed += 1;
    }
    for mapping in old.into_values() {
        batch.delete::<GroupMapping>(mapping.id, Some(mapping.rev));
        done.mappings_removed += 1;
    }
    Ok(())
}

/// At a login: the roles that come from groups become those that the mappings give these groups. True if that
/// changed anything. Local assignments stay (spec/auth-rbac.md §7).
pub async fn sync_groups(store: &dyn Store, user: &str, groups: &[String]) -> Result<bool, StoreError> {
    let known: BTreeSet<String> =
        store.search::<Role>(&Query::all()).await?.into_iter().map(|role| role.doc.name).collect();
    let mut wanted = Vec::new();
    for mapping in store.search::<GroupMapping>(&Query::all()).await? {
        if !mapping.enabled || !groups.contains(&mapping.group) {
            continue;
        }
        for role in &mapping.roles {
            if !known.contains(role) {
                tracing::warn!(role, source = mapping.source, "a group is mapped to a role that doesn't exist");
                continue;
            }
            wanted.push(RoleAssignment {
                id: RoleAssignment::id_of(user, role, &mapping.source),
                user: user.to_owned(),
                role: role.clone(),
                source: mapping.source.clone(),
                description: mapping.description.clone(),
                is_remote: true,
            });
        }
    }
    let old = store.search::<RoleAssignment>(&Query::eq("user", user)).await?;
    let mut batch = Batch::new();
    replace_assignments(old.iter().map(|row| &row.doc).filter(|row| row.is_remote), wanted, &mut batch);
    if batch.is_empty() {
        return Ok(false);
    }
    store.commit(batch).await?;
    Ok(true)
}
