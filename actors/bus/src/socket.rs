//! The in-process bus, shared by several processes of one machine over a unix socket: for `farshore demo` and small sites
//! that want real processes and no server. The hub is a [`LocalBus`]; a [`SocketBus`] joins it. The promises are the same
//! as everywhere: bounded queues, nothing waits in publish, what is lost is counted.

use crate::counters::Counters;
use crate::error::check_subject;
use crate::subscription::{BusMessage, Inlet, Subscription, queue};
use crate::{Announcement, Bus, BusError, Link, LocalBus, Service};
use async_trait::async_trait;
use bytes::Bytes;
use farshore_schemas::codec::{self, MAX_MESSAGE};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

/// Frames that wait for a socket's writer.
const QUEUE: usize = 4096;
/// Subject, payload and their names around [`MAX_MESSAGE`].
const MAX_FRAME: usize = MAX_MESSAGE + 4096;
/// Processes that may be joined at once.
const MAX_CONNECTIONS: usize = 256;
/// Subscriptions of one connection.
const MAX_SUBSCRIPTIONS: usize = 1024;
/// Wait before a lost connection is made again.
const RECONNECT: Duration = Duration::from_millis(100);

/// What goes over the socket, each as a length (u32, little-endian) and that many bytes of MessagePack.
#[derive(Debug, Serialize, Deserialize)]
enum Frame {
    Publish {
        subject: String,
        payload: serde_bytes::ByteBuf,
    },
    Subscribe {
        id: u64,
        subscription: String,
    },
    Message {
        id: u64,
        subject: String,
        payload: serde_bytes::ByteBuf,
    },
    /// Answered by the same, once everything sent before it was taken.
    Ping {
        id: u64,
    },
}

async fn read_frame(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Frame> {
    let len = stream.read_u32_le().await? as usize;
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidData, why);
    if len > MAX_FRAME {
        return Err(invalid(format!("a frame of {len} bytes where {MAX_FRAME} are allowed")));
    }
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).await?;
    codec::decode_limited(&bytes, MAX_FRAME).map_err(|error| invalid(error.to_string()))
}

async fn write_frames(mut stream: impl AsyncWriteExt + Unpin, mut frames: mpsc::Receiver<Frame>) -> io::Result<()> {
    let mut group = Vec::with_capacity(64);
    while frames.recv_many(&mut group, 64).await > 0 {
        let mut bytes = Vec::new();
        for frame in group.drain(..) {
            let encoded = codec::encode(&frame);
            let len = u32::try_from(encoded.len()).map_err(io::Error::other)?;
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&encoded);
        }
        stream.write_all(&bytes).await?;
    }
    Ok(())
}

/// A hub that other processes join. Dropping it closes the socket and removes its file.
#[derive(Debug)]
pub struct SocketHub {
    path: PathBuf,
    accept: tokio::task::JoinHandle<()>,
}

impl SocketHub {
    /// Lets processes join `bus` at `path`, which must not exist. Whoever may open the file may speak: put it into a folder
    /// of mode 0700.
    ///
    /// # Errors
    /// [`BusError::Options`] when the socket cannot be made there.
    pub fn serve(bus: LocalBus, path: &Path) -> Result<SocketHub, BusError> {
        let cannot = |error: io::Error| BusError::Options {
            what: format!("the socket {}", path.display()),
            why: error.to_string(),
        };
        let listener = UnixListener::bind(path).map_err(cannot)?;
        let accept = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                while connections.try_join_next().is_some() {}
                match listener.accept().await {
                    Ok((stream, _)) if connections.len() < MAX_CONNECTIONS => {
                        connections.spawn(serve_connection(bus.clone(), stream));
                    }
                    Ok(_) => bus.counters().add(|counts| counts.refused += 1),
                    // Out of file descriptors, say: those who are joined go on, and others may come later.
                    Err(error) => {
                        tracing::warn!(%error, "FS-BUS-SOCKET: a process could not join the bus socket");
                        tokio::time::sleep(RECONNECT).await;
                    }
                }
            }
        });
        Ok(SocketHub { path: path.to_owned(), accept })
    }
}

