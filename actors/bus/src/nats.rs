//! The bus over NATS: core publish and subscribe, nothing of JetStream. What is published while there is no connection is
//! refused at once, not hoarded: the channels know what to send again when the link is up.
//!
//! The client's own publish waits when its queue is full, so ours goes through a queue of our own, bounded in messages
//! and in bytes, that one task empties.

use crate::counters::Counters;
use crate::error::check_subject;
use crate::options::NatsOptions;
use crate::subscription::{BusMessage, Inlet, Subscription, Taken, queue};
use crate::{Announcement, Bus, BusError, Link, Service};
use async_nats::service::ServiceExt;
use async_nats::{Client, ConnectError, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use async_trait::async_trait;
use bytes::Bytes;
use farshore_schemas::codec::MAX_MESSAGE;
use futures_util::{FutureExt, StreamExt};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Messages that may wait to be sent.
const OUT_MESSAGES: usize = 4096;
/// Bytes that may wait to be sent.
pub(crate) const OUT_BYTES: usize = 32 * 1024 * 1024;
/// Messages that may wait inside the client; small, since ours is the queue that refuses.
const CLIENT_MESSAGES: usize = 128;
/// Messages that may wait between the client and a subscription's queue: a burst as large as any such queue passes.
const CLIENT_INCOMING: usize = 4096;
/// How long a round trip to the server may take.
const ROUND_TRIP: Duration = Duration::from_secs(10);
/// Pause between attempts at the first connection.
const RETRY: Duration = Duration::from_millis(200);
/// A dead peer is noticed after about two of these.
const PING: Duration = Duration::from_secs(10);

#[derive(Debug)]
struct Outgoing {
    subject: String,
    payload: Bytes,
}

/// The bus over NATS. Its tasks live on the tokio runtime that called [`NatsBus::connect`]; dropping it closes the
/// connection once its subscriptions are dropped too.
#[derive(Debug)]
pub struct NatsBus {
    client: Client,
    servers: String,
    out: mpsc::Sender<Outgoing>,
    out_bytes: Arc<AtomicUsize>,
    link: watch::Receiver<Link>,
    counters: Arc<Counters>,
    tasks: Handle,
}

impl NatsBus {
    /// Connects. When no server answers it is tried again until [`NatsOptions::patience`] is over.
    ///
    /// # Errors
    /// [`BusError::Options`], [`BusError::Unreachable`], [`BusError::Denied`], [`BusError::ServerLimit`].
    pub async fn connect(options: &NatsOptions) -> Result<NatsBus, BusError> {
        let (addresses, servers) = options.addresses()?;
        let (link_tx, mut link) = watch::channel(Link { up: false, connects: 0 });
        let (link_tx, counters) = (Arc::new(link_tx), Arc::new(Counters::default()));
        let started = Instant::now();
        let client = loop {
            let ready = connect_options(options, &addresses, &link_tx, &counters).await?;
            let left = options.patience.saturating_sub(started.elapsed());
            let why = match tokio::time::timeout(left, ready.connect(&addresses[..])).await {
                Ok(Ok(client)) => break client,
                Ok(Err(error)) if is_denial(&error) => {
                    return Err(BusError::Denied { servers, why: chain(&error) });
                }
                Ok(Err(error)) => chain(&error),
                Err(_) => "no answer".to_owned(),
            };
            if started.elapsed() + RETRY >= options.patience {
                return Err(BusError::Unreachable { servers, waited: options.patience, why });
            }
            tokio::time::sleep(RETRY).await;
        };
        let max_payload = client.max_payload();
        if max_payload < MAX_MESSAGE {
            return Err(BusError::ServerLimit { servers, max_payload, needed: MAX_MESSAGE });
        }
        // The event comes by another task, so it may be a little behind the connection itself.
        let up = link.wait_for(|link| link.up).await.map(|link| *link);
        up.map_err(|_| BusError::Down { what: "connecting".into(), servers: servers.clone() })?;
        let (out, outgoing) = mpsc::channel(OUT_MESSAGES);
        let (out_bytes, tasks) = (Arc::new(AtomicUsize::new(0)), Handle::current());
        tasks.spawn(send_all(client.clone(), outgoing, Arc::clone(&out_bytes)));
        Ok(NatsBus { client, servers, out, out_bytes, link, counters, tasks })
    }

    fn down(&self, what: impl Into<String>) -> BusError {
        BusError::Down { what: what.into(), servers: self.servers.clone() }
    }

    fn publish_checked(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        check_subject(subject, false)?;
        // After a reconnect the server may be another one, with another limit.
        let (len, max) = (payload.len(), MAX_MESSAGE.min(self.client.max_payload()));
        if len > max {
            return Err(BusError::TooLarge { subject: subject.to_owned(), len, max });
        }
        if !self.link.borrow().up {
            return Err(self.down(format!("publishing to {subject}")));
        }
        let full = |queue| BusError::Full { subject: subject.to_owned(), queue };
        if self.out_bytes.fetch_add(len, Ordering::Relaxed) + len > OUT_BYTES {
            self.out_bytes.fetch_sub(len, Ordering::Relaxed);
            return Err(full("our queue towards the server"));
        }
        self.out.try_send(Outgoing { subject: subject.to_owned(), payload }).map_err(|refused| {
            self.out_bytes.fetch_sub(len, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => full("our queue towards the server"),
                mpsc::error::TrySendError::Closed(_) => self.down(format!("publishing to {subject}")),
            }
        })
    }

    /// Sends a message to ourselves through the server: when it comes back, the server has handled all that we asked
    /// before. The client's own flush ends when the bytes have left the process.
    async fn round_trip(&self, what: &str) -> Result<(), BusError> {
        let there_and_back = async {
            let inbox = self.client.new_inbox();
            let mut echo = self.client.subscribe(inbox.clone()).await.ok()?;
            self.out.send(Outgoing { subject: inbox, payload: Bytes::new() }).await.ok()?;
            echo.next().await
        };
        match tokio::time::timeout(ROUND_TRIP, there_and_back).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(self.down(what)),
        }
    }
}

