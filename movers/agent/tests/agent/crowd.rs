//! Connections that say nothing keep nobody out.

use crate::data::World;
use crate::support::*;
use farshore_schemas::messages::agent::{Outcome, TaskSpec};
use std::net::SocketAddr;

/// As many as a mover serves at once.
const CROWD: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn a_known_peer_comes_in_while_another_address_holds_connections_open_and_says_nothing() {
    let world = World::new().await;
    let place = world.repository().listening();
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
        crowd.push(socket.connect(place).await.unwrap());
    }
    let turned_away = || world.repository().metrics().counts().crowded_out;
    world.hq.until("the crowd is turned away", |_| (turned_away() > 0).then_some(())).await;
    let access = world.access().await;
    world.backup(&access, "p1", None).await;
    assert_eq!(world.repository().metrics().counts().accepted, 1, "the peer came in at once");
    drop(crowd);
    let verify = TaskSpec::VerifyPoint { repository: name("main"), point: point("p1") };
    let verified = world.hq.done("keeper", verify).await;
    assert!(matches!(verified, Outcome::Verified { damaged: 0, .. }), "{verified:?}");
}
