//! The accepting end of the data channel. Who connects proves a certificate; if no open order names it, the connection
//! is closed before anything of it is read. A wrong peer or garbage costs that connection only.

use crate::link::{Link, LinkError};
use crate::proto::{Answer, Hello, VERSION, Wants};
use crate::repository_service;
use crate::runners;
use crate::shared::{Phase, Shared};
use crate::stop::{Stop, Told};
use crate::task::failure;
use farshore_schemas::messages::agent::{Failure, Outcome};
use rustls::ServerConfig;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections served at once, of peers that are known; more are closed at once and counted.
const MOST: usize = 64;
/// Connections at once whose peer has not said who it is. Apart from those that are served, so that nobody who only holds
/// connections open keeps a known peer out.
const GREETING: usize = 64;
/// Of these, from one address: the others' peers get in while one address fills its share.
const GREETING_FROM_ONE: usize = 16;
/// How long a receiving task waits for its sender before it fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15 * 60);

/// The listening thread and those of the connections.
pub(crate) struct Listener {
    address: SocketAddr,
    stop: Arc<Stop>,
    thread: JoinHandle<()>,
    connections: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

struct Door {
    shared: Arc<Shared>,
    config: Arc<ServerConfig>,
    stop: Arc<Stop>,
    inside: AtomicUsize,
    /// Connections that are in their greeting, by where they come from.
    greeting: Mutex<BTreeMap<IpAddr, usize>>,
}

/// A connection's place among those in their greeting, as long as this lives.
struct Greeting {
    door: Arc<Door>,
    from: IpAddr,
}

impl Drop for Greeting {
    fn drop(&mut self) {
        let mut greeting = self.door.greeting();
        if let Some(count) = greeting.get_mut(&self.from) {
            *count -= 1;
            if *count == 0 {
                greeting.remove(&self.from);
            }
        }
    }
}

/// A connection's place among those that are served, as long as this lives.
struct Inside<'a>(&'a Door);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Door {
    fn greeting(&self) -> MutexGuard<'_, BTreeMap<IpAddr, usize>> {
        self.greeting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn greet(self: &Arc<Self>, from: IpAddr) -> Option<Greeting> {
        let mut greeting = self.greeting();
        let room = greeting.values().sum::<usize>() < GREETING;
        let count = greeting.entry(from).or_default();
        if !room || *count >= GREETING_FROM_ONE {
            if *count == 0 {
                greeting.remove(&from);
            }
            return None;
        }
        *count += 1;
        Some(Greeting { door: self.clone(), from })
    }

    fn enter(&self) -> Option<Inside<'_>> {
        let inside = Inside(self);
        (self.inside.fetch_add(1, Ordering::SeqCst) < MOST).then_some(inside)
    }
}

impl Listener {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        config: Arc<ServerConfig>,
        listener: TcpListener,
    ) -> std::io::Result<Listener> {
        let address = listener.local_addr()?;
        let stop = Arc::new(Stop::default());
        let connections: Arc<Mutex<Vec<JoinHandle<()>>>> = Arc::default();
        let door = Arc::new(Door {
            shared: shared.clone(),
            config,
            stop: stop.clone(),
            inside: AtomicUsize::new(0),
            greeting: Mutex::default(),
        });
        let threads = connections.clone();
        let thread =
            std::thread::Builder::new().name("data-listen".into()).spawn(move || listen(&door, &listener, &threads))?;
        Ok(Listener { address, stop, thread, connections })
    }

    /// Closes every connection and ends the threads.
    pub(crate) fn close(self) {
        self.stop.tell(Told::Closing);
        // The thread waits in accept: this wakes it. If it cannot be reached it has ended already.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        let _ = self.thread.join();
        let connections = std::mem::take(&mut *self.connections.lock().unwrap_or_else(PoisonError::into_inner));
        for connection in connections {
            let _ = connection.join();
        }
    }
}

