//! Two threads behind whoever fills packs: one writes what was gathered, past the page cache where it can, the other makes
//! finished packs durable while the next ones are written, so that the disk works beside the processor.
//!
//! A pack that could not be written or placed is told to the next flush, once: what names its records must not be committed.

use super::packs::{Gathered, PackFile, pack_path};
use crate::io::Io;
use crate::{Error, Result, Store};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// Gathered parts that may wait to be written, a MiB each.
const PARTS: usize = 4;
/// Finished packs that may wait: where they are in the page cache, more would only take memory from it.
const WAITING: usize = 4;

/// What the first thread is to do.
enum Order {
    /// Write bytes of a pack at their offset.
    Write(Arc<PackFile>, Gathered, u64),
    /// All of it was handed over.
    Finish(Arc<PackFile>),
    /// Answered when everything before is durable.
    Flush(SyncSender<Result<()>>),
}

/// What the second thread is to do.
enum Placing {
    Place(Arc<PackFile>),
    /// It could not be written.
    Failed(Arc<PackFile>, Error),
    Flush(SyncSender<Result<()>>),
}

#[derive(Debug)]
pub(super) struct Syncer {
    orders: Option<SyncSender<Order>>,
    threads: Vec<JoinHandle<()>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// A pack failed and no flush has told yet.
    trouble: AtomicBool,
    /// Memory of parts that were written.
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Syncer {
    pub(super) fn new(io: Io, root: PathBuf) -> Syncer {
        let (orders, received) = sync_channel(PARTS);
        let (placings, finished) = sync_channel(WAITING);
        let shared = Arc::new(Shared::default());
        let (ours, theirs, place_io) = (shared.clone(), shared.clone(), io.clone());
        let threads = vec![
            std::thread::spawn(move || write(&io, &ours, (&received, &placings))),
            std::thread::spawn(move || place_all((&place_io, &root), &theirs, &finished)),
        ];
        Syncer { orders: Some(orders), threads, shared }
    }

    fn send(&self, order: Order) {
        let orders = self.orders.as_ref().expect("the channel is taken only by drop");
        orders.send(order).expect("the thread ends only when the channel does");
    }

    /// Has bytes of a pack written at their offset.
    pub(super) fn write(&self, pack: &Arc<PackFile>, bytes: Gathered, offset: u64) {
        self.send(Order::Write(pack.clone(), bytes, offset));
    }

    /// Has a pack that is written put into its place.
    pub(super) fn finish(&self, pack: Arc<PackFile>) {
        self.send(Order::Finish(pack));
    }

    /// Waits until all finished packs are in place and durable.
    pub(super) fn flush(&self) -> Result<()> {
        let (answer, answered) = sync_channel(1);
        self.send(Order::Flush(answer));
        answered.recv().expect("the thread answers every flush")
    }

    /// Whether the next flush will tell of a pack that failed.
    pub(super) fn in_trouble(&self) -> bool {
        self.shared.trouble.load(Ordering::Acquire)
    }

    /// Memory of a part that was written, if there is any.
    pub(super) fn used_memory(&self) -> Option<Vec<u8>> {
        self.shared.memory.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.orders = None;
        for thread in self.threads.drain(..) {
            // A panic there has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

fn write(io: &Io, shared: &Shared, (orders, placings): (&Receiver<Order>, &SyncSender<Placing>)) {
    // Why the pack that is being written cannot be.
    let mut failed: Option<Error> = None;
    while let Ok(order) = orders.recv() {
        let placing = match order {
            Order::Write(pack, bytes, offset) => {
                if failed.is_none() {
                    let file = (&pack.file, &pack.direct);
                    failed = io.write_direct(file, &pack.temporary, bytes.bytes(), offset).err();
                }
                if failed.is_some() {
                    shared.trouble.store(true, Ordering::Release);
                }
                shared.memory.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes.memory());
                continue;
            }
            Order::Finish(pack) => match failed.take() {
                Some(error) => Placing::Failed(pack, error),
                None => Placing::Place(pack),
            },
            Order::Flush(answer) => Placing::Flush(answer),
        };
        // It ends only when this thread has.
        if placings.send(placing).is_err() {
            return;
        }
    }
}

fn place_all((io, root): (&Io, &Path), shared: &Shared, placings: &Receiver<Placing>) {
    let mut failed: Option<Error> = None;
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    let mut synced = false;
    while let Ok(placing) = placings.recv() {
        let (pack, placed) = match placing {
            Placing::Place(pack) => {
                let placed = place(io, root, (&pack, &mut synced));
                (pack, placed)
            }
            Placing::Failed(pack, error) => (pack, Err(error)),
            Placing::Flush(answer) => {
                let folders = std::mem::take(&mut folders);
                let synced = folders.iter().try_for_each(|folder| io.sync_folder(folder));
                shared.trouble.store(false, Ordering::Release);
                // Whoever asked may have gone: then nobody counts on the answer.
                let _ = answer.send(failed.take().map_or(synced, Err));
                continue;
            }
        };
        match placed {
            Ok(folder) => {
                folders.insert(folder);
            }
            Err(error) => {
                tracing::warn!(pack = %pack.id, %error, "a pack could not be made durable");
                // What is left of it would only take space from a disk that may be full; opening the repository deletes it too.
                io.discard(&pack.temporary);
                shared.trouble.store(true, Ordering::Release);
                failed.get_or_insert(error);
            }
        }
    }
}

fn place(io: &Io, root: &Path, (pack, synced): (&PackFile, &mut bool)) -> Result<PathBuf> {
    io.sync(&pack.file, &pack.temporary)?;
    let path = pack_path(root, &pack.id);
    let folder = path.parent().expect("a pack lies in a folder").to_owned();
    // The first time whatever is there: who made a folder may have been killed before its name was durable.
    if !folder.is_dir() || !*synced {
        io.make_folder(&folder)?;
        io.sync_folder(&root.join("packs"))?;
        *synced = true;
    }
    io.rename(&pack.temporary, &path)?;
    Ok(folder)
}

/// What a lost pack means to whoever asks for a record of it.
pub(super) fn lost(path: &Path) -> Error {
    Error::Damage { store: Store::Repository, path: path.to_owned(), why: "the pack is missing".to_owned() }
}
