//! Definition files: `roles/`, `assignments/` and `mappings/` below one directory (spec/auth-rbac.md §6).
//!
//! Read whole and checked before anything is changed; the first error stops it all and names its file.

use std::collections::BTreeSet;
use std::path::Path;

use model::PermissionGrant;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SYSTEM_ROLES;
use super::permissions::{find_kind, globals, is_global, kind_of};

/// Largest file that is read.
const MAX_FILE: u64 = 1024 * 1024;

/// What is wrong with the files; the text says where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DefinitionError(pub String);

fn yes() -> bool {
    true
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleFile {
    pub name: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    #[serde(default)]
    pub permission_grants: Vec<PermissionGrant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AssignmentFile {
    pub username: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub roles: Vec<String>,
    /// `assignments/<file>.yaml`; set by the reader.
    #[serde(default)]
    pub file_path: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MappingFile {
    pub group: String,
    #[serde(default)]
    pub description: Option<String>,
    #[serde(default = "yes")]
    pub enabled: bool,
    pub roles: Vec<String>,
    /// `mappings/<file>.yaml`; set by the reader.
    #[serde(default)]
    pub file_path: String,
}

/// Everything that the files say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definitions {
    #[serde(default)]
    pub roles: Vec<RoleFile>,
    #[serde(default)]
    pub assignments: Vec<AssignmentFile>,
    #[serde(default)]
    pub mappings: Vec<MappingFile>,
}

fn error(text: impl Into<String>) -> DefinitionError {
    DefinitionError(text.into())
}

impl Definitions {
    /// Reads and checks the files below `root`. Blocks.
    pub fn read(root: &Path) -> Result<Self, DefinitionError> {
        if !root.is_dir() {
            return Err(error(format!("there is no directory {}", root.display())));
        }
        let mut all = Self::default();
        for (_, file) in files::<RoleFile>(root, "roles", "Role definition")? {
            all.roles.push(file);
        }
        for (source, file) in files::<AssignmentFile>(root, "assignments", "Role assignment")? {
            all.assignments.push(AssignmentFile { file_path: source, ..file });
        }
        for (source, file) in files::<MappingFile>(root, "mappings", "Group to role map")? {
            all.mappings.push(MappingFile { file_path: source, ..file });
        }
        all.check()?;
        Ok(all)
    }

    /// What a program that sends definitions has to keep to as well.
    pub fn check(&self) -> Result<(), DefinitionError> {
        let mut names = BTreeSet::new();
        for role in &self.roles {
            if SYSTEM_ROLES.contains(&role.name.as_str()) {
                return Err(error(format!("Role \"{}\" comes with the system and can't be defined", role.name)));
            }
            if role.name.is_empty() {
                return Err(error("a role without a name"));
            }
            if !names.insert(role.name.as_str()) {
                return Err(error(format!("Duplicate definition file found for role \"{}\"", role.name)));
            }
            role.permission_grants.iter().try_for_each(|grant| check_grant(&role.name, grant))?;
        }
        let enabled: BTreeSet<&str> =
            self.roles.iter().filter(|role| role.enabled).map(|role| role.name.as_str()).chain(SYSTEM_ROLES).collect();
        let mut users = BTreeSet::new();
        for file in &self.assignments {
            if !users.insert(file.username.as_str()) {
                return Err(error(format!("Duplicate definition file found for user \"{}\"", file.username)));
            }
            check_roles(&file.roles, &enabled, file.enabled, &file.file_path)?;
        }
        let mut groups = BTreeSet::new();
        for file in &self.mappings {
            if !groups.insert(file.group.as_str()) {
                return Err(error(format!("Duplicate definition file found for group \"{}\"", file.group)));
            }
            check_roles(&file.roles, &enabled, file.enabled, &file.file_path)?;
        }
        Ok(())
    }
}

fn check_roles(roles: &[String], known: &BTreeSet<&str>, is_enabled: bool, file: &str) -> Result<(), DefinitionError> {
    let distinct: BTreeSet<&String> = roles.iter().collect();
    if distinct.len() != roles.len() {
        return Err(error(format!("\"{file}\" names a role twice")));
    }
    match roles.iter().find(|role| is_enabled && !known.contains(role.as_str())) {
        Some(role) => Err(error(format!("Role \"{role}\" referenced in assignment file \"{file}\" doesn't exist"))),
        None => Ok(()),
    }
}

fn check_grant(role: &str, grant: &PermissionGrant) -> Result<(), DefinitionError> {
    let distinct: BTreeSet<&String> = grant.permission_types.iter().collect();
    if distinct.len() != grant.permission_types.len() {
        return Err(error(format!("role \"{role}\" names a permission twice in one grant")));
    }
    for name in &grant.permission_types {
        if kind_of(name).is_none() {
            return Err(error(format!("Unknown permission type \"{name}\" in role \"{role}\"")));
        }
        let Some(kind) = grant.resource_type() else {
            if is_global(name) {
                continue;
            }
            return Err(error(format!(
                "Invalid permission type \"{name}\". Valid global permission types which can be used without a \
                 resource id are: {}",
                globals().join(", ")
            )));
        };
        let of_kind = find_kind(kind)
            .is_some_and(|kind| kind.permissions.contains(&name.as_str()) || kind.content.contains(&name.as_str()));
        if !of_kind {
            return Err(error(format!("Invalid permission type \"{name}\" for resource type \"{kind}\"")));
        }
    }
    Ok(())
}

/// The YAML files of one folder in the order of their names, with their source's name.
fn files<T: for<'a> Deserialize<'a>>(
    root: &Path,
    folder: &str,
    what: &str,
) -> Result<Vec<(String, T)>, DefinitionError> {
    let path = root.join(folder);
    let io = |error: std::io::Error| DefinitionError(format!("{}: {error}", path.display()));
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            paths.push(path);
        }
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((format!("{folder}/{name}"), read_one(&path, what)?))
        })
        .collect()
}

