//! The Python host with real interpreters. Without a `python3` on the machine these tests have nothing to test.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test that can't go on ends

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use runners::PythonOptions;
use runners::live::LiveOutput;
use runners::process::{Exit, Finished, Limits, supervise};
use runners::python_script::control::{self, Answer};
use runners::python_script::{PythonHost, interpreter};
use runners::stop::{Stop, StopReason, Stopper};
use serde_json::{Value, json};

const LIMITS: Limits =
    Limits { timeout: Some(Duration::from_secs(20)), grace: Duration::from_millis(300), output: 1 << 20 };

struct Bed {
    host: Arc<PythonHost>,
    python: PathBuf,
    directory: tempfile::TempDir,
    /// Of the actions' processes.
    limits: Value,
}

impl Bed {
    async fn new(adjust: impl FnOnce(&mut PythonOptions)) -> Option<Self> {
        let Ok(python) = interpreter::resolve(None).await else {
            eprintln!("skipped: there is no usable python3 here");
            return None;
        };
        let directory = tempfile::tempdir().unwrap();
        let sdk_path = runners::sdk::unpack(directory.path()).unwrap();
        let mut options = PythonOptions { sdk_path, ..PythonOptions::default() };
        adjust(&mut options);
        let limits = options.limits();
        Some(Self { host: Arc::new(PythonHost::new(options)), python, directory, limits })
    }

    /// A file `actions/<name>.py` that begins with the import of `Action`.
    fn action(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join("actions").join(format!("{name}.py"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("from st2common.runners.base_action import Action\n{text}")).unwrap();
        path
    }

    fn request(&self, file: &PathBuf, parameters: Value) -> Vec<u8> {
        let limits = &self.limits;
        json!({
            "file_path": file, "pack": "test", "user": "u", "parameters": parameters, "config": {"a": 1},
            "log_level": "DEBUG", "env": {"GIVEN": "yes"}, "path": [self.directory.path().join("actions/lib")],
            "limits": limits,
        })
        .to_string()
        .into_bytes()
    }

    async fn run(&self, file: &PathBuf, parameters: Value) -> (Finished, Option<Answer>) {
        let (_stopper, stop) = Stop::new();
        self.run_until(file, parameters, LIMITS, stop).await
    }

    async fn run_until(
        &self,
        file: &PathBuf,
        parameters: Value,
        limits: Limits,
        mut stop: Stop,
    ) -> (Finished, Option<Answer>) {
        let request = self.request(file, parameters);
        let mut started = self.host.start(&self.python).await.unwrap();
        let mut live = LiveOutput::none();
        let exchange = control::exchange(started.control, &request, 1 << 30);
        let watch = supervise(started.process.as_mut(), started.pipes, limits, &mut stop, &mut live);
        let (finished, answer) = tokio::join!(watch, exchange);
        (finished.unwrap(), answer.unwrap())
    }

    /// What `run` returned; the run must have ended well.
    async fn value(&self, file: &PathBuf, parameters: Value) -> Value {
        let (finished, answer) = self.run(file, parameters).await;
        let stderr = finished.stderr.into_text();
        assert_eq!((finished.exit, stderr.as_str()), (Exit::Code(0), ""));
        answer.unwrap().result
    }
}

async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

#[tokio::test]
async fn the_sdks_own_tests_pass() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let sdk = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../sdk/python");
    let output =
        std::process::Command::new(&bed.python).args(["-B", "-m", "unittest"]).current_dir(sdk).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

const ECHO: &str = "import os\nclass A(Action):\n    def run(self, **kw):\n        return kw\n";

#[tokio::test]
async fn runs_are_forks_that_share_nothing() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action(
        "counter",
        "import os\nimport builtins\nbuiltins.count = getattr(builtins, 'count', 0) + 1\n\
         class A(Action):\n    def run(self):\n        os.environ['LEFT'] = 'x'\n        \
         return [builtins.count, os.getsid(0) == os.getpid(), os.getppid(), os.environ.get('GIVEN')]\n",
    );
    let first = bed.value(&file, json!({})).await;
    let second = bed.value(&file, json!({})).await;
    let zygote = bed.host.pids()[0];
    assert_eq!(first, json!([1, true, zygote, "yes"]));
    // By now a successor may have forked it.
    assert_eq!(
        (&second[0], &second[1], &second[3]),
        (&json!(1), &json!(true), &json!("yes")),
        "nothing of the first run"
    );
}