#[async_trait]
impl Bus for NatsBus {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        let published = self.publish_checked(subject, payload);
        self.counters.add(|counts| match published {
            Ok(()) => counts.published += 1,
            Err(_) => counts.refused += 1,
        });
        published
    }

    async fn subscribe(&self, subscription: &str, capacity: NonZeroUsize) -> Result<Subscription, BusError> {
        check_subject(subscription, true)?;
        let what = format!("subscribing to {subscription}");
        let asked = tokio::time::timeout(ROUND_TRIP, self.client.subscribe(subscription.to_owned())).await;
        let Ok(Ok(subscriber)) = asked else {
            return Err(self.down(what));
        };
        let (inlet, outlet) = queue(capacity, &self.counters);
        self.tasks.spawn(receive_all(subscriber, inlet));
        self.round_trip(&what).await?;
        Ok(outlet)
    }

    async fn flush(&self) -> Result<(), BusError> {
        self.round_trip("waiting for the server to have everything").await
    }

    fn connected(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    async fn announce(&self, service: &Service) -> Result<Announcement, BusError> {
        let builder = self.client.service_builder().metadata(service.metadata.clone().into_iter().collect());
        let (name, version) = (service.name.clone(), service.version.clone());
        let starting = self.tasks.spawn(async move { builder.start(name, version).await });
        let listed = match tokio::time::timeout(ROUND_TRIP, starting).await {
            Ok(Ok(Ok(listed))) => listed,
            Ok(Ok(Err(error))) => {
                return Err(BusError::Announce { name: service.name.clone(), why: error.to_string() });
            }
            Ok(Err(_)) | Err(_) => return Err(self.down("announcing ourselves")),
        };
        self.round_trip("announcing ourselves").await?;
        // `stop` is async in name only: it ends at its first poll.
        Ok(Announcement { on_drop: Some(Box::new(move || drop(listed.stop().now_or_never()))) })
    }
}