impl Drop for SocketHub {
    fn drop(&mut self) {
        self.accept.abort();
        let _gone = std::fs::remove_file(&self.path);
    }
}

async fn serve_connection(bus: LocalBus, stream: UnixStream) {
    let (mut reader, writer) = stream.into_split();
    let (out, frames) = mpsc::channel(QUEUE);
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move { drop(write_frames(writer, frames).await) });
    let mut subscriptions = 0;
    loop {
        match read_frame(&mut reader).await {
            Ok(Frame::Publish { subject, payload }) => drop(bus.publish(&subject, Bytes::from(payload.into_vec()))),
            Ok(Frame::Subscribe { id, subscription }) if subscriptions < MAX_SUBSCRIPTIONS => {
                subscriptions += 1;
                let capacity = NonZeroUsize::new(QUEUE).expect("not zero");
                let Ok(listening) = bus.subscribe(&subscription, capacity).await else { continue };
                tasks.spawn(forward(id, listening, out.clone()));
            }
            Ok(Frame::Ping { id }) => drop(out.send(Frame::Ping { id }).await),
            Ok(Frame::Subscribe { .. } | Frame::Message { .. }) => break,
            Err(error) => {
                if error.kind() == io::ErrorKind::InvalidData {
                    bus.counters().add(|counts| counts.undecodable += 1);
                    tracing::warn!(%error, "FS-BUS-SOCKET: a process on the bus socket sent garbage and was cut off");
                }
                break;
            }
        }
    }
}

async fn forward(id: u64, mut listening: Subscription, out: mpsc::Sender<Frame>) {
    while let Some(BusMessage { subject, payload }) = listening.next().await {
        let payload = serde_bytes::ByteBuf::from(payload.to_vec());
        if out.send(Frame::Message { id, subject, payload }).await.is_err() {
            return;
        }
    }
}

