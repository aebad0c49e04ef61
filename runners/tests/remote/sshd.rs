//! Debian's sshd as a process of the test: own port, own host key, own authorized key.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where it may lie: it isn't on every user's PATH.
const PROGRAMS: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

pub struct Sshd {
    process: Child,
    pub port: u16,
    pub user: String,
    pub directory: tempfile::TempDir,
}

impl Sshd {
    /// None, and a line that says so, if there is no sshd; unless `SQUALL_TEST_REQUIRE_SERVERS` is 1.
    pub fn start() -> Option<Self> {
        Self::listening("127.0.0.1")
    }

    pub fn listening(address: &str) -> Option<Self> {
        let Some(program) = PROGRAMS.into_iter().find(|path| Path::new(path).exists()) else {
            let required = std::env::var("SQUALL_TEST_REQUIRE_SERVERS").is_ok_and(|value| value == "1");
            assert!(!required, "sshd is not installed (scripts/deps.sh test)");
            eprintln!("SKIPPED: sshd is not installed (scripts/deps.sh test)");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        keygen(&at("host"), "ed25519", "");
        keygen(&at("key"), "ed25519", "");
        std::fs::copy(at("key.pub"), at("authorized")).unwrap();
        let user = output("id", &["-un"]);
        if user == "root" {
            // Where sshd, run by root, locks its unprivileged part in.
            std::fs::create_dir_all("/run/sshd").unwrap();
            std::fs::set_permissions("/run/sshd", PermissionsExt::from_mode(0o755)).unwrap();
        }
        let port = free_port();
        let config = format!(
            "Port {port}\nListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPasswordAuthentication no\nPermitRootLogin yes\nAllowUsers {user}@127.0.0.0/8\n\
             MaxStartups 1000\nUseDNS no\n",
            at("host").display(),
            at("authorized").display()
        );
        std::fs::write(at("config"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let process = Command::new(program)
            .args(["-D", "-e", "-f"])
            .arg(at("config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let sshd = Self { process, port, user, directory };
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "sshd does not listen: {}", sshd.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(sshd)
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The private key that it takes.
    pub fn key(&self) -> PathBuf {
        self.at("key")
    }

    /// Takes another key as well.
    pub fn authorize(&self, public: &Path) {
        let mut all = std::fs::read_to_string(self.at("authorized")).unwrap();
        all.push_str(&std::fs::read_to_string(public).unwrap());
        std::fs::write(self.at("authorized"), all).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.at("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub fn keygen(file: &Path, kind: &str, passphrase: &str) {
    output("ssh-keygen", &["-q", "-t", kind, "-N", passphrase, "-C", "test", "-f", &file.to_string_lossy()]);
}

pub fn output(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
