//! What holds for all roles: more of them never take anything away, and nobody gets what no grant names.

use model::{Id, PermissionGrant, Role};
use proptest::prelude::*;

use super::permissions::{KINDS, globals, is_global, sufficient};
use super::{Grants, Target};

fn permission() -> impl Strategy<Value = String> {
    let all: Vec<&str> = KINDS.iter().flat_map(|kind| kind.permissions).copied().collect();
    prop::sample::select(all).prop_map(str::to_owned)
}

/// Few names, so that grants and questions meet.
fn uid() -> impl Strategy<Value = String> {
    let kinds = prop::sample::select(KINDS.iter().map(|kind| kind.name).collect::<Vec<_>>());
    (kinds, "[ab]", "[xy]").prop_map(|(kind, pack, name)| match kind {
        "pack" => format!("pack:{pack}"),
        kind => format!("{kind}:{pack}:{name}"),
    })
}

fn grant() -> impl Strategy<Value = PermissionGrant> {
    (prop::option::of(uid()), prop::collection::vec(permission(), 1..6))
        .prop_map(|(resource_uid, permission_types)| PermissionGrant { resource_uid, permission_types })
}

fn role() -> impl Strategy<Value = Role> {
    let names = prop::sample::select(vec!["admin", "system_admin", "observer", "ops", "dev", "qa"]);
    (names, prop::bool::weighted(0.1), prop::collection::vec(grant(), 0..5)).prop_map(|(name, system, grants)| Role {
        id: Id::of_content(name.as_bytes()),
        name: name.to_owned(),
        description: String::new(),
        system,
        grants,
    })
}

fn target() -> impl Strategy<Value = Target> {
    (uid(), prop::option::of("[ab]"))
        .prop_map(|(uid, pack)| Target { uid, pack: pack.map(|pack| format!("pack:{pack}")) })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn more_roles_never_remove_access(
        roles in prop::collection::vec(role(), 0..4), more in role(), permission in permission(), target in target(),
    ) {
        let fewer = Grants::of(&roles);
        let all = Grants::of(roles.iter().chain([&more]));
        prop_assert!(!fewer.may(&permission) || all.may(&permission));
        prop_assert!(!fewer.may_on(&permission, &target) || all.may_on(&permission, &target));
        prop_assert!(!fewer.is_admin() || all.is_admin());
    }

    #[test]
    fn the_order_of_roles_does_not_matter(roles in prop::collection::vec(role(), 0..4)) {
        prop_assert_eq!(Grants::of(&roles), Grants::of(roles.iter().rev()));
    }

    #[test]
    fn what_is_allowed_is_granted_somewhere(
        roles in prop::collection::vec(role(), 0..4), permission in permission(), target in target(),
    ) {
        let grants = Grants::of(&roles);
        prop_assume!(roles.iter().all(|role| !role.system));
        let given: Vec<&PermissionGrant> = roles.iter().flat_map(|role| &role.grants).collect();
        if grants.may(&permission) {
            prop_assert!(is_global(&permission) || permission == "inquiry_all");
            prop_assert!(given.iter().any(|grant| grant.resource_uid.is_none()));
        }
        if grants.may_on(&permission, &target) && !permission.starts_with("inquiry_") {
            let names = sufficient(&permission);
            let named = given.iter().any(|grant| {
                let uid = grant.resource_uid.as_deref();
                (uid == Some(&target.uid) || (uid.is_some() && uid == target.pack.as_deref()))
                    && grant.permission_types.iter().any(|name| names.contains(name))
            });
            prop_assert!(named);
        }
    }

    #[test]
    fn grants_on_one_resource_give_nothing_on_others(
        grant in grant(), permission in permission(), target in target(),
    ) {
        let Some(uid) = grant.resource_uid.clone() else { return Ok(()) };
        prop_assume!(uid != target.uid && Some(&uid) != target.pack.as_ref());
        let role = Role {
            id: Id::of_content(b"r"), name: "r".to_owned(), description: String::new(), system: false,
            grants: vec![grant],
        };
        let grants = Grants::of([&role]);
        prop_assert!(!grants.may_on(&permission, &target));
        prop_assert!(globals().iter().all(|name| !grants.may(name)));
    }
}
