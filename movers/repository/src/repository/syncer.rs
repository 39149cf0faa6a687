//! A thread that makes finished packs durable while the next ones are filled, so that the disk works beside the processor.

use super::packs::{Finished, pack_path};
use crate::io::Io;
use crate::{Error, Result, Store};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Finished packs that may wait: more would only take memory from the page cache.
const WAITING: usize = 4;

enum Order {
    Finish(Finished),
    /// Answered when everything before is durable.
    Flush(SyncSender<Result<()>>),
}

#[derive(Debug)]
pub(super) struct Syncer {
    orders: Option<SyncSender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    pub(super) fn new(io: Io, root: PathBuf) -> Syncer {
        let (orders, received) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || work(&io, &root, &received));
        Syncer { orders: Some(orders), thread: Some(thread) }
    }

    fn send(&self, order: Order) {
        let orders = self.orders.as_ref().expect("the channel is taken only by drop");
        orders.send(order).expect("the thread ends only when the channel does");
    }

    pub(super) fn finish(&self, pack: Finished) {
        self.send(Order::Finish(pack));
    }

    /// Waits until all finished packs are in place and durable.
    pub(super) fn flush(&self) -> Result<()> {
        let (answer, answered) = sync_channel(1);
        self.send(Order::Flush(answer));
        answered.recv().expect("the thread answers every flush")
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; there is nobody to hand it to.
            let _ = thread.join();
        }
    }
}

fn work(io: &Io, root: &std::path::Path, orders: &Receiver<Order>) {
    // A pack that could not be placed is told to the next flush, once: what names its records must not be committed.
    let mut failed: Option<Error> = None;
    let mut folders = std::collections::BTreeSet::new();
    while let Ok(order) = orders.recv() {
        match order {
            Order::Finish(pack) => {
                match place(io, root, &pack).inspect_err(|_| drop(std::fs::remove_file(&pack.temporary))) {
                    Ok(folder) => {
                        folders.insert(folder);
                    }
                    Err(error) => {
                        tracing::warn!(pack = %pack.id, %error, "a pack could not be made durable");
                        failed.get_or_insert(error);
                    }
                }
            }
            Order::Flush(answer) => {
                let folders = std::mem::take(&mut folders);
                let synced = folders.iter().try_for_each(|folder| io.sync_folder(folder));
                let outcome = failed.take().map_or(synced, Err);
                // Whoever asked may have gone: then nobody counts on the answer.
                let _ = answer.send(outcome);
            }
        }
    }
}

fn place(io: &Io, root: &std::path::Path, pack: &Finished) -> Result<PathBuf> {
    io.sync(&pack.file, &pack.temporary)?;
    let path = pack_path(root, &pack.id);
    let folder = path.parent().expect("a pack lies in a folder").to_owned();
    if !folder.is_dir() {
        io.make_folder(&folder)?;
        io.sync_folder(&root.join("packs"))?;
    }
    io.rename(&pack.temporary, &path)?;
    Ok(folder)
}

/// What a lost pack means to whoever asks for a record of it.
pub(super) fn lost(path: &std::path::Path) -> Error {
    Error::Damage { store: Store::Repository, path: path.to_owned(), why: "the pack is missing".to_owned() }
}