fn listen(door: &Arc<Door>, listener: &TcpListener, threads: &Mutex<Vec<JoinHandle<()>>>) {
    loop {
        let accepted = listener.accept();
        if door.stop.told().is_some() {
            return;
        }
        let (socket, from) = match accepted {
            Ok((socket, from)) => (socket, from.ip()),
            Err(error) => {
                // Out of descriptors, most likely: it gets better when connections end.
                tracing::warn!(%error, "a data channel could not be accepted");
                if door.stop.wait(Duration::from_millis(100)) {
                    return;
                }
                continue;
            }
        };
        let mut threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        let Some(greeting) = door.greet(from) else {
            door.shared.metrics.add_crowded_out(1);
            continue;
        };
        let inside = door.clone();
        let spawned = std::thread::Builder::new().name("data-serve".into()).spawn(move || {
            let served = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| serve(&inside, socket, greeting)));
            if served.is_err() {
                tracing::error!("serving a data channel panicked; the channel was closed");
            }
        });
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(_) => door.shared.metrics.add_crowded_out(1),
        }
    }
}

fn serve(door: &Door, socket: TcpStream, greeting: Greeting) {
    let shared = &door.shared;
    let from = socket.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    match converse(door, socket, greeting) {
        Ok(()) | Err(LinkError::Closed | LinkError::Idle) => {}
        Err(error @ (LinkError::Handshake(_) | LinkError::TooLong(_) | LinkError::Garbage(_))) => {
            shared.metrics.add_garbage(1);
            tracing::warn!(%from, %error, "a data channel was closed");
        }
        Err(error @ (LinkError::Io(_) | LinkError::Address(_))) => {
            tracing::debug!(%from, %error, "a data channel broke");
        }
    }
}

fn converse(door: &Door, socket: TcpStream, greeting: Greeting) -> Result<(), LinkError> {
    let shared = &door.shared;
    let mut link = Link::accept(door.config.clone(), socket, &shared.metrics, &door.stop)?;
    if !shared.expects(&link.peer()) {
        shared.metrics.add_refused_peers(1);
        tracing::info!(peer = %link.peer(), "a data channel was closed: no open order names its peer");
        return Ok(());
    }
    let hello: Hello = link.receive()?;
    link.greeted()?;
    drop(greeting);
    let Some(_inside) = door.enter() else {
        shared.metrics.add_crowded_out(1);
        return Ok(());
    };
    shared.metrics.add_accepted(1);
    if hello.version != VERSION {
        let message = format!("the other end speaks version {} of the data channel, this one {VERSION}", hello.version);
        let failed = failure("FS-AGENT-VERSION", message, "bring both agents to the same version", false);
        return link.send(&Answer::Failed(failed));
    }
    match hello.wants {
        Wants::Receiver { task } => runners::serve_sender(shared, &mut link, &task),
        Wants::Log { task } => {
            link.send(&Answer::Failed(not_open(format!("the log for {task} is served by the control"))))
        }
        Wants::Repository { repository, access } => {
            let peer = link.peer();
            let open = shared
                .tables()
                .accesses
                .get(&access)
                .is_some_and(|(name, peers)| *name == repository && peers.contains(&peer));
            if open {
                return repository_service::serve(shared, &mut link, &repository, &access);
            }
            link.send(&Answer::Failed(not_open(format!("access {access} to repository {repository} is not open"))))
        }
    }
}

fn not_open(message: String) -> Failure {
    failure("FS-AGENT-NOT-OPEN", message, "wait until it is, or order it again", true)
}

/// Receiving tasks whose sender never came, with their end; forgets those that are long done.
pub(crate) fn sweep(shared: &Shared, now: Instant) {
    let mut late = Vec::new();
    shared.tables().receiving.retain(|task, receiving| match receiving.phase {
        Phase::Busy => true,
        Phase::Done { at, .. } => now.duration_since(at) < PATIENCE,
        Phase::Waiting(since) if now.duration_since(since) < PATIENCE => true,
        Phase::Waiting(_) => {
            late.push(task.clone());
            false
        }
    });
    for task in late {
        let message = format!("no sender came for task {task} within {} minutes", PATIENCE.as_secs() / 60);
        let failed =
            failure("FS-AGENT-NO-SENDER", message, "look why the sending agent failed, then run it again", true);
        (shared.ended)(task, vec![Outcome::Failed(failed)]);
    }
}