/// What an action imports from elsewhere is there before the next runs begin.
#[tokio::test]
async fn imports_are_paid_for_once() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action(
        "heavy",
        "import sys\nTHERE = 'xml.dom.minidom' in sys.modules\nimport xml.dom.minidom\n\
         class A(Action):\n    def run(self):\n        return THERE\n",
    );
    assert_eq!(bed.value(&file, json!({})).await, json!(false));
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while bed.value(&file, json!({})).await != json!(true) {
        assert!(std::time::Instant::now() < deadline, "it is imported again and again");
    }
    // The interpreter that imported it is lost with the one that made it, and that isn't seen.
    kill(bed.host.pids()[0]);
    let (_, answer) = bed.run(&file, json!({})).await;
    assert!(answer.is_some());
}

#[tokio::test]
async fn large_parameters_and_results_pass() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action("echo", ECHO);
    let text = "žluťoučký ".repeat(600_000);
    let value = bed.value(&file, json!({"text": text})).await;
    assert_eq!(value["text"].as_str(), Some(text.as_str()));
}

#[tokio::test]
async fn a_killed_zygote_is_not_seen() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let echo = bed.action("echo", ECHO);
    let slow = bed.action(
        "slow",
        "import time\nclass A(Action):\n    def run(self, flag):\n        open(flag, 'w').close()\n        \
         time.sleep(0.7)\n        return 'done'\n",
    );
    let flag = bed.directory.path().join("flag");
    bed.value(&echo, json!({"n": 1})).await;
    let zygote = bed.host.pids()[0];
    let going = bed.run(&slow, json!({"flag": flag}));
    let crash = async {
        eventually("the run has begun", || flag.exists()).await;
        kill(zygote);
        eventually("the zygote ends", || !is_alive(zygote)).await;
        bed.value(&echo, json!({"n": 2})).await
    };
    let ((finished, answer), echoed) = tokio::join!(going, crash);
    assert_eq!(echoed, json!({"n": 2}));
    assert_eq!(answer.unwrap().result, json!("done"), "what it had forked goes on");
    assert_eq!(finished.exit, Exit::Unknown);
    let again = bed.host.pids();
    assert!(again.len() == 1 && again[0] != zygote);
}

#[tokio::test]
async fn where_nothing_is_warm_a_fresh_interpreter_serves() {
    let Some(bed) = Bed::new(|options| options.warm = false).await else { return };
    let file = bed.action("echo", ECHO);
    assert_eq!(bed.value(&file, json!({"n": 1})).await, json!({"n": 1}));
    assert!(bed.host.pids().is_empty());
}

#[tokio::test]
async fn idle_zygotes_end() {
    let Some(bed) = Bed::new(|options| options.zygote_idle = Duration::from_millis(1)).await else { return };
    let file = bed.action("echo", ECHO);
    bed.value(&file, json!({})).await;
    let zygote = bed.host.pids()[0];
    tokio::time::sleep(Duration::from_millis(5)).await;
    bed.host.retire_idle();
    eventually("it ends", || !is_alive(zygote)).await;
    assert_eq!(bed.value(&file, json!({"n": 3})).await, json!({"n": 3}));
}

async fn stopped(bed: &Bed, limits: Limits, stop: impl FnOnce(&Stopper)) -> (Finished, i32, i32) {
    let file = bed.action(
        "stubborn",
        "import os, signal, subprocess, time\nclass A(Action):\n    def run(self, path):\n        \
         signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        child = subprocess.Popen(['sleep', '100'])\n        \
         open(path + '.new', 'w').write('%d %d' % (os.getpid(), child.pid))\n        os.rename(path + '.new', path)\n        \
         time.sleep(100)\n",
    );
    let path = bed.directory.path().join("pids");
    let (stopper, on_stop) = Stop::new();
    let going = bed.run_until(&file, json!({"path": path}), limits, on_stop);
    let stopping = async {
        eventually("it has begun", || path.exists()).await;
        stop(&stopper);
    };
    let ((finished, answer), ()) = tokio::join!(going, stopping);
    assert_eq!(answer, None);
    let pids = std::fs::read_to_string(path).unwrap();
    let (own, child) = pids.split_once(' ').unwrap();
    (finished, own.parse().unwrap(), child.parse().unwrap())
}

