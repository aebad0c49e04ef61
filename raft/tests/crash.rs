//! K4: after kill -9 at random moments every acknowledged command is in the state, and epochs only grow.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use model::Duty;
use raft::{Group, Options};

const ROUNDS: u32 = 30;
const WRITERS: u32 = 8;
const DIR: &str = "SQUALL_RAFT_CRASH_DIR";

fn options(dir: &Path) -> Options {
    // Snapshots and purges happen often, so that kills meet them too.
    Options { snapshot_after: 150, keep_entries: 40, ..Options::new(dir, "crash") }
}

/// The victim: proposes without pause and prints every acknowledgement. Not a test of its own: without the
/// variable it does nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn victim() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let group = Group::open(options(Path::new(&dir))).await.unwrap();
    group.wait_ready(Duration::from_secs(20)).await.unwrap();
    let session = group.session().borrow().as_ref().unwrap().epoch;
    let duties = Duty::ALL.map(|duty| group.duty(duty).borrow().unwrap().epoch);
    say(&format!("epochs {session} {} {} {}", duties[0], duties[1], duties[2]));
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let group = group.clone();
            tokio::spawn(async move {
                for entry in 0u64.. {
                    let hash = format!("{session}-{writer}-{entry}");
                    let revision = group.advance_content(None, &hash).await.unwrap();
                    say(&format!("ack {revision} {hash}"));
                }
            })
        })
        .collect();
    futures::future::join_all(writers).await;
}

fn say(line: &str) {
    // One write per line, so that a kill cuts between lines or in the last one.
    std::io::stdout().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

fn start(dir: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

struct Round {
    epochs: Vec<u64>,
    acks: Vec<(u64, String)>,
}

/// Runs a victim, kills it after a while, reads what it had said.
fn run_and_kill(dir: &Path, after: Duration) -> Round {
    let mut child = start(dir);
    let out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut round = Round { epochs: vec![], acks: vec![] };
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["epochs", numbers @ ..] if numbers.len() == 4 => {
                    round.epochs = numbers.iter().map(|number| number.parse().unwrap()).collect();
                }
                ["ack", revision, hash] => round.acks.push((revision.parse().unwrap(), (*hash).to_owned())),
                _ => {}
            }
        }
        round
    });
    std::thread::sleep(after);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut round = reader.join().unwrap();
    // The pipe gives whole writes, but the very last may be cut: it proves nothing then.
    round.acks.pop();
    round
}

/// A small xorshift, so that a failure can be repeated with its seed.
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
fn every_acknowledged_command_survives_kill_9() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = std::env::var("SQUALL_SEED").ok().map_or(now.as_nanos() as u64 | 1, |seed| seed.parse().unwrap());
    println!("SQUALL_SEED={seed}");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut highest, mut total, mut epochs) = (0, 0, vec![0; 4]);
    let began = Instant::now();
    for round in 0..ROUNDS {
        // From within the start to well into the load.
        let said = run_and_kill(dir.path(), Duration::from_millis(10 + random.below(500)));
        let mut acks = said.acks;
        acks.sort_unstable();
        assert!(acks.windows(2).all(|pair| pair[0].0 < pair[1].0), "a revision was acknowledged twice");
        assert!(acks.first().is_none_or(|(first, _)| *first > highest), "a revision was given again");
        total += acks.len();
        highest = acks.last().map_or(highest, |(last, _)| *last);
        if !said.epochs.is_empty() {
            assert!(said.epochs.iter().zip(&epochs).all(|(now, before)| now > before), "epochs must grow");
            epochs = said.epochs;
        }
        runtime.block_on(async {
            let group = Group::open(options(dir.path())).await.unwrap();
            group.wait_ready(Duration::from_secs(20)).await.unwrap();
            let found = group.content_revision().map_or(0, |content| content.revision);
            assert!(found >= highest, "round {round}: revision {highest} was acknowledged, {found} recovered");
            highest = found;
            for (revision, hash) in acks.iter().filter(|(revision, _)| revision + 250 > found) {
                assert_eq!(group.content_at(*revision).as_ref(), Some(hash), "round {round}: revision {revision}");
            }
            let mine = group.session().borrow().as_ref().unwrap().epoch;
            assert!(mine > epochs[0]);
            epochs[0] = mine;
            for (slot, duty) in Duty::ALL.into_iter().enumerate() {
                let epoch = group.duty(duty).borrow().unwrap().epoch;
                assert!(epoch > epochs[slot + 1]);
                epochs[slot + 1] = epoch;
            }
            group.shutdown().await;
        });
    }
    println!("{ROUNDS} kills, {total} acknowledged commands, {:?}", began.elapsed());
    assert!(total > 100, "the victims hardly ran");
}