/// Who listens in this process, and who waits for a ping.
#[derive(Debug, Default)]
struct Joined {
    inlets: Mutex<BTreeMap<u64, (String, Inlet)>>,
    pings: Mutex<BTreeMap<u64, tokio::sync::oneshot::Sender<()>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process' end of a [`SocketHub`]. A lost connection is made again, with its subscriptions.
#[derive(Debug)]
pub struct SocketBus {
    path: PathBuf,
    out: watch::Receiver<Option<mpsc::Sender<Frame>>>,
    joined: Arc<Joined>,
    next: std::sync::atomic::AtomicU64,
    counters: Arc<Counters>,
    link: watch::Receiver<Link>,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for SocketBus {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl SocketBus {
    /// Joins the hub at `path`, trying for `patience`.
    ///
    /// # Errors
    /// [`BusError::Unreachable`].
    pub async fn connect(path: &Path, patience: Duration) -> Result<SocketBus, BusError> {
        let deadline = tokio::time::Instant::now() + patience;
        let stream = loop {
            match UnixStream::connect(path).await {
                Ok(stream) => break stream,
                Err(error) if tokio::time::Instant::now() >= deadline => {
                    let why = error.to_string();
                    return Err(BusError::Unreachable { servers: path.display().to_string(), waited: patience, why });
                }
                Err(_) => tokio::time::sleep(RECONNECT).await,
            }
        };
        let (out_sender, out) = watch::channel(None);
        let (link_sender, link) = watch::channel(Link { up: false, connects: 0 });
        let joined = Arc::new(Joined::default());
        let keeper = tokio::spawn(keep(path.to_owned(), stream, out_sender, link_sender, Arc::clone(&joined)));
        let mut up = link.clone();
        let _joined = up.wait_for(|link| link.up).await;
        Ok(SocketBus { path: path.to_owned(), out, joined, next: 0.into(), counters: Arc::default(), link, keeper })
    }

    fn send(&self, frame: Frame, what: &str) -> Result<(), BusError> {
        let down = || BusError::Down { what: what.to_owned(), servers: self.path.display().to_string() };
        let out = self.out.borrow();
        match out.as_ref().ok_or_else(down)?.try_send(frame) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => {
                Err(BusError::Full { subject: what.to_owned(), queue: "the bus socket" })
            }
            Err(mpsc::error::TrySendError::Closed(_)) => Err(down()),
        }
    }
}

/// Keeps the connection: reads from it until it is lost, then makes it again.
async fn keep(
    path: PathBuf,
    first: UnixStream,
    out: watch::Sender<Option<mpsc::Sender<Frame>>>,
    link: watch::Sender<Link>,
    known: Arc<Joined>,
) {
    let mut stream = Some(first);
    loop {
        let Some(joined) = stream.take() else {
            tokio::time::sleep(RECONNECT).await;
            stream = UnixStream::connect(&path).await.ok();
            continue;
        };
        let (mut reader, writer) = joined.into_split();
        let (sender, frames) = mpsc::channel(QUEUE);
        let writing = tokio::spawn(async move { drop(write_frames(writer, frames).await) });
        let again: Vec<(u64, String)> = {
            let mut inlets = locked(&known.inlets);
            inlets.retain(|_, (_, inlet)| !inlet.is_gone());
            inlets.iter().map(|(id, (subscription, _))| (*id, subscription.clone())).collect()
        };
        for (id, subscription) in again {
            let _full = sender.send(Frame::Subscribe { id, subscription }).await;
        }
        out.send_replace(Some(sender));
        link.send_modify(|link| *link = Link { up: true, connects: link.connects + 1 });
        while let Ok(frame) = read_frame(&mut reader).await {
            match frame {
                Frame::Message { id, subject, payload } => {
                    if let Some((_, inlet)) = locked(&known.inlets).get(&id) {
                        inlet.offer(BusMessage { subject, payload: Bytes::from(payload.into_vec()) });
                    }
                }
                Frame::Ping { id } => drop(locked(&known.pings).remove(&id).map(|waiting| waiting.send(()))),
                Frame::Publish { .. } | Frame::Subscribe { .. } => break,
            }
        }
        // Whoever waits for a ping of the lost connection learns that it is lost.
        locked(&known.pings).clear();
        writing.abort();
        out.send_replace(None);
        link.send_modify(|link| link.up = false);
    }
}

#[async_trait]
impl Bus for SocketBus {
    fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        let published = check_subject(subject, false).and_then(|()| {
            if payload.len() > MAX_MESSAGE {
                return Err(BusError::TooLarge { subject: subject.to_owned(), len: payload.len(), max: MAX_MESSAGE });
            }
            let payload = serde_bytes::ByteBuf::from(payload.to_vec());
            self.send(Frame::Publish { subject: subject.to_owned(), payload }, subject)
        });
        self.counters.add(|counts| match published {
            Ok(()) => counts.published += 1,
            Err(_) => counts.refused += 1,
        });
        published
    }

    async fn subscribe(&self, subscription: &str, capacity: NonZeroUsize) -> Result<Subscription, BusError> {
        check_subject(subscription, true)?;
        let (inlet, outlet) = queue(capacity, &self.counters);
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        locked(&self.joined.inlets).insert(id, (subscription.to_owned(), inlet));
        self.send(Frame::Subscribe { id, subscription: subscription.to_owned() }, subscription)?;
        // What is published from now on comes in, by whomever: so the hub must have taken it.
        self.flush().await?;
        Ok(outlet)
    }

    async fn flush(&self) -> Result<(), BusError> {
        let id = self.next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let (waiting, answer) = tokio::sync::oneshot::channel();
        locked(&self.joined.pings).insert(id, waiting);
        self.send(Frame::Ping { id }, "a flush")?;
        answer
            .await
            .map_err(|_| BusError::Down { what: "a flush".to_owned(), servers: self.path.display().to_string() })
    }

    fn connected(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    async fn announce(&self, _service: &Service) -> Result<Announcement, BusError> {
        Ok(Announcement { on_drop: None })
    }
}