#[tokio::test]
async fn cancel_and_time_out_end_the_fork_and_its_children() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let (finished, own, child) = stopped(&bed, LIMITS, |stopper| stopper.stop(StopReason::Cancel)).await;
    assert_eq!((finished.exit, finished.stopped), (Exit::Signal(9), Some(StopReason::Cancel)));
    eventually("both end", || !is_alive(own) && !is_alive(child)).await;
    let limits = Limits { timeout: Some(Duration::from_secs(1)), ..LIMITS };
    let (finished, own, child) = stopped(&bed, limits, |_| {}).await;
    assert!(finished.timed_out);
    eventually("both end", || !is_alive(own) && !is_alive(child)).await;
}

#[tokio::test]
async fn limits_hold_for_the_fork_alone() {
    let adjust = |options: &mut PythonOptions| {
        (options.memory_limit, options.cpu_limit, options.open_files) = (Some(1 << 30), Some(1), Some(40));
    };
    let Some(bed) = Bed::new(adjust).await else { return };
    let failure = async |name, body: &str| {
        let file = bed.action(name, &format!("class A(Action):\n    def run(self):\n{body}"));
        let (finished, answer) = bed.run(&file, json!({})).await;
        assert_eq!((finished.exit, answer), (Exit::Code(1), None), "{name}");
        finished.stderr.into_text()
    };
    let memory = failure("memory", "        return len(bytearray(1 << 31))\n").await;
    assert!(memory.contains("MemoryError"), "{memory}");
    let files = failure("files", "        kept = [open('/dev/null') for _ in range(100)]\n").await;
    assert!(files.contains("Too many open files"), "{files}");
    let spin = failure("spin", "        while True:\n            pass\n").await;
    assert!(spin.contains("TimeoutError: the action has used all of the processor time"), "{spin}");
    // Whoever doesn't listen is killed a little later.
    let deaf = "        import signal\n        signal.signal(signal.SIGXCPU, signal.SIG_IGN)\n        while True:\n            pass\n";
    let file = bed.action("deaf", &format!("class A(Action):\n    def run(self):\n{deaf}"));
    let patient = Limits { timeout: Some(Duration::from_secs(200)), ..LIMITS };
    let (_stopper, stop) = Stop::new();
    let (finished, answer) = bed.run_until(&file, json!({}), patient, stop).await;
    assert_eq!((finished.exit, answer), (Exit::Signal(9), None));
    let echo = bed.action("echo", ECHO);
    assert_eq!(bed.value(&echo, json!({"n": 1})).await, json!({"n": 1}));
    assert_eq!(bed.host.pids().len(), 1, "the warm interpreter has no limits");
}

#[tokio::test]
async fn tracebacks_show_the_authors_code_alone() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action(
        "bad",
        "def inner():\n    raise ValueError('no such thing')\n\nclass A(Action):\n    def run(self):\n        inner()\n",
    );
    let (finished, _) = bed.run(&file, json!({})).await;
    let text = finished.stderr.into_text();
    assert_eq!(text.matches("  File ").count(), 2, "{text}");
    assert!(!text.contains("squall_host") && text.trim_end().ends_with("ValueError: no such thing"), "{text}");
}

#[tokio::test]
async fn many_runs_at_a_time() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action("echo", ECHO);
    let runs = (0..50).map(|n| {
        let (bed, file) = (&bed, &file);
        async move { bed.value(file, json!({"n": n})).await["n"].as_i64() }
    });
    let values = futures::future::join_all(runs).await;
    assert_eq!(values, (0..50).map(Some).collect::<Vec<_>>());
    assert_eq!(bed.host.pids().len(), 1);
}

/// Figures for `cargo nextest run -p runners --run-ignored only --no-capture figures`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn figures() {
    let Some(bed) = Bed::new(|_| {}).await else { return };
    let file = bed.action("trivial", "class A(Action):\n    def run(self, n):\n        return {'n': n}\n");
    bed.value(&file, json!({"n": 0})).await;
    let mut took = Vec::new();
    for n in 0..300 {
        let begun = Instant::now();
        bed.value(&file, json!({"n": n})).await;
        took.push(begun.elapsed());
    }
    took.sort();
    println!("serial: p50 {:?}, p99 {:?}", took[150], took[297]);
    let begun = Instant::now();
    let stream = futures::stream::iter(0..1000).map(|n| bed.value(&file, json!({"n": n}))).buffer_unordered(8);
    assert_eq!(stream.count().await, 1000);
    println!("8 at a time: {:.0}/s", 1000.0 / begun.elapsed().as_secs_f64());
    let rollup = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", bed.host.pids()[0])).unwrap();
    for line in rollup.lines().filter(|line| line.starts_with("Private")) {
        println!("{line}");
    }
}
