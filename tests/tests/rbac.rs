//! A real node with RBAC: definition files, the directory service's groups, isolation.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use e2e::{Api, Node, NodeOptions, binary};
use reqwest::Method;
use serde_json::{Value, json};
use servers::slapd::{BASE, BIND_DN, BIND_PASSWORD};
use servers::{Slapd, slapd};

fn write(root: &Path, files: &[(&str, &str)]) -> Result<()> {
    for (name, text) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// `squall rbac …`; what it prints, or why it failed.
fn rbac(arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary("squall")).arg("rbac").args(arguments).env_remove("ST2_API_URL").output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(text)
}

const OPERATOR: (&str, &str) = (
    "roles/operator.yaml",
    "---\nname: operator\npermission_grants:\n  - resource_uid: \"pack:core\"\n    permission_types: [action_execute, action_view]\n  \
     - permission_types: [execution_list, action_list, stream_view]\n",
);

async fn status(api: &Api, method: Method, path: &str, body: Option<&Value>) -> Result<u16> {
    Ok(api.call(method, path, body).await?.status)
}

#[tokio::test]
async fn definitions_are_applied_while_the_node_runs_and_while_it_does_not() -> Result<()> {
    let options = NodeOptions { env: vec![("SQUALL_RBAC__ENABLE".to_owned(), "true".to_owned())] };
    let mut node = Node::start_with(options).await?;
    // Nobody has a role: the first administrator isn't one either.
    let admin = node.admin().await?;
    assert_eq!(status(&admin, Method::GET, "/v1/actions", None).await?, 403);
    let data = node.data_dir.display().to_string();
    write(
        &node.data_dir.join("rbac"),
        &[OPERATOR, ("assignments/st2admin.yaml", "username: st2admin\nroles: [system_admin]\n")],
    )?;
    let said = rbac(&["apply", "--data-dir", &data])?;
    assert!(said.contains("roles: 1 changed, 0 removed") && said.contains("assignments: 1 added"), "{said}");
    assert_eq!(status(&admin, Method::GET, "/v1/actions", None).await?, 200);
    let who = admin.get("/v1/user").await?;
    assert_eq!(who["rbac"], json!({"enabled": true, "roles": ["system_admin"], "is_admin": true}));
    // An error changes nothing.
    write(&node.data_dir.join("rbac"), &[("assignments/x.yaml", "username: x\nroles: [none]\n")])?;
    let error = rbac(&["apply", "--data-dir", &data]).unwrap_err().to_string();
    assert!(
        error.contains("Role \"none\" referenced in assignment file \"assignments/x.yaml\" doesn't exist"),
        "{error}"
    );
    std::fs::remove_file(node.data_dir.join("rbac/assignments/x.yaml"))?;
    assert_eq!(status(&admin, Method::GET, "/v1/actions", None).await?, 200);
    // By the API, with an administrator's token, from anywhere.
    let (url, dir) = (format!("{}/api/v1", node.base), node.data_dir.join("rbac").display().to_string());
    let said = rbac(&["apply", "--dir", &dir, "--url", &url, "--token", &admin.token])?;
    assert!(said.contains("roles: 0 changed"), "{said}");
    // And without the node.
    node.stop(std::time::Duration::from_secs(30)).await?;
    write(&node.data_dir.join("rbac"), &[("assignments/st2admin.yaml", "username: st2admin\nroles: [observer]\n")])?;
    rbac(&["apply", "--data-dir", &data])?;
    node.restart().await?;
    let admin = node.admin().await?;
    assert_eq!(status(&admin, Method::GET, "/v1/actions", None).await?, 200);
    let body = json!({"action": "core.noop"});
    assert_eq!(status(&admin, Method::POST, "/v1/executions", Some(&body)).await?, 403);
    Ok(())
}

const ENTRIES: &str = "\
dn: uid=ana,dc=example,dc=org
objectClass: inetOrgPerson
uid: ana
cn: Ana
sn: A
userPassword: ana-secret

