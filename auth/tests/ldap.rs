//! Logins by a real OpenLDAP server.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use auth::AuthBackend;
use auth::backend::ldap::{Ldap, LdapOptions, Membership, Password, Protection};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use servers::slapd::{BASE, BIND_DN, BIND_PASSWORD, TlsFiles};
use servers::{Slapd, slapd};

const ENTRIES: &str = "\
dn: ou=users,dc=example,dc=org
objectClass: organizationalUnit
ou: users

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: uid=ana,ou=users,dc=example,dc=org
objectClass: inetOrgPerson
uid: ana
cn: Ana
sn: A
userPassword: ana-secret

dn: uid=bob,ou=users,dc=example,dc=org
objectClass: inetOrgPerson
uid: bob
cn: Bob
sn: B
userPassword: bob-secret

dn: uid=odd (one)*,ou=users,dc=example,dc=org
objectClass: inetOrgPerson
uid: odd (one)*
cn: Odd
sn: O
userPassword: odd-secret

dn: cn=Devs,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: Devs
member: uid=ana,ou=users,dc=example,dc=org
member: uid=odd (one)*,ou=users,dc=example,dc=org

dn: cn=ops,ou=groups,dc=example,dc=org
objectClass: groupOfUniqueNames
cn: ops
uniqueMember: uid=ana,ou=users,dc=example,dc=org

dn: cn=posix,ou=groups,dc=example,dc=org
objectClass: posixGroup
cn: posix
gidNumber: 1000
memberUid: ana
memberUid: bob
";

fn options(port: u16) -> LdapOptions {
    LdapOptions {
        hosts: vec!["127.0.0.1".to_owned()],
        port,
        bind_dn: BIND_DN.to_owned(),
        bind_password: Password(BIND_PASSWORD.to_owned()),
        base_ou: format!("ou=users,{BASE}"),
        base_ou_group: Some(format!("ou=groups,{BASE}")),
        group_dns: vec![format!("CN=devs, ou=groups,{BASE}")],
        timeout: Duration::from_secs(5),
        ..LdapOptions::default()
    }
}

#[tokio::test]
async fn users_log_in_with_their_passwords_and_groups() -> Result<()> {
    if !slapd::is_installed() {
        return Ok(());
    }
    let mut server = Slapd::private(ENTRIES, None)?;
    let ldap = Ldap::new(options(server.port))?;
    // the right password, a wrong one, and what must never be tried as a password
    assert!(ldap.authenticate("ana", "ana-secret").await?);
    assert!(!ldap.authenticate("ana", "bob-secret").await?);
    assert!(!ldap.authenticate("ana", "").await?);
    assert!(!ldap.authenticate("", "").await?);
    assert!(!ldap.authenticate("nobody", "x").await?);
    // a name is a name, not a filter
    assert!(!ldap.authenticate("*", "ana-secret").await?);
    assert!(!ldap.authenticate("ana)(uid=*", "ana-secret").await?);
    assert!(ldap.authenticate("odd (one)*", "odd-secret").await?);
    // not in the group
    assert!(!ldap.authenticate("bob", "bob-secret").await?);
    let mut groups = ldap.groups("ana").await?;
    groups.sort();
    let expected = ["cn=Devs", "cn=ops", "cn=posix"].map(|name| format!("{name},ou=groups,{BASE}"));
    assert_eq!(groups, expected);
    assert!(ldap.groups("bob").await.is_err());
    // one group of several is enough, if so configured; common names do
    let any = ["posix", "none"].map(str::to_owned).to_vec();
    let any = LdapOptions { group_dns: any, membership: Membership::Any, ..options(server.port) };
    assert!(Ldap::new(any.clone())?.authenticate("bob", "bob-secret").await?);
    let all = LdapOptions { membership: Membership::All, ..any };
    assert!(!Ldap::new(all)?.authenticate("bob", "bob-secret").await?);
    // a service account that is refused is trouble, not a wrong password
    let wrong = LdapOptions { bind_password: Password("wrong".to_owned()), ..options(server.port) };
    let error = Ldap::new(wrong)?.authenticate("ana", "ana-secret").await.unwrap_err();
    assert!(error.0.contains("service account") && !error.0.contains("ana-secret"), "{error}");
    // the second host is asked when the first is away
    let mut two = options(server.port);
    two.hosts = vec![format!("127.0.0.1:{}", servers::free_port()), format!("127.0.0.1:{}", server.port)];
    assert!(Ldap::new(two)?.authenticate("ana", "ana-secret").await?);
    // a server that is away is an error, and works again when it is back
    server.process.kill()?;
    assert!(ldap.authenticate("ana", "ana-secret").await.is_err());
    server.start()?;
    assert!(ldap.authenticate("ana", "ana-secret").await?);
    // one that hangs ends at the time limit
    server.process.pause()?;
    let hanging = Ldap::new(LdapOptions { timeout: Duration::from_millis(500), ..options(server.port) })?;
    let begun = Instant::now();
    assert!(hanging.authenticate("ana", "ana-secret").await.is_err());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    Ok(())
}

/// An authority and a certificate of it for 127.0.0.1.
fn certificates(dir: &Path) -> Result<TlsFiles> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let cert = CertificateParams::new(vec!["127.0.0.1".to_owned()])?.signed_by(&key, &ca)?;
    let file = |name: &str, text: String| -> Result<PathBuf> {
        std::fs::write(dir.join(name), text)?;
        Ok(dir.join(name))
    };
    Ok(TlsFiles {
        ca: file("ca.pem", ca.pem())?,
        cert: file("cert.pem", cert.pem())?,
        key: file("key.pem", key.serialize_pem())?,
    })
}

#[tokio::test]
async fn connections_are_encrypted_and_certificates_checked() -> Result<()> {
    if !slapd::is_installed() {
        return Ok(());
    }
    let (dir, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let tls = certificates(dir.path())?;
    let server = Slapd::private(ENTRIES, Some(&tls))?;
    let ldaps_port = server.tls_port().unwrap_or_default();
    for (protection, port) in [(Protection::StartTls, server.port), (Protection::Tls, ldaps_port)] {
        let trusted = LdapOptions { protection, ca_file: Some(tls.ca.clone()), ..options(port) };
        let ldap = Ldap::new(trusted)?;
        assert!(ldap.authenticate("ana", "ana-secret").await?, "{protection:?}");
        assert!(!ldap.authenticate("ana", "wrong").await?, "{protection:?}");
        // another authority's server isn't ours
        let ca_file = Some(certificates(other.path())?.ca);
        let stranger = Ldap::new(LdapOptions { protection, ca_file, ..options(port) })?;
        assert!(stranger.authenticate("ana", "ana-secret").await.is_err(), "{protection:?}");
    }
    Ok(())
}
