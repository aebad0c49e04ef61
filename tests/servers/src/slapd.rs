//! OpenLDAP's server, with a small directory in it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::binaries;
use crate::ports::free_port;
use crate::process::{Process, listens, private_dir};

/// What the directory is called.
pub const BASE: &str = "dc=example,dc=org";
/// The account that may search.
pub const BIND_DN: &str = "cn=squall,dc=example,dc=org";
pub const BIND_PASSWORD: &str = "search-me";

/// Certificate, key and authority for TLS: PEM files.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    pub ca: PathBuf,
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// One server.
#[derive(Debug)]
pub struct Slapd {
    pub process: Process,
    pub port: u16,
    tls_port: Option<u16>,
}

impl Slapd {
    /// With these entries below [`BASE`] (LDIF); with TLS also on `ldaps://`.
    pub fn private(ldif: &str, tls: Option<&TlsFiles>) -> Result<Self> {
        let dir = private_dir("slapd")?;
        let port = free_port();
        let mut server = Self { process: Process::new("slapd", &dir), port, tls_port: tls.map(|_| free_port()) };
        server.prepare(ldif, tls)?;
        server.start()?;
        Ok(server)
    }

    pub fn tls_port(&self) -> Option<u16> {
        self.tls_port
    }

    fn config(&self) -> PathBuf {
        self.process.dir().join("slapd.conf")
    }

    fn prepare(&self, ldif: &str, tls: Option<&TlsFiles>) -> Result<()> {
        let dir = self.process.dir().display();
        fs::create_dir_all(self.process.dir().join("data"))?;
        let tls = tls.map_or_else(String::new, |tls| {
            let (ca, cert, key) = (tls.ca.display(), tls.cert.display(), tls.key.display());
            format!("TLSCACertificateFile {ca}\nTLSCertificateFile {cert}\nTLSCertificateKeyFile {key}\n")
        });
        let schemas: String = ["core", "cosine", "inetorgperson", "nis"]
            .map(|name| format!("include /etc/ldap/schema/{name}.schema\n"))
            .concat();
        let config = format!(
            "{schemas}pidfile {dir}/slapd.pid\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n{tls}\
             disallow bind_anon\n\
             database mdb\nsuffix \"{BASE}\"\nrootdn \"{BIND_DN}\"\nrootpw {BIND_PASSWORD}\ndirectory {dir}/data\n\
             access to attrs=userPassword by anonymous auth by * none\naccess to * by users read by * none\n"
        );
        fs::write(self.config(), config)?;
        let entries = self.process.dir().join("entries.ldif");
        let top = format!("dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\no: Example\ndc: example\n\n");
        fs::write(&entries, top + ldif)?;
        let slapadd = binaries::find("SQUALL_TEST_BIN_SLAPADD", "slapadd", &[Path::new("/usr/sbin/slapadd").into()])?;
        let added = Command::new(slapadd).arg("-f").arg(self.config()).arg("-l").arg(&entries).output()?;
        if !added.status.success() {
            bail!("slapadd: {}", String::from_utf8_lossy(&added.stderr));
        }
        Ok(())
    }

    /// Starts it (again) and waits until it listens.
    pub fn start(&mut self) -> Result<()> {
        let slapd = binaries::find("SQUALL_TEST_BIN_SLAPD", "slapd", &[Path::new("/usr/sbin/slapd").into()])?;
        let port = self.port;
        let mut urls = format!("ldap://127.0.0.1:{port}/");
        if let Some(port) = self.tls_port {
            urls.push_str(&format!(" ldaps://127.0.0.1:{port}/"));
        }
        let mut command = Command::new(slapd);
        command.arg("-h").arg(urls).arg("-f").arg(self.config()).args(["-d", "0"]);
        self.process.start(&mut command, Duration::from_secs(20), || Ok(listens(port))).context("slapd")
    }
}

/// Whether it is there; if not the test is skipped, loudly, or fails if servers are required.
///
/// # Panics
/// If servers are required and it isn't installed.
pub fn is_installed() -> bool {
    let found = binaries::find("SQUALL_TEST_BIN_SLAPD", "slapd", &[Path::new("/usr/sbin/slapd").into()]).is_ok();
    if !found {
        let required = std::env::var("SQUALL_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
        assert!(!required, "slapd isn't installed, and SQUALL_TEST_REQUIRE_SERVERS=1");
        eprintln!("SKIPPED: slapd isn't installed; `scripts/deps.sh test` installs it");
    }
    found
}
