//! Who may do what: roles, their assignments to users, and groups that bring roles (spec/model.md §9).

use serde::{Deserialize, Serialize};

use crate::id::Id;
use crate::resource::{Collection, KeyKind, Keys, Object, Resource, index, to_object, unique};

fn yes() -> bool {
    true
}

/// Permissions on one resource, or global ones.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PermissionGrant {
    /// `pack:acme`, `action:acme:deploy`, …; absent: the permissions are global.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_uid: Option<String>,
    pub permission_types: Vec<String>,
}

impl PermissionGrant {
    /// The part of the uid before its first colon.
    pub fn resource_type(&self) -> Option<&str> {
        self.resource_uid.as_deref().map(|uid| uid.split(':').next().unwrap_or(uid))
    }
}

/// A named set of grants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    pub id: Id,
    pub name: String,
    #[serde(default)]
    pub description: String,
    /// Comes with the system: its meaning is in the code, and nobody edits it.
    #[serde(default)]
    pub system: bool,
    #[serde(default)]
    pub grants: Vec<PermissionGrant>,
}

impl Role {
    /// Grants are documents of their own in StackStorm; here their ids are derived from role and place.
    pub fn to_api(&self) -> Object {
        let grants: Vec<Object> =
            self.grants.iter().enumerate().map(|(place, grant)| self.grant(place, grant)).collect();
        let ids: Vec<serde_json::Value> = grants.iter().filter_map(|grant| grant.get("id").cloned()).collect();
        Object::from_iter([
            ("name".to_owned(), self.name.as_str().into()),
            ("description".to_owned(), self.description.as_str().into()),
            ("system".to_owned(), self.system.into()),
            ("permission_grants".to_owned(), ids.clone().into()),
            ("id".to_owned(), self.id.to_string().into()),
            ("permission_grant_ids".to_owned(), ids.into()),
            ("permission_grant_objects".to_owned(), grants.into_iter().map(serde_json::Value::Object).collect()),
        ])
    }

    fn grant(&self, place: usize, grant: &PermissionGrant) -> Object {
        let id = Id::of_content(format!("permission_grant:{}:{place}", self.id).as_bytes());
        Object::from_iter([
            ("id".to_owned(), id.to_string().into()),
            ("resource_uid".to_owned(), grant.resource_uid.as_deref().into()),
            ("resource_type".to_owned(), grant.resource_type().into()),
            ("permission_types".to_owned(), grant.permission_types.clone().into()),
        ])
    }
}

impl Resource for Role {
    const COLLECTION: &'static Collection = &Collection {
        name: "roles",
        fields: &[("name", KeyKind::Text), ("system", KeyKind::Int)],
        indexes: &[unique(&["name"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("name", self.name.as_str().into()), ("system", self.system.into())]
    }
}

/// A user has a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleAssignment {
    pub id: Id,
    pub user: String,
    pub role: String,
    /// `assignments/<file>.yaml`, `mappings/<file>.yaml`, or `API`.
    pub source: String,
    #[serde(default)]
    pub description: String,
    /// Brought by a group at the user's last login.
    #[serde(default)]
    pub is_remote: bool,
}

impl RoleAssignment {
    /// One (user, role, source) is one document, whoever writes it.
    pub fn id_of(user: &str, role: &str, source: &str) -> Id {
        let length = user.len();
        Id::of_content(format!("role_assignment:{length}:{user}:{}:{role}:{source}", role.len()).as_bytes())
    }

    pub fn to_api(&self) -> Object {
        to_object(self)
    }
}

impl Resource for RoleAssignment {
    const COLLECTION: &'static Collection = &Collection {
        name: "role_assignments",
        fields: &[
            ("user", KeyKind::Text),
            ("role", KeyKind::Text),
            ("source", KeyKind::Text),
            ("is_remote", KeyKind::Int),
        ],
        indexes: &[index(&["user"]), index(&["role"])],
    };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![
            ("user", self.user.as_str().into()),
            ("role", self.role.as_str().into()),
            ("source", self.source.as_str().into()),
            ("is_remote", self.is_remote.into()),
        ]
    }
}

/// Members of a group of the directory service get these roles.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMapping {
    pub id: Id,
    /// A distinguished name, or whatever the backend calls its groups.
    pub group: String,
    pub roles: Vec<String>,
    pub source: String,
    #[serde(default)]
    pub description: String,
    #[serde(default = "yes")]
    pub enabled: bool,
}

impl Resource for GroupMapping {
    const COLLECTION: &'static Collection =
        &Collection { name: "group_mappings", fields: &[("group", KeyKind::Text)], indexes: &[unique(&["group"])] };

    fn id(&self) -> Id {
        self.id
    }

    fn keys(&self) -> Keys {
        vec![("group", self.group.as_str().into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_shown_as_stackstorm_does() {
        let grant = |uid: Option<&str>, kind: &str| PermissionGrant {
            resource_uid: uid.map(str::to_owned),
            permission_types: vec![kind.to_owned()],
        };
        let role = Role {
            id: Id::of_content(b"role"),
            name: "ops".to_owned(),
            description: String::new(),
            system: false,
            grants: vec![grant(Some("pack:acme"), "action_execute"), grant(None, "action_list")],
        };
        let shown = serde_json::Value::Object(role.to_api());
        assert_eq!(shown["permission_grants"], shown["permission_grant_ids"]);
        assert_eq!(shown["permission_grant_objects"][0]["resource_type"], "pack");
        assert!(shown["permission_grant_objects"][1]["resource_uid"].is_null());
        assert_ne!(shown["permission_grants"][0], shown["permission_grants"][1]);
        assert_ne!(RoleAssignment::id_of("a", "b:c", "x"), RoleAssignment::id_of("a:b", "c", "x"));
    }
}
