//! Real processes: output, limits, signals, descendants.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

use std::path::Path;
use std::time::{Duration, Instant};

use runners::live::LiveOutput;
use runners::process::spawn::own_environment;
use runners::process::{Child, Command, Exit, Finished, Limits, Pipes, supervise};
use runners::stop::{Stop, StopReason};

const LIMITS: Limits =
    Limits { timeout: Some(Duration::from_secs(20)), grace: Duration::from_millis(300), output: 1 << 20 };

fn start(script: &str) -> (Child, Pipes) {
    let (pipes, stdout, stderr) = Pipes::open().unwrap();
    let child = Command {
        program: "/bin/sh".to_owned(),
        args: vec!["sh".to_owned(), "-c".to_owned(), script.to_owned()],
        environment: own_environment(),
        descriptors: vec![(stdout, 1), (stderr, 2)],
    }
    .spawn()
    .unwrap();
    (child, pipes)
}

async fn run(script: &str, limits: Limits) -> Finished {
    let (mut child, pipes) = start(script);
    let (_stopper, mut stop) = Stop::new();
    supervise(&mut child, pipes, limits, &mut stop, &mut LiveOutput::none()).await.unwrap()
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Running, not merely unreaped.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn read_pid(path: &Path) -> Option<i32> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[tokio::test]
async fn output_and_exit_codes() {
    let done = run("echo out; echo err >&2; exit 3", LIMITS).await;
    assert_eq!(done.exit, Exit::Code(3));
    assert_eq!((done.stdout.into_text().as_str(), done.stderr.into_text().as_str()), ("out\n", "err\n"));
    assert_eq!(run("kill -TERM $$", LIMITS).await.exit, Exit::Signal(15));
    assert!(!run("kill -KILL $$", LIMITS).await.timed_out);
    // Standard input is empty, and no descriptor of ours is left in it.
    let script = "cat; ls /proc/self/fd | wc -l; ps -o pid= -o sid= -p $$ | awk '{print ($1 == $2)}'";
    let inherited = std::process::Command::new("sh").args(["-c", "ls /proc/self/fd | wc -l"]).output().unwrap();
    let inherited = String::from_utf8(inherited.stdout).unwrap();
    assert_eq!(run(script, LIMITS).await.stdout.into_text(), format!("{inherited}1\n"));
}

#[tokio::test]
async fn a_time_out_ends_the_whole_session() {
    let directory = tempfile::tempdir().unwrap();
    let pids = ["child", "own-group", "stubborn"].map(|name| directory.path().join(name));
    // A child in the group, one in a group of its own, one that ignores SIGTERM.
    let script = format!(
        "sleep 100 & echo $! > {0}; \
         bash -c 'set -m; sleep 100 & echo $! > {1}; wait' & \
         sh -c 'trap \"\" TERM; echo $$ > {2}; while :; do sleep 0.05; done' & \
         echo started; wait",
        pids[0].display(),
        pids[1].display(),
        pids[2].display()
    );
    let limits = Limits { timeout: Some(Duration::from_millis(700)), ..LIMITS };
    let begun = Instant::now();
    let done = run(&script, limits).await;
    assert!(done.timed_out);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!(done.stdout.into_text(), "started\n");
    for path in &pids {
        let pid = read_pid(path).unwrap_or_else(|| panic!("{} was not written", path.display()));
        eventually("all descendants end", || !is_alive(pid)).await;
    }
}

#[tokio::test]
async fn a_script_that_ignores_sigterm_is_killed() {
    let (mut child, pipes) = start("trap '' TERM; echo ready; while :; do sleep 0.05; done");
    let (stopper, mut stop) = Stop::new();
    let pid = child.pid();
    let begun = Instant::now();
    stopper.stop(StopReason::Cancel);
    let done = supervise(&mut child, pipes, LIMITS, &mut stop, &mut LiveOutput::none()).await.unwrap();
    assert_eq!((done.stopped, done.timed_out), (Some(StopReason::Cancel), false));
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(!is_alive(pid));
}

#[tokio::test]
async fn a_lost_session_kills_without_asking() {
    let limits = Limits { grace: Duration::from_secs(100), ..LIMITS };
    let (mut child, pipes) = start("trap '' TERM; while :; do sleep 0.05; done");
    let (stopper, mut stop) = Stop::new();
    stopper.stop(StopReason::Cancel);
    stopper.stop(StopReason::SessionLost);
    let begun = Instant::now();
    let done = supervise(&mut child, pipes, limits, &mut stop, &mut LiveOutput::none()).await.unwrap();
    assert_eq!((done.stopped, done.exit), (Some(StopReason::SessionLost), Exit::Signal(9)));
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_daemon_that_keeps_the_pipe_does_not_keep_the_run() {
    let begun = Instant::now();
    let done = run("sleep 5 & echo $!", LIMITS).await;
    assert!(begun.elapsed() < Duration::from_secs(3));
    assert_eq!(done.exit, Exit::Code(0));
    let pid: i32 = done.stdout.into_text().trim().parse().unwrap();
    assert!(is_alive(pid), "what an action leaves behind on purpose stays");
    assert!(runners::process::signal_session(pid, nix::sys::signal::Signal::SIGKILL));
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

#[tokio::test]
async fn a_dropped_run_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pid");
    let (mut child, pipes) = start(&format!("sleep 100 & echo $! > {}; wait", path.display()));
    let leader = child.pid();
    let (_stopper, mut stop) = Stop::new();
    let mut live = LiveOutput::none();
    {
        let watch = supervise(&mut child, pipes, LIMITS, &mut stop, &mut live);
        let written = eventually("the pid is written", || read_pid(&path).is_some());
        tokio::select! {
            _ = watch => panic!("it does not end by itself"),
            () = written => {}
        }
    }
    drop(child);
    let pid = read_pid(&path).unwrap();
    eventually("both end", || !is_alive(pid) && !is_alive(leader)).await;
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_hundred_megabytes_do_not_grow_memory() {
    let before = resident_kib();
    let done = run("head -c 104857600 /dev/zero | tr '\\0' 'x'; echo end >&2", LIMITS).await;
    let grown = resident_kib().saturating_sub(before);
    assert_eq!(done.exit, Exit::Code(0), "the pipe is drained to the end");
    assert!(done.stdout.is_truncated());
    let text = done.stdout.into_text();
    assert!(text.ends_with("\n[truncated: the limit output_limit is 1048576 bytes, 104857600 were written]\n"));
    assert_eq!(text.find('\n'), Some(1 << 20));
    assert_eq!(done.stderr.into_text(), "end\n");
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
}

#[tokio::test]
async fn output_that_is_not_utf8_is_replaced() {
    let done = run("printf 'a\\377b'; printf '\\303' >&2", LIMITS).await;
    assert_eq!(done.stdout.into_text(), "a\u{fffd}b");
    assert_eq!(done.stderr.into_text(), "\u{fffd}");
}
