//! The same promises, kept by all implementations, and what NATS alone has to keep.

mod contract;
mod nats;

use crate::testing::NatsServer;
use crate::{Bus, BusMessage, LocalBus, NatsBus, NatsOptions, SocketBus, SocketHub, Subscription};
use async_trait::async_trait;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

/// Gives out parties on one bus.
#[async_trait]
trait Rig: Send + Sync {
    async fn party(&self) -> Arc<dyn Bus>;
}

struct InProcess(LocalBus);

#[async_trait]
impl Rig for InProcess {
    async fn party(&self) -> Arc<dyn Bus> {
        Arc::new(self.0.clone())
    }
}

/// The in-process bus, joined over a socket.
struct Socket {
    _hub: SocketHub,
    folder: tempfile::TempDir,
}

impl Socket {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hub = SocketHub::serve(LocalBus::new(), &folder.path().join("bus")).unwrap();
        Socket { _hub: hub, folder }
    }
}

#[async_trait]
impl Rig for Socket {
    async fn party(&self) -> Arc<dyn Bus> {
        let path = self.folder.path().join("bus");
        Arc::new(SocketBus::connect(&path, Duration::from_secs(10)).await.unwrap())
    }
}

#[async_trait]
impl Rig for NatsServer {
    async fn party(&self) -> Arc<dyn Bus> {
        Arc::new(NatsBus::connect(&NatsOptions::new(&self.url(), "test")).await.unwrap())
    }
}

fn room(capacity: usize) -> NonZeroUsize {
    NonZeroUsize::new(capacity).unwrap()
}

/// Ends a test that would hang; no test needs to be this fast or slow.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), what).await.expect("nothing came for a minute")
}

async fn next(subscription: &mut Subscription) -> BusMessage {
    soon(subscription.next()).await.expect("the bus is open")
}