dn: uid=bob,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
userPassword: bob-secret

dn: cn=staff,dc=example,dc=org
objectClass: groupOfNames
cn: staff
member: uid=ana,dc=example,dc=org
member: uid=bob,dc=example,dc=org

dn: cn=ops,dc=example,dc=org
objectClass: groupOfNames
cn: ops
member: uid=ana,dc=example,dc=org
member: uid=bob,dc=example,dc=org
";

#[tokio::test]
async fn groups_of_the_directory_bring_roles_and_users_see_their_own() -> Result<()> {
    if !slapd::is_installed() {
        return Ok(());
    }
    let server = Slapd::private(ENTRIES, None)?;
    let config = [
        ("RBAC__ENABLE", "true".to_owned()),
        ("RBAC__SYNC_REMOTE_GROUPS", "true".to_owned()),
        ("RBAC__PERMISSION_ISOLATION", "true".to_owned()),
        ("AUTH__BACKEND", "ldap".to_owned()),
        ("AUTH__LDAP__HOSTS", "[\"127.0.0.1\"]".to_owned()),
        ("AUTH__LDAP__PORT", server.port.to_string()),
        ("AUTH__LDAP__BIND_DN", BIND_DN.to_owned()),
        ("AUTH__LDAP__BIND_PASSWORD", BIND_PASSWORD.to_owned()),
        ("AUTH__LDAP__BASE_OU", BASE.to_owned()),
        ("AUTH__LDAP__GROUP_DNS", "[\"staff\"]".to_owned()),
    ];
    let env = config.map(|(name, value)| (format!("SQUALL_{name}"), value)).to_vec();
    let node = Node::start_with(NodeOptions { env }).await?;
    assert!(!node.log().contains(BIND_PASSWORD), "the password is in the log");
    let root = node.data_dir.join("rbac");
    write(&root, &[OPERATOR, ("mappings/ops.yaml", &format!("group: 'cn=ops,{BASE}'\nroles: [operator]\n"))])?;
    rbac(&["apply", "--data-dir", &node.data_dir.display().to_string()])?;
    assert!(Api::login(&node.base, "ana", "wrong").await.is_err());
    let (ana, bob) =
        (Api::login(&node.base, "ana", "ana-secret").await?, Api::login(&node.base, "bob", "bob-secret").await?);
    assert_eq!(ana.get("/v1/user").await?["rbac"]["roles"], json!(["operator"]));
    let own = ana.get("/v1/rbac/role_assignments").await?;
    assert_eq!((own[0]["is_remote"].as_bool(), own[0]["source"].as_str()), (Some(true), Some("mappings/ops.yaml")));
    let (hers, his) = (ana.run("core.noop", json!({})).await?, bob.run("core.noop", json!({})).await?);
    assert_eq!(status(&ana, Method::GET, &format!("/v1/executions/{hers}"), None).await?, 200);
    assert_eq!(status(&ana, Method::GET, &format!("/v1/executions/{his}"), None).await?, 403);
    let seen = ana.get("/v1/executions").await?;
    assert!(seen.as_array().context("a list")?.iter().all(|row| row["context"]["user"] == "ana"), "{seen}");
    assert_eq!(status(&ana, Method::POST, "/v1/executions", Some(&json!({"action": "linux.dig"}))).await?, 403);
    // What the mapping no longer gives is gone with the next login.
    std::fs::remove_file(root.join("mappings/ops.yaml"))?;
    rbac(&["apply", "--data-dir", &node.data_dir.display().to_string()])?;
    assert_eq!(status(&ana, Method::GET, "/v1/actions", None).await?, 200);
    let again = Api::login(&node.base, "ana", "ana-secret").await?;
    assert_eq!(status(&again, Method::GET, "/v1/actions", None).await?, 403);
    assert_eq!(status(&ana, Method::GET, "/v1/actions", None).await?, 403);
    Ok(())
}
