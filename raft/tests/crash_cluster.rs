//! K4 with three nodes: whatever was acknowledged survives kill -9 of any node, and of all at once.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use common::{Cluster, SOON};
use raft::{Group, Options};

const ROUNDS: u64 = 6;
const NODE: &str = "SQUALL_RAFT_CLUSTER_NODE";

/// A node: writes without pause, prints every acknowledgement, tells what it has when asked. Not a test of its own:
/// without the variable it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn member() {
    let Ok(given) = std::env::var(NODE) else { return };
    let words: Vec<&str> = given.split(' ').collect();
    let ports = words[2..].iter().map(|port| port.parse().unwrap()).collect();
    let node = words[1].parse().unwrap();
    let cluster = Cluster::existing(words[0].into(), ports);
    let options = Options { snapshot_after: 150, keep_entries: 40, ..cluster.options(node) };
    let group = Group::open(options).await.unwrap();
    let (lines, mut commands) = tokio::sync::mpsc::channel::<String>(4);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            lines.blocking_send(line).unwrap();
        }
    });
    for writer in 0..4 {
        let group = group.clone();
        tokio::spawn(async move {
            let run = std::process::id();
            for entry in 0u64.. {
                let hash = format!("{run}-{writer}-{entry}");
                if let Ok(revision) = group.advance_content(None, &hash).await {
                    say(&format!("ack {revision} {hash}"));
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    }
    while let Some(command) = commands.recv().await {
        let upto: u64 = command.parse().unwrap();
        let began = Instant::now();
        let newest = loop {
            let newest = group.content_revision().map_or(0, |content| content.revision);
            if newest >= upto || began.elapsed() > SOON {
                break newest;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        for revision in newest.saturating_sub(200)..=newest {
            if let Some(hash) = group.content_at(revision) {
                say(&format!("has {revision} {hash}"));
            }
        }
        say(&format!("newest {newest}"));
    }
}

fn say(line: &str) {
    // One write per line, so that a kill cuts between lines or in the last one.
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

struct Node {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<String>>,
}

fn start(cluster: &Cluster, node: usize) -> Node {
    let ports: Vec<String> = cluster.ports.iter().map(u16::to_string).collect();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "member", "--nocapture"])
        .env(NODE, format!("{} {node} {}", cluster.root.display(), ports.join(" ")))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (lines, output) = channel();
    let reader = BufReader::new(child.stdout.take().unwrap());
    std::thread::spawn(move || {
        for line in reader.lines().map_while(Result::ok) {
            let words = line.split(' ').map(str::to_owned).collect();
            if lines.send(words).is_err() {
                return;
            }
        }
    });
    Node { input: child.stdin.take().unwrap(), child, output }
}

/// Notes an acknowledgement; cut lines prove nothing.
fn note(acks: &mut BTreeMap<u64, String>, words: &[String]) {
    let [kind, revision, hash] = words else { return };
    if kind == "ack" && hash.split('-').count() == 3 {
        let before = acks.insert(revision.parse().unwrap(), hash.clone());
        // Concurrent writers may share a revision only by writing the same.
        assert!(before.is_none_or(|before| before == *hash), "revision {revision} was acknowledged twice");
    }
}

fn drain(node: &Node, acks: &mut BTreeMap<u64, String>) {
    // The last word of a killed node may be cut.
    let mut said: Vec<Vec<String>> = node.output.try_iter().collect();
    said.pop();
    said.iter().for_each(|words| note(acks, words));
}

/// Asks a node for what it has; gives it once it has everything up to `upto`.
fn dump(node: &mut Node, upto: u64, acks: &mut BTreeMap<u64, String>) -> (u64, BTreeMap<u64, String>) {
    node.input.write_all(format!("{upto}\n").as_bytes()).unwrap();
    let mut has = BTreeMap::new();
    loop {
        let words = node.output.recv_timeout(SOON * 2).expect("a node is silent");
        match words.first().map(String::as_str) {
            Some("newest") => return (words[1].parse().unwrap(), has),
            Some("has") => drop(has.insert(words[1].parse().unwrap(), words[2].clone())),
            _ => note(acks, &words),
        }
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

#[test]
fn every_acknowledged_command_survives_kills_of_nodes_and_of_all() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = std::env::var("SQUALL_SEED").ok().map_or(now.as_nanos() as u64 | 1, |seed| seed.parse().unwrap());
    println!("SQUALL_SEED={seed}");
    let mut random = Random(seed);
    let cluster = Cluster::new(3);
    let mut nodes: Vec<Node> = (0..3).map(|node| start(&cluster, node)).collect();
    let mut acks = BTreeMap::new();
    dump(&mut nodes[0], 1, &mut acks);
    for round in 0..ROUNDS {
        std::thread::sleep(Duration::from_millis(300 + random.below(1_200)));
        // One, another one, all.
        let victims: Vec<usize> = if round % 3 == 2 { vec![0, 1, 2] } else { vec![random.below(3) as usize] };
        for victim in &victims {
            nodes[*victim].child.kill().unwrap();
        }
        for victim in victims {
            nodes[victim].child.wait().unwrap();
            drain(&nodes[victim], &mut acks);
            nodes[victim] = start(&cluster, victim);
        }
        for (node, running) in nodes.iter_mut().enumerate() {
            let upto = acks.last_key_value().map_or(0, |(revision, _)| *revision);
            let (newest, has) = dump(running, upto, &mut acks);
            assert!(newest >= upto, "round {round}: node {node} has {newest}, {upto} was acknowledged");
            for (revision, hash) in acks.range(newest.saturating_sub(180)..=newest) {
                assert_eq!(has.get(revision), Some(hash), "round {round}: node {node}, revision {revision}");
            }
        }
    }
    println!("{ROUNDS} rounds, {} acknowledged", acks.len());
    assert!(acks.len() > 50, "the nodes hardly ran");
    for mut node in nodes {
        node.child.kill().unwrap();
        node.child.wait().unwrap();
    }
}
