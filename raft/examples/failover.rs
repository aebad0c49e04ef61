//! How long a group of three processes is without a leader that serves, after kill -9 of the leader.
//!
//! `cargo run --release -p raft --example failover -- [rounds] [busy threads per node]`
//!
//! Each round kills the leader's process, asks a survivor at once to propose until that succeeds, prints the time, and
//! starts the killed node again. Then planned stops. Timings can be given as `HEARTBEAT`, `ELECTION_MIN` and
//! `ELECTION_MAX` (milliseconds).
#![allow(clippy::unwrap_used, clippy::expect_used)] // a measurement, not a product

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use raft::{ClusterOptions, Group, Options, TlsFiles, pki};

const NODES: usize = 3;
const PATIENCE: Duration = Duration::from_secs(30);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "node") {
        return node(Path::new(&arguments[1]), arguments[2].parse().unwrap(), arguments[3].parse().unwrap());
    }
    let number = |at: usize, default: usize| arguments.get(at).map_or(default, |text| text.parse().unwrap());
    measure(number(0, 100), number(1, 0));
}

fn options(dir: &Path, node: usize) -> Options {
    let port = |node: usize| 23_170 + u16::try_from(node).unwrap();
    let name = format!("n{node}");
    let address = |node| SocketAddr::from(([127, 0, 0, 1], port(node)));
    let tls = TlsFiles {
        ca: dir.join("ca/ca.pem"),
        cert: dir.join(format!("{name}.pem")),
        key: dir.join(format!("{name}.key")),
    };
    let seeds = (0..NODES).map(|node| address(node).to_string()).collect();
    let cluster = ClusterOptions::new(address(node), address(node).to_string(), tls, seeds);
    let mut options = Options { cluster: Some(cluster), ..Options::new(dir.join(&name), name.clone()) };
    let millis = |name| std::env::var(name).ok().map(|text| Duration::from_millis(text.parse().unwrap()));
    options.heartbeat = millis("HEARTBEAT").unwrap_or(options.heartbeat);
    options.election_min = millis("ELECTION_MIN").unwrap_or(options.election_min);
    options.election_max = millis("ELECTION_MAX").unwrap_or(options.election_max);
    options
}

/// Reads commands, prints answers: `status` → `status LEADER TERM`, `propose X` → `done X`, `stop` → `stopped`.
fn node(dir: &Path, node: usize, busy: usize) {
    for _ in 0..busy {
        std::thread::spawn(|| {
            let mut number = 1u64;
            loop {
                number = std::hint::black_box(number.wrapping_mul(3));
            }
        });
    }
    let say = |line: String| std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let group = Group::open(options(dir, node)).await.unwrap();
        let (lines, mut commands) = tokio::sync::mpsc::channel::<String>(16);
        std::thread::spawn(move || {
            for line in std::io::stdin().lines().map_while(Result::ok) {
                if lines.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        while let Some(command) = commands.recv().await {
            match command.split_once(' ') {
                Some(("propose", what)) => {
                    while group.advance_content(None, what).await.is_err() {}
                    say(format!("done {what}"));
                }
                _ if command == "status" => {
                    let status = group.status();
                    let ready = group.check().is_ok();
                    say(format!("status {} {} {ready}", status.leader.unwrap_or_default(), status.term));
                }
                _ => break,
            }
        }
        group.shutdown().await;
        say("stopped".to_owned());
    });
}

struct Node {
    child: Child,
    input: ChildStdin,
    output: Receiver<String>,
}

impl Node {
    fn start(dir: &Path, node: usize, busy: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["node", dir.to_str().unwrap(), &node.to_string(), &busy.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (lines, output) = channel();
        let reader = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    return;
                }
            }
        });
        Self { input: child.stdin.take().unwrap(), child, output }
    }

    fn tell(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn hear(&self, start: &str) -> String {
        loop {
            let line = self.output.recv_timeout(PATIENCE).expect("a node is silent");
            if line.starts_with(start) {
                return line;
            }
        }
    }

    /// Leader, term, and whether the node has its session.
    fn status(&mut self) -> (Option<usize>, u64, bool) {
        self.tell("status");
        let line = self.hear("status");
        let words: Vec<&str> = line.split(' ').collect();
        (words[1].strip_prefix('n').and_then(|n| n.parse().ok()), words[2].parse().unwrap(), words[3] == "true")
    }
}

/// Waits until all are ready under one leader; gives it and its term.
fn settle(nodes: &mut [Node]) -> (usize, u64) {
    let began = Instant::now();
    loop {
        let seen: Vec<_> = nodes.iter_mut().map(Node::status).collect();
        if let (Some(leader), term, true) = seen[0]
            && seen.iter().all(|other| *other == seen[0])
        {
            return (leader, term);
        }
        assert!(began.elapsed() < PATIENCE, "the group doesn't settle: {seen:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part).round() as usize].as_millis();
    println!(
        "{what}: {} rounds, p50 {} ms, p90 {} ms, p99 {} ms, max {} ms",
        times.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

fn measure(rounds: usize, busy: usize) {
    let dir = tempfile::tempdir().unwrap();
    let dir: PathBuf = dir.path().to_owned();
    pki::init_ca(&dir.join("ca"), "failover").unwrap();
    for node in 0..NODES {
        pki::issue(&dir.join("ca"), &dir, &format!("n{node}"), &[]).unwrap();
    }
    let mut nodes: Vec<Node> = (0..NODES).map(|node| Node::start(&dir, node, busy)).collect();
    let (_, first) = settle(&mut nodes);
    let (mut kills, mut stops, mut terms) = (Vec::new(), Vec::new(), first);
    for round in 0..rounds {
        let (leader, _) = settle(&mut nodes);
        // Not in step with heartbeats.
        std::thread::sleep(Duration::from_millis(200 + (round as u64 * 37) % 150));
        let survivor = (leader + 1 + round % 2) % NODES;
        let began = Instant::now();
        nodes[leader].child.kill().unwrap();
        nodes[survivor].tell(&format!("propose k{round}"));
        nodes[survivor].hear(&format!("done k{round}"));
        kills.push(began.elapsed());
        nodes[leader].child.wait().unwrap();
        nodes[leader] = Node::start(&dir, leader, busy);
    }
    let (_, last) = settle(&mut nodes);
    terms = last - terms;
    report("leader killed (-9) to a proposal through a survivor", &mut kills);
    println!("terms: {terms} in {rounds} kills");
    for round in 0..rounds / 5 {
        let (leader, _) = settle(&mut nodes);
        let survivor = (leader + 1) % NODES;
        let began = Instant::now();
        nodes[leader].tell("stop");
        // The worst moment: while the lead passes on.
        nodes[survivor].tell(&format!("propose s{round}"));
        nodes[survivor].hear(&format!("done s{round}"));
        stops.push(began.elapsed());
        nodes[leader].hear("stopped");
        nodes[leader].child.wait().unwrap();
        nodes[leader] = Node::start(&dir, leader, busy);
    }
    if !stops.is_empty() {
        report("planned stop of the leader, a proposal meanwhile", &mut stops);
    }
    settle(&mut nodes);
    let (_, before) = settle(&mut nodes);
    std::thread::sleep(Duration::from_secs(20));
    let (_, after) = settle(&mut nodes);
    println!("elections in 20 s without faults: {}", after - before);
    for node in &mut nodes {
        let _ = node.child.kill();
        let _ = node.child.wait();
    }
    std::fs::remove_dir_all(&dir).ok();
}
