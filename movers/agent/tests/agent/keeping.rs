//! The repository's agent: it may be encrypted, it may end while a disk is sent to it, and a folder of an older format is
//! refused.

use crate::data::{World, bytes};
use crate::support::*;
use farshore_schemas::messages::agent::{Endpoint, Outcome, TaskSpec};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

fn files_below(root: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(root).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn code(outcome: Outcome) -> String {
    let Outcome::Failed(failure) = outcome else { panic!("{outcome:?}") };
    failure.code
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_repository_shows_nothing_of_a_disk_and_is_restored_from() {
    let mut world = World::encrypted("correct horse\n").await;
    let access = world.access().await;
    world.backup(&access, "p1", None).await;
    let part = noise(1, 4096);
    for file in files_below(&world.at("hq-repo")) {
        assert!(!bytes(&file).windows(part.len()).any(|window| window == part), "{}", file.display());
    }
    let restored = world.restore(&access, "p1", "one").await;
    assert!(matches!(restored, Outcome::DiskRestored { .. }), "{restored:?}");
    assert!(bytes(&world.at("dr-host/one/system.raw")) == bytes(&world.image));
    let verify = TaskSpec::VerifyPoint { repository: name("main"), point: point("p1") };
    assert!(matches!(world.hq.done("keeper", verify).await, Outcome::Verified { damaged: 0, .. }));
    // Who serves the folder without its passphrase is let down, not given an empty repository.
    world.stop_keeper().await;
    std::fs::remove_file(world.at("hq-repo.pass")).unwrap();
    world.start_keeper().await;
    world.hq.serve_repository("keeper", "main", &world.at("hq-repo"));
    let peers = vec![world.source.fingerprint()];
    let refused = world.hq.done("keeper", TaskSpec::OpenAccess { repository: name("main"), peers }).await;
    assert_eq!(code(refused), "FS-REPO-KEY");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_format_0_is_refused_and_left_as_it_is() {
    let world = World::new().await;
    let old = world.at("old");
    std::fs::create_dir(&old).unwrap();
    let header = r#"{"format": 0, "name": "old", "lineage": "00"}"#;
    std::fs::write(old.join("format.json"), header).unwrap();
    world.hq.serve_repository("keeper", "old", &old);
    let peers = vec![world.source.fingerprint()];
    let refused = world.hq.done("keeper", TaskSpec::OpenAccess { repository: name("old"), peers }).await;
    assert_eq!(code(refused), "FS-REPO-OLD-FORMAT");
    assert_eq!(std::fs::read_to_string(old.join("format.json")).unwrap(), header);
}

/// Stands between a mover and the repository's agent. The first connection is held after so many bytes to the agent, and closed
/// when the test says so; all others go through.
struct Between {
    address: String,
    held: tokio::sync::oneshot::Receiver<()>,
    close: tokio::sync::oneshot::Sender<()>,
}

async fn between(agent: SocketAddr, bytes: usize) -> Between {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (told, held) = tokio::sync::oneshot::channel();
    let (close, closed) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut mover, _) = listener.accept().await.unwrap();
        let mut there = TcpStream::connect(agent).await.unwrap();
        let (mut from_mover, mut to_mover) = mover.split();
        let (mut from_there, mut to_there) = there.split();
        let forward = async {
            let (mut buffer, mut left) = (vec![0; 65_536], bytes);
            while left > 0 {
                let most = left.min(buffer.len());
                let count = from_mover.read(&mut buffer[..most]).await.unwrap();
                to_there.write_all(&buffer[..count]).await.unwrap();
                left -= count;
            }
            told.send(()).unwrap();
            let _ = closed.await;
        };
        tokio::select! {
            () = forward => {}
            // It ends when the agent does; the mover is not to know yet.
            () = async {
                let _ = tokio::io::copy(&mut from_there, &mut to_mover).await;
                std::future::pending::<()>().await;
            } => {}
        }
        drop((mover, there));
        while let Ok((mut mover, _)) = listener.accept().await {
            let Ok(mut there) = TcpStream::connect(agent).await else { continue };
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut mover, &mut there).await });
        }
    });
    Between { address, held, close }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_agent_lost_that_ended_in_the_middle_of_a_disk_is_sent_again() {
    let mut world = World::new().await;
    let access = world.access().await;
    let frozen = name("p1");
    let begin = TaskSpec::SnapshotBegin { host: name("lab"), vm: vm("web"), snapshot: frozen.clone() };
    assert!(matches!(world.hq.done("source", begin).await, Outcome::Snapshot { .. }));
    // Its first message of chunks has gone through by then, and waits in a pack that is not whole.
    let Between { address, held, close } = between(world.repository().listening(), 1_600_000).await;
    let TaskSpec::BackupDisk { source, snapshot, target, repository, access: open, point, parent } =
        world.backup_spec(&access, "p1", None)
    else {
        panic!("it makes nothing else");
    };
    let target = Endpoint { address, ..target };
    let spec = TaskSpec::BackupDisk { source, snapshot, target, repository, access: open, point, parent };
    let stored = world.hq.order("source", spec);
    held.await.unwrap();
    world.stop_keeper().await;
    world.start_keeper().await;
    close.send(()).unwrap();
    let stored = world.hq.outcome(&stored).await;
    let Outcome::DiskStored { disk, moved, .. } = stored else { panic!("{stored:?}") };
    assert!(moved.written.0 > 2 << 20, "all of it was sent to the agent that goes on: {moved:?}");
    // What was told to be stored is durable: an agent that ends before the point is made loses nothing of it.
    world.stop_keeper().await;
    world.start_keeper().await;
    world.commit("p1", disk).await;
    let restored = world.restore(&access, "p1", "one").await;
    assert!(matches!(restored, Outcome::DiskRestored { .. }), "{restored:?}");
    assert!(bytes(&world.at("dr-host/one/system.raw")) == bytes(&world.image));
}