/// Options for one attempt: the client takes them by value and they cannot be cloned.
async fn connect_options(
    options: &NatsOptions,
    addresses: &[ServerAddr],
    link: &Arc<watch::Sender<Link>>,
    counters: &Arc<Counters>,
) -> Result<ConnectOptions, BusError> {
    let (link, counters) = (Arc::clone(link), Arc::clone(counters));
    let mut ready = ConnectOptions::new()
        .name(&options.name)
        .ping_interval(PING)
        .client_capacity(CLIENT_MESSAGES)
        .subscription_capacity(CLIENT_INCOMING)
        .event_callback(move |event| {
            note(&event, &link, &counters);
            std::future::ready(())
        });
    // The client reads neither from a URL by itself; the first URL that bears a login counts, as there is one login only.
    let login = addresses.iter().find_map(|address| Some((address.username()?, address.password())));
    ready = match login {
        Some((user, Some(password))) => ready.user_and_password(user.to_owned(), password.to_owned()),
        Some((token, None)) => ready.token(token.to_owned()),
        None => ready,
    };
    if let Some(path) = &options.credentials {
        ready = ready.credentials_file(path).await.map_err(|error| BusError::Options {
            what: format!("the NATS credentials file {}", path.display()),
            why: error.to_string(),
        })?;
    }
    if let Some(tls) = &options.tls {
        ready = ready.require_tls(true);
        if let Some(path) = &tls.authorities {
            ready = ready.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &tls.identity {
            ready = ready.add_client_certificate(certificate.clone(), key.clone());
        }
    }
    Ok(ready)
}

/// Keeps the link's state by what the client reports.
fn note(event: &Event, link: &watch::Sender<Link>, counters: &Counters) {
    match event {
        Event::Connected => link.send_modify(|link| *link = Link { up: true, connects: link.connects + 1 }),
        Event::Disconnected | Event::Closed => link.send_modify(|link| link.up = false),
        Event::SlowConsumer(_) => counters.add(|counts| counts.dropped += 1),
        Event::LameDuckMode | Event::Draining => tracing::info!(%event, "NATS connection"),
        Event::ServerError(_) | Event::ClientError(_) => tracing::warn!(%event, "NATS connection"),
    }
}

/// Empties the queue of outgoing messages into the client.
async fn send_all(client: Client, mut outgoing: mpsc::Receiver<Outgoing>, waiting: Arc<AtomicUsize>) {
    while let Some(Outgoing { subject, payload }) = outgoing.recv().await {
        let len = payload.len();
        // A refusal here is a loss like any other on the way: the channel sends again.
        if let Err(error) = client.publish(subject, payload).await {
            tracing::debug!(%error, "message lost on the way to the client");
        }
        waiting.fetch_sub(len, Ordering::Relaxed);
    }
}

/// Moves what comes in to the subscription's queue, until either end is gone.
async fn receive_all(mut subscriber: async_nats::Subscriber, inlet: Inlet) {
    loop {
        let message = tokio::select! {
            message = subscriber.next() => message,
            () = inlet.gone() => None,
        };
        let Some(message) = message else { return };
        let offered = BusMessage { subject: message.subject.to_string(), payload: message.payload };
        if inlet.offer(offered) == Taken::Gone {
            return;
        }
    }
}

/// Whether trying again cannot help.
fn is_denial(error: &ConnectError) -> bool {
    match error.kind() {
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => true,
        ConnectErrorKind::ServerParse
        | ConnectErrorKind::Dns
        | ConnectErrorKind::TimedOut
        | ConnectErrorKind::Tls
        | ConnectErrorKind::Io
        | ConnectErrorKind::MaxReconnects => false,
    }
}

/// An error with all its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}
