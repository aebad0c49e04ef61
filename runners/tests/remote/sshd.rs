//! Debian's sshd as a process of the test: own port, own host key, own authorized key.

use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Where it may lie: it isn't on every user's PATH.
const PROGRAMS: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

/// The user that some have, and the password.
pub const USER: &str = "squall-probe";
pub const PASSWORD: &str = "open sesame";

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
        Self::with(address, "", None)
    }

    /// With more lines of configuration; `sudoers`: for a user of its own, [`USER`] with [`PASSWORD`], whom only this
    /// sshd knows and who may do what the text says.
    ///
    /// None as well if the user can't be made: that takes root, `unshare` and sudo.
    pub fn with(address: &str, more: &str, sudoers: Option<&str>) -> Option<Self> {
        let is_root = output("id", &["-u"]) == "0";
        if sudoers.is_some() && !(is_root && Path::new("/etc/sudoers").exists()) {
            eprintln!("SKIPPED: users of their own take root and sudo (scripts/deps.sh test)");
            return None;
        }
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
        let user = if sudoers.is_some() { USER.to_owned() } else { output("id", &["-un"]) };
        if is_root {
            // Where sshd, run by root, locks its unprivileged part in.
            std::fs::create_dir_all("/run/sshd").unwrap();
            std::fs::set_permissions("/run/sshd", PermissionsExt::from_mode(0o755)).unwrap();
        }
        let port = free_port();
        // Another home: whatever this machine's `.bashrc` starts is not what is tested and measured.
        let config = format!(
            "Port {port}\nListenAddress {address}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\n\
             UsePAM no\nPermitRootLogin yes\nAllowUsers {user}@127.0.0.0/8\nMaxStartups 1000\nUseDNS no\n\
             SetEnv HOME={}\n{more}\nPasswordAuthentication no\n",
            at("host").display(),
            at("authorized").display(),
            directory.path().display()
        );
        std::fs::write(at("config"), config).unwrap();
        let log = std::fs::File::create(at("log")).unwrap();
        let mut command = match sudoers {
            None => Command::new(program),
            Some(sudoers) => with_user(directory.path(), sudoers, program),
        };
        let process = command
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

/// Begins the program where files of users are other ones than on the rest of the machine.
fn with_user(directory: &Path, sudoers: &str, program: &str) -> Command {
    std::fs::set_permissions(directory, PermissionsExt::from_mode(0o755)).unwrap();
    let hash = output("openssl", &["passwd", "-6", PASSWORD]);
    let mut script = "set -e\n".to_owned();
    for (name, mode, line) in [
        ("passwd", 0o644, format!("{USER}:x:61234:61234::/tmp:/bin/bash\n")),
        ("group", 0o644, format!("{USER}:x:61234:\n")),
        ("shadow", 0o600, format!("{USER}:{hash}:19000:0:99999:7:::\n")),
        ("sudoers", 0o440, format!("Defaults env_reset, !lecture, passwd_tries=1\n{sudoers}\n")),
    ] {
        let original = format!("/etc/{name}");
        let old = if name == "sudoers" { String::new() } else { std::fs::read_to_string(&original).unwrap() };
        let file = directory.join(name);
        std::fs::write(&file, old + &line).unwrap();
        std::fs::set_permissions(&file, PermissionsExt::from_mode(mode)).unwrap();
        script.push_str(&format!("mount --bind '{}' {original}\n", file.display()));
    }
    script.push_str("exec \"$@\"\n");
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", &script, "sh", program]);
    command
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
