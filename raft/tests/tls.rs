//! Who may speak to whom.
#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests

mod common;

use std::time::Duration;

use common::{Cluster, SOON, eventually, leader, settled};
use raft::{Group, RaftError, TlsFiles, admin, pki};

async fn stop(groups: &[Group]) {
    futures::future::join_all(groups.iter().map(Group::shutdown)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_authorities_and_expired_certificates_are_refused_and_a_name_speaks_for_itself() {
    let cluster = Cluster::new(4);
    let mut groups = Vec::new();
    for node in 0..3 {
        groups.push(cluster.start(node).await);
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    let address = cluster.address(0).to_string();

    // An authority of the same name that isn't ours.
    let foreign = tempfile::tempdir().unwrap();
    let ca = foreign.path().join("ca");
    pki::init_ca(&ca, "test").unwrap();
    pki::issue(&ca, foreign.path(), "n0", &[]).unwrap();
    let files = |ca: std::path::PathBuf| TlsFiles {
        ca,
        cert: foreign.path().join("n0.pem"),
        key: foreign.path().join("n0.key"),
    };
    let error = admin::status(&address, &files(ca.join("ca.pem"))).await.unwrap_err();
    println!("foreign, trusts its own: {error}");
    let error = admin::status(&address, &files(cluster.ca().join("ca.pem"))).await.unwrap_err();
    println!("foreign, trusts ours: {error}");

    // Ours, but over.
    let expired = cluster.expired("n3");
    let error = admin::status(&address, &expired).await.unwrap_err();
    println!("expired: {error}");

    // A node whose certificate names another one doesn't start.
    let mut options = cluster.options(3);
    options.cluster.as_mut().unwrap().tls = cluster.tls(1);
    let error = Group::open(options).await.err().unwrap();
    assert!(matches!(&error, RaftError::Certificate { .. }) && error.to_string().contains("'n1'"), "{error}");

    // Nor does one with the foreign certificate get in.
    let mut options = cluster.options(3);
    pki::issue(&ca, foreign.path(), "n3", &[]).unwrap();
    options.cluster.as_mut().unwrap().tls =
        TlsFiles { ca: ca.join("ca.pem"), cert: foreign.path().join("n3.pem"), key: foreign.path().join("n3.key") };
    let stranger = Group::open(options).await.unwrap();
    assert!(stranger.wait_ready(Duration::from_secs(2)).await.is_err());
    assert_eq!(groups[0].status().members.len(), 3);
    stranger.shutdown().await;
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replaced_certificates_are_used_without_a_restart() {
    let cluster = Cluster::new(3);
    let groups = cluster.start_all().await;
    // A new authority beside the old one, then certificates of the new one: nobody restarts.
    let second = cluster.root.join("ca2");
    pki::init_ca(&second, "test").unwrap();
    let both = std::fs::read_to_string(cluster.ca().join("ca.pem")).unwrap()
        + &std::fs::read_to_string(second.join("ca.pem")).unwrap();
    std::fs::write(cluster.ca().join("ca.pem"), both).unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for node in 0..3 {
        pki::issue(&second, &cluster.path(node), &Cluster::name(node), &[]).unwrap();
    }
    // A client that trusts only the new authority sees when the nodes use it.
    let only_new = TlsFiles { ca: second.join("ca.pem"), ..cluster.tls(0) };
    let began = std::time::Instant::now();
    for node in 0..3 {
        while let Err(error) = admin::status(&cluster.address(node).to_string(), &only_new).await {
            assert!(began.elapsed() < SOON, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    settled(&groups).await;
    stop(&groups).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_with_a_token_and_nothing_else() {
    let cluster = Cluster::new(4);
    let mut groups = Vec::new();
    for node in 0..3 {
        let mut options = cluster.options(node);
        options.cluster.as_mut().unwrap().ca_key = Some(cluster.ca().join("ca.key"));
        groups.push(Group::open(options).await.unwrap());
    }
    for group in &groups {
        group.wait_ready(SOON).await.unwrap();
    }
    leader(&groups).await;
    let dir = cluster.path(3).join("fresh");
    let with = |token: String| {
        let mut options = cluster.options(3);
        let cluster = options.cluster.as_mut().unwrap();
        cluster.tls = TlsFiles { ca: dir.join("ca.pem"), cert: dir.join("n3.pem"), key: dir.join("n3.key") };
        cluster.join_token = Some(token);
        options
    };
    let token = pki::mint_token(&cluster.ca(), Duration::from_secs(60)).unwrap();
    let options = with(token.clone());
    assert!(!format!("{options:?}").contains(&token), "the token is shown");

    // Tokens of others and expired ones get nothing, however long it asks.
    let foreign = tempfile::tempdir().unwrap();
    pki::init_ca(foreign.path(), "test").unwrap();
    let forged = pki::mint_token(foreign.path(), Duration::from_secs(60)).unwrap();
    let expired = pki::mint_token(&cluster.ca(), Duration::from_secs(1)).unwrap();
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    for token in [forged, expired] {
        let opening = tokio::time::timeout(Duration::from_secs(2), Group::open(with(token))).await;
        assert!(opening.is_err() || opening.unwrap().is_err());
        assert!(!dir.join("n3.pem").exists());
    }

    let group = Group::open(options).await.unwrap();
    group.wait_ready(SOON).await.unwrap();
    assert_eq!(std::fs::read(dir.join("ca.pem")).unwrap(), std::fs::read(cluster.ca().join("ca.pem")).unwrap());
    groups.push(group);
    eventually("four members", || (groups[0].status().voters.len() == 4).then_some(())).await;
    stop(&groups).await;
}
