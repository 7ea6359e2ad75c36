//! Crashes, power cuts, and two who want the same cluster.

use tercet_database::cluster::ClusterError;

use crate::server::{self, Server, connect, value};

#[tokio::test(flavor = "local")]
async fn what_was_committed_survives_a_crash_and_a_power_cut() {
    let mut server = Server::start().await;
    let owner = connect(server.owner()).await;
    owner.simple_query("create table kept (id int); insert into kept values (7)").await.unwrap();

    // The postmaster is killed while a session is open: its other processes are orphans for a while.
    server.crash().await;
    server.restart().await;
    drop(owner);
    let owner = connect(server.owner()).await;
    assert_eq!(value(&owner, "select id from kept").await, "7");
    drop(owner);

    // After a power cut the process id in the lock file belongs to another process: here, this test.
    server.crash().await;
    let data = data(&server);
    let lock = std::fs::read_to_string(data.join("postmaster.pid")).unwrap();
    let (_, rest) = lock.split_once('\n').unwrap();
    std::fs::write(data.join("postmaster.pid"), format!("{}\n{rest}", std::process::id())).unwrap();
    server.restart().await;
    let owner = connect(server.owner()).await;
    assert_eq!(value(&owner, "select id from kept").await, "7");
}

#[tokio::test(flavor = "local")]
async fn a_cluster_has_one_master_and_an_interrupted_initdb_is_begun_again() {
    let folder = server::folder();
    let cluster = server::open(folder.path()).unwrap();
    let error = server::open(folder.path()).unwrap_err();
    assert!(matches!(error, ClusterError::InUse(_)), "{error}");

    let place = std::fs::canonicalize(folder.path().join("postgresql")).unwrap();
    std::fs::create_dir(place.join("data.new")).unwrap();
    std::fs::write(place.join("data.new/base"), "half a cluster").unwrap();
    assert_eq!(cluster.major(), None);
    cluster.initialise(&server::installation()).await.unwrap();
    assert_eq!(cluster.major(), Some(server::installation().version.major));
    assert!(!place.join("data.new").exists());

    drop(cluster);
    server::open(folder.path()).unwrap();
}

fn data(server: &Server) -> std::path::PathBuf {
    std::fs::canonicalize(server.folder().join("postgresql")).unwrap().join("data")
}