fn read_one<T: for<'a> Deserialize<'a>>(path: &Path, what: &str) -> Result<T, DefinitionError> {
    let fail = |reason: String| error(format!("{what} file \"{}\" {reason}", path.display()));
    let size = std::fs::metadata(path).map_err(|e| fail(format!("can't be read: {e}")))?.len();
    if size > MAX_FILE {
        return Err(fail(format!("is larger than {MAX_FILE} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|e| fail(format!("can't be read: {e}")))?;
    let value = model::yaml::load(&text).map_err(|e| fail(format!("is no YAML: {e}")))?;
    if value.is_null() {
        return Err(fail("is empty and invalid".to_owned()));
    }
    if let Value::Object(object) = &value
        && object.contains_key("file_path")
    {
        return Err(fail("is invalid: file_path is not for files to set".to_owned()));
    }
    serde_json::from_value(value).map_err(|e| fail(format!("is invalid: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        dir
    }

    fn fault(files: &[(&str, &str)]) -> String {
        Definitions::read(tree(files).path()).unwrap_err().0
    }

    const OPS: (&str, &str) = (
        "roles/ops.yaml",
        "---\nname: ops\npermission_grants:\n  - resource_uid: \"pack:acme\"\n    permission_types: [action_execute]\n  \
         - permission_types: [action_list]\n",
    );

    #[test]
    fn files_are_read_in_order_of_their_names() {
        let dir = tree(&[
            OPS,
            ("roles/b.yaml", "name: b\nenabled: false\n"),
            ("roles/notes.txt", "not read"),
            ("assignments/ana.yaml", "username: ana\nroles: [ops, admin]\n"),
            ("mappings/devs.yaml", "group: 'CN=devs,DC=acme'\nroles: [ops]\n"),
        ]);
        let all = Definitions::read(dir.path()).unwrap();
        assert_eq!(all.roles.iter().map(|role| role.name.as_str()).collect::<Vec<_>>(), ["b", "ops"]);
        assert_eq!(all.assignments[0].file_path, "assignments/ana.yaml");
        assert_eq!(all.mappings[0].file_path, "mappings/devs.yaml");
    }

    #[test]
    fn errors_name_what_is_wrong() {
        for (files, text) in [
            (vec![OPS, ("roles/z.yaml", "name: ops\n")], "Duplicate definition file found for role \"ops\""),
            (vec![("roles/z.yaml", "")], "z.yaml\" is empty and invalid"),
            (vec![("roles/z.yaml", "name: z\nnoise: 1\n")], "noise"),
            (
                vec![("roles/z.yaml", "name: z\npermission_grants: [{permission_types: [fly]}]\n")],
                "Unknown permission type \"fly\"",
            ),
            (
                vec![(
                    "roles/z.yaml",
                    "name: z\npermission_grants: [{resource_uid: 'rule:a:b', permission_types: [action_view]}]\n",
                )],
                "Invalid permission type \"action_view\" for resource type \"rule\"",
            ),
            (
                vec![("roles/z.yaml", "name: z\npermission_grants: [{permission_types: [action_view]}]\n")],
                "Invalid permission type \"action_view\". Valid global permission types",
            ),
            (
                vec![("assignments/a.yaml", "username: a\nroles: [none]\n")],
                "Role \"none\" referenced in assignment file \"assignments/a.yaml\" doesn't exist",
            ),
            (
                vec![
                    ("assignments/a.yaml", "username: a\nroles: []\n"),
                    ("assignments/b.yaml", "username: a\nroles: []\n"),
                ],
                "Duplicate definition file found for user \"a\"",
            ),
            (vec![("roles/z.yaml", "name: admin\n")], "comes with the system"),
        ] {
            let fault = fault(&files);
            assert!(fault.contains(text), "{fault}");
        }
    }
}
