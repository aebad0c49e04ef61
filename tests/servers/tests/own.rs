//! The servers start, die, come back under the same address, and leave nothing behind.

use servers::{Mongo, Postgres, Rabbit, RabbitCluster, Redis, ReplicaSet, ZooKeeper, shared};

fn can_start(variable: &str) -> bool {
    shared::address(variable).is_some()
}

#[test]
fn a_replica_set_elects_another_primary() {
    if !can_start(shared::MONGODB) {
        return;
    }
    let mut set = ReplicaSet::private(3).unwrap();
    let first = set.wait_for_primary().unwrap();
    set.members[first].process.kill().unwrap();
    let second = set.wait_for_primary().unwrap();
    assert_ne!(first, second);
    set.members[first].start().unwrap();
    assert!(set.members.iter().all(|member: &Mongo| member.process.pid().is_some()));
}

#[test]
fn a_killed_server_comes_back_under_its_address() {
    if !can_start(shared::POSTGRES) {
        return;
    }
    let mut redis = Redis::private().unwrap();
    let address = redis.address();
    assert_eq!(redis.command("SET a 1").unwrap(), "+OK");
    redis.process.kill().unwrap();
    redis.start().unwrap();
    assert_eq!(redis.address(), address);
    assert_eq!(redis.command("GET a").unwrap(), "$-1", "it keeps nothing");

    let mut postgres = Postgres::private().unwrap();
    let (url, dir) = (postgres.url(), postgres.process.dir().to_owned());
    postgres.stop_fast().unwrap();
    postgres.start().unwrap();
    assert_eq!(postgres.url(), url);
    drop(postgres);
    assert!(!dir.exists());

    let mut zookeeper = ZooKeeper::private().unwrap();
    zookeeper.process.pause().unwrap();
    zookeeper.process.resume().unwrap();
    zookeeper.process.kill().unwrap();
    zookeeper.start().unwrap();
}

#[test]
fn brokers_restart_and_form_clusters() {
    if !can_start(shared::RABBITMQ) {
        return;
    }
    let mut broker = Rabbit::private().unwrap();
    assert!(broker.ctl(&["list_connections"]).is_ok());
    broker.process.kill().unwrap();
    broker.start().unwrap();
    drop(broker);
    let cluster = RabbitCluster::private(3).unwrap();
    let status = cluster.brokers[2].ctl(&["cluster_status", "--formatter", "json"]).unwrap();
    for broker in &cluster.brokers {
        assert!(status.contains(broker.name()), "{status}");
    }
}
