//! The thread that appends. It takes everything that is queued, checks that each frame is the next one, hands the group to
//! a sink that makes it durable, then calls every `on_durable` in order. After a failure it takes nothing more.

use crate::chain::{Chain, frame_hash};
use crate::group::MAX_GROUP;
use farshore_runtime::log_port::{LogFailure, NewFrame, OnDurable};
use farshore_schemas::frame::RawFrame;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Frames that may wait. An append beyond this waits for the disk.
pub const QUEUE: usize = 16_384;

/// Makes groups durable.
pub(crate) trait Sink: Send + 'static {
    /// Makes the frames of a group durable: all of one lineage, that of `after`. `before` is the chain before its first frame.
    fn commit(&mut self, group: &[NewFrame], before: &Chain, after: &Chain) -> Result<(), LogFailure>;

    /// Called once, at the end.
    fn close(&mut self);
}

enum Job {
    Append(NewFrame, OnDurable),
    Close,
}

/// The sending end of the thread.
pub(crate) struct Appender {
    jobs: SyncSender<Job>,
    durable: Arc<Mutex<Chain>>,
    thread: Option<JoinHandle<()>>,
}

impl Appender {
    /// Starts the thread; `chain` says which frame is next.
    pub(crate) fn start(name: &str, chain: Chain, sink: impl Sink) -> Appender {
        let (jobs, queue) = sync_channel(QUEUE);
        let durable = Arc::new(Mutex::new(chain));
        let mut worker = Worker { queue, sink, chain, durable: Arc::clone(&durable), stopped: false };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || worker.run());
        // Without its thread the log answers every append with `Stopped`: `jobs` has no receiver then.
        if let Err(error) = &thread {
            tracing::error!(%error, "the thread of the log could not be started");
        }
        Appender { jobs, durable, thread: thread.ok() }
    }

    pub(crate) fn append(&self, frame: NewFrame, on_durable: OnDurable) {
        if let Err(refused) = self.jobs.send(Job::Append(frame, on_durable))
            && let Job::Append(_, on_durable) = refused.0
        {
            on_durable(Err(LogFailure::Stopped));
        }
    }

    /// The chain after the last durable frame.
    pub(crate) fn durable(&self) -> Chain {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Appender {
    fn drop(&mut self) {
        let told = self.jobs.send(Job::Close);
        if let (Ok(()), Some(thread)) = (told, self.thread.take())
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the log panicked");
        }
    }
}

struct Worker<S> {
    queue: Receiver<Job>,
    sink: S,
    chain: Chain,
    durable: Arc<Mutex<Chain>>,
    stopped: bool,
}

impl<S: Sink> Worker<S> {
    fn run(&mut self) {
        let mut open = true;
        let mut waiting = None;
        while open {
            let Some(first) = waiting.take().or_else(|| self.queue.recv().ok()) else {
                break;
            };
            let mut group = Group { frames: Vec::new(), callbacks: Vec::new(), bytes: 0, chain: self.chain };
            let mut refused = None;
            let mut job = Some(first);
            while let Some(next) = job.take() {
                match next {
                    Job::Close => open = false,
                    Job::Append(_, on_durable) if self.stopped => on_durable(Err(LogFailure::Stopped)),
                    Job::Append(frame, on_durable) => match group.take(frame, on_durable) {
                        Taken::Yes => job = self.queue.try_recv().ok(),
                        Taken::NextGroup(frame, on_durable) => waiting = Some(Job::Append(frame, on_durable)),
                        Taken::No(failure, on_durable) => refused = Some((failure, on_durable)),
                    },
                }
            }
            self.commit(group);
            if let Some((failure, on_durable)) = refused {
                let failure = if self.stopped { LogFailure::Stopped } else { failure };
                self.stopped = true;
                on_durable(Err(failure));
            }
        }
        self.sink.close();
    }

    fn commit(&mut self, group: Group) {
        if group.frames.is_empty() {
            return;
        }
        let outcome = self.sink.commit(&group.frames, &self.chain, &group.chain);
        match &outcome {
            Ok(()) => {
                self.chain = group.chain;
                *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = self.chain;
            }
            Err(failure) => {
                self.stopped = true;
                tracing::error!(%failure, "the event log stopped: reopen it to recover");
            }
        }
        for on_durable in group.callbacks {
            on_durable(outcome.clone());
        }
    }
}

/// Frames that are made durable together.
struct Group {
    frames: Vec<NewFrame>,
    callbacks: Vec<OnDurable>,
    bytes: u64,
    /// After the last of them.
    chain: Chain,
}

enum Taken {
    Yes,
    /// It begins a group of its own: this one is full, or another lineage begins.
    NextGroup(NewFrame, OnDurable),
    No(LogFailure, OnDurable),
}

impl Group {
    fn take(&mut self, frame: NewFrame, on_durable: OnDurable) -> Taken {
        if frame.seq != self.chain.next {
            return Taken::No(LogFailure::OutOfOrder { found: frame.seq, expected: self.chain.next }, on_durable);
        }
        let unfit =
            |why: String| LogFailure::Io(format!("frame {} was refused before it was written: {why}", frame.seq));
        let raw = match RawFrame::decode(&frame.bytes) {
            Ok((raw, len)) if len == frame.bytes.len() => raw,
            Ok(_) => return Taken::No(unfit("there are bytes after it".to_owned()), on_durable),
            Err(error) => return Taken::No(unfit(error.to_string()), on_durable),
        };
        // A frame of another lineage begins it: the chain goes on, in a new segment.
        let lineage = raw.header.lineage;
        let begins = lineage != self.chain.lineage;
        let full = self.bytes + frame.bytes.len() as u64 > MAX_GROUP / 2;
        if !self.frames.is_empty() && (begins || full) {
            return Taken::NextGroup(frame, on_durable);
        }
        let mut chain = self.chain.in_lineage(lineage);
        if let Err(kind) = chain.check(&raw) {
            return Taken::No(unfit(kind.to_string()), on_durable);
        }
        if frame_hash(&frame.bytes) != frame.hash {
            return Taken::No(unfit("its hash is not the one named".to_owned()), on_durable);
        }
        chain.advance(frame.hash);
        self.chain = chain;
        self.bytes += frame.bytes.len() as u64;
        self.frames.push(frame);
        self.callbacks.push(on_durable);
        Taken::Yes
    }
}
