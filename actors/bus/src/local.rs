//! The bus inside one process: a router with a bounded queue per subscription. Messages are bytes here too, so that what
//! runs in one process has been encoded and decoded like everything else.

use crate::counters::Counters;
use crate::error::check_subject;
use crate::subscription::{BusMessage, Inlet, Subscription, Taken, queue};
use crate::{Announcement, Bus, BusError, Link, Service};
use async_trait::async_trait;
use bytes::Bytes;
use farshore_schemas::codec::MAX_MESSAGE;
use farshore_schemas::subjects;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;

/// Who listens. Most subscriptions name one inbox, so those are looked up and only the rest are matched one by one.
#[derive(Debug, Default)]
struct Routes {
    exact: BTreeMap<String, Vec<Inlet>>,
    wild: Vec<(String, Inlet)>,
}

/// The bus of one process. Clones share it.
#[derive(Debug, Clone)]
pub struct LocalBus {
    routes: Arc<RwLock<Routes>>,
    counters: Arc<Counters>,
    link: Arc<watch::Sender<Link>>,
}

impl Default for LocalBus {
    fn default() -> Self {
        Self::new()
    }
}

impl LocalBus {
    /// A bus with nobody on it.
    pub fn new() -> Self {
        Self {
            routes: Arc::default(),
            counters: Arc::default(),
            link: Arc::new(watch::Sender::new(Link { up: true, connects: 1 })),
        }
    }

    /// Hands a message to everyone who listens; whether all had room.
    fn route(&self, subject: &str, payload: &Bytes) -> bool {
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let exact = routes.exact.get(subject).into_iter().flatten();
        let wild = routes.wild.iter().filter(|(subscription, _)| subjects::matches(subscription, subject));
        let mut room = true;
        for inlet in exact.chain(wild.map(|(_, inlet)| inlet)) {
            let message = BusMessage { subject: subject.to_owned(), payload: payload.clone() };
            room &= inlet.offer(message) != Taken::Dropped;
        }
        room
    }

    fn publish_checked(&self, subject: &str, payload: &Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        if payload.len() > MAX_MESSAGE {
            return Err(BusError::TooLarge { subject: subject.to_owned(), len: payload.len(), max: MAX_MESSAGE });
        }
        if self.route(subject, payload) {
            Ok(())
        } else {
            Err(BusError::Full { subject: subject.to_owned(), queue: "a receiver's queue" })
        }
    }
}

#[async_trait]
impl Bus for LocalBus {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        let published = self.publish_checked(subject, &payload);
        self.counters.add(|counts| match published {
            Ok(()) => counts.published += 1,
            Err(_) => counts.refused += 1,
        });
        published
    }

    async fn subscribe(&self, subscription: &str, capacity: NonZeroUsize) -> Result<Subscription, BusError> {
        check_subject(subscription, true)?;
        let (inlet, outlet) = queue(capacity, &self.counters);
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        // Those who left are swept out when somebody comes, so that the table never outgrows the listeners of one moment.
        routes.exact.retain(|_, inlets| {
            inlets.retain(|inlet| !inlet.is_gone());
            !inlets.is_empty()
        });
        routes.wild.retain(|(_, inlet)| !inlet.is_gone());
        if subscription.contains(['*', '>']) {
            routes.wild.push((subscription.to_owned(), inlet));
        } else {
            routes.exact.entry(subscription.to_owned()).or_default().push(inlet);
        }
        Ok(outlet)
    }

    async fn flush(&self) -> Result<(), BusError> {
        Ok(())
    }

    fn connected(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    async fn announce(&self, _service: &Service) -> Result<Announcement, BusError> {
        Ok(Announcement { on_drop: None })
    }
}
