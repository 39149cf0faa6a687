//! The view: `key -> bytes` for everything that can be rebuilt from the log, in sled, with the seq that it reflects. sled
//! does not promise to survive a power cut, so nothing here is believed: each value carries its crc, and the seq carries
//! the hash of its frame, which must be the log's. At the slightest doubt the view is moved aside and made anew, and the
//! caller folds the log into it; nobody is asked.

use crate::error::LogError;
use crate::folder::log_dir;
use crate::header::array;
use crate::hint;
use crate::log::Lost;
use crate::read::ReadLog;
use farshore_schemas::ids::{Digest, Seq};
use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Updates that may wait for the view's thread. More of them wait for it.
const QUEUE: usize = 4096;
/// Updates that are written in one batch at most.
const COALESCE: usize = 1024;
const CACHE_BYTES: u64 = 32 << 20;
/// How long the file of a view that was just closed is waited for.
const LET_GO: Duration = Duration::from_secs(5);

/// Entries have keys with this prefix, so that they cannot be taken for the mark.
const ENTRY: u8 = b'e';
const APPLIED: &[u8] = b"applied";

/// What changes with a frame: a value, or its removal.
pub type Change = (String, Option<Vec<u8>>);

/// A view, opened.
pub enum ViewState {
    /// It is what it was. It may be behind the log: fold the frames after [`View::applied`] into it.
    Ready(View),
    /// There was none, or none that could be trusted. It is empty now: fold a baseline or the whole log into it.
    Rebuild {
        /// The new, empty view.
        view: View,
        /// What was wrong with the old one.
        why: String,
        /// It reflected frames that the log no longer has: they had been acknowledged and are lost. The log notes it.
        lost: Option<Lost>,
    },
}

impl ViewState {
    /// The view, in either case.
    pub fn into_view(self) -> View {
        match self {
            ViewState::Ready(view) | ViewState::Rebuild { view, .. } => view,
        }
    }
}

enum Job {
    Apply { seq: Seq, hash: Digest, changes: Vec<Change> },
    Flush(SyncSender<()>),
}

/// The view of a site. Values are read as of the last batch that was written; [`View::flush`] waits for all of them.
pub struct View {
    db: sled::Db,
    jobs: Option<SyncSender<Job>>,
    failed: Arc<Mutex<Option<String>>>,
    thread: Option<JoinHandle<()>>,
    opened_at: (Seq, Digest),
}

impl View {
    /// Opens the view in `DIR/view` and holds it against the log.
    ///
    /// # Errors
    /// [`LogError`] only when no new view can be made, or the log cannot be read.
    pub fn open(dir: &Path, log: &dyn ReadLog) -> Result<ViewState, LogError> {
        let path = dir.join("view");
        if !path.exists() {
            return View::anew(&path, "there is no view yet".to_owned(), None);
        }
        match checked(&path) {
            Ok((db, applied)) => match disagreement(applied, log)? {
                None => Ok(ViewState::Ready(View::start(db, applied, &path)?)),
                Some(why) => {
                    drop(db);
                    View::anew(&path, why, note_lost(dir, applied, log)?)
                }
            },
            Err(why) => View::anew(&path, why, None),
        }
    }

    /// Opens the view in `DIR/view` for a look: one that cannot be trusted stays where it is.
    ///
    /// # Errors
    /// Why it cannot be trusted.
    pub fn look(dir: &Path, log: &dyn ReadLog) -> Result<View, String> {
        let path = dir.join("view");
        let (db, applied) = checked(&path)?;
        match disagreement(applied, log).map_err(|error| error.to_string())? {
            None => View::start(db, applied, &path).map_err(|error| error.to_string()),
            Some(why) => Err(why),
        }
    }

    /// The frame that the view in `DIR/view` reflects, if there is one that can be read. Nobody else may have it open.
    pub fn reflects(dir: &Path) -> Option<(Seq, Digest)> {
        let path = dir.join("view");
        if path.exists() { checked(&path).ok().map(|(_, applied)| applied) } else { None }
    }

    /// Moves what there is aside and begins with an empty view, for a rebuild that an operator asked for.
    ///
    /// # Errors
    /// [`LogError::Io`].
    pub fn rebuild(dir: &Path, log: &dyn ReadLog) -> Result<ViewState, LogError> {
        let path = dir.join("view");
        let applied = if path.exists() { checked(&path).map(|(_, applied)| applied).ok() } else { None };
        let lost = applied.map(|applied| note_lost(dir, applied, log)).transpose()?.flatten();
        View::anew(&path, "a rebuild was asked for".to_owned(), lost)
    }

    fn anew(path: &Path, why: String, lost: Option<Lost>) -> Result<ViewState, LogError> {
        tracing::info!(view = %path.display(), %why, "the view is made anew from the log");
        put_aside(path)?;
        let db = guarded(|| open_db(path))
            .and_then(|opened| opened.map_err(|error| error.to_string()))
            .map_err(|why| LogError::io("make the view in", path)(std::io::Error::other(why)))?;
        Ok(ViewState::Rebuild { view: View::start(db, (Seq(0), Digest::default()), path)?, why, lost })
    }

    fn start(db: sled::Db, opened_at: (Seq, Digest), path: &Path) -> Result<View, LogError> {
        let (jobs, queue) = sync_channel(QUEUE);
        let failed = Arc::new(Mutex::new(None));
        let worker = Worker { db: db.clone(), queue, failed: Arc::clone(&failed) };
        let thread = std::thread::Builder::new()
            .name("view".to_owned())
            .spawn(move || worker.run())
            .map_err(LogError::io("start a thread for", path))?;
        Ok(View { db, jobs: Some(jobs), failed, thread: Some(thread), opened_at })
    }

    /// What the view reflected when it was opened: fold from the frame after it.
    pub fn opened_at(&self) -> (Seq, Digest) {
        self.opened_at
    }

    /// What the view reflects now: the last batch written.
    pub fn applied(&self) -> (Seq, Digest) {
        guarded(|| applied(&self.db)).and_then(|read| read).unwrap_or(self.opened_at)
    }

    /// Queues what a frame has changed. Returns at once unless the queue is full; then it waits for the view's thread.
    /// Seqs must rise; frames that change nothing may be left out.
    pub fn apply(&self, seq: Seq, hash: Digest, changes: Vec<Change>) {
        self.send(Job::Apply { seq, hash, changes });
    }

    /// Waits until everything queued is written. (Written, not durable: what a power cut takes is folded again.)
    pub fn flush(&self) {
        let (reply, done) = sync_channel(1);
        self.send(Job::Flush(reply));
        let _ = done.recv();
    }

    /// Why the view takes nothing more, if that is so. The site goes on without it; the next start rebuilds or catches up.
    pub fn failure(&self) -> Option<String> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// One value; none also when it cannot be trusted.
    pub fn get(&self, key: &str) -> Option<Vec<u8>> {
        let stored = guarded(|| self.db.get(entry_key(key))).ok()?.ok()??;
        value_of(&entry_key(key), &stored).map(<[u8]>::to_vec)
    }

    /// Every entry.
    ///
    /// # Errors
    /// What is wrong, in words; the view is then to be rebuilt.
    pub fn entries(&self) -> Result<BTreeMap<String, Vec<u8>>, String> {
        guarded(|| entries(&self.db)).and_then(|read| read)
    }

    fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs
            && jobs.send(job).is_err()
        {
            fail(&self.failed, "its thread has ended".to_owned());
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the view panicked");
        }
    }
}

struct Worker {
    db: sled::Db,
    queue: Receiver<Job>,
    failed: Arc<Mutex<Option<String>>>,
}

impl Worker {
    fn run(&self) {
        while let Ok(first) = self.queue.recv() {
            let mut flushes = Vec::new();
            let mut values: BTreeMap<String, Option<Vec<u8>>> = BTreeMap::new();
            let mut reached = None;
            let mut job = Some(first);
            let mut taken = 0;
            while let Some(next) = job.take() {
                match next {
                    Job::Apply { seq, hash, changes } => {
                        values.extend(changes);
                        reached = Some((seq, hash));
                    }
                    Job::Flush(reply) => flushes.push(reply),
                }
                taken += 1;
                job = if taken < COALESCE { self.queue.try_recv().ok() } else { None };
            }
            if let Some(reached) = reached {
                self.write(&values, reached);
            }
            flushes.iter().for_each(|reply| _ = reply.send(()));
        }
        let flushed = guarded(|| self.db.flush()).and_then(|flushed| flushed.map_err(|error| error.to_string()));
        if let Err(why) = flushed {
            fail(&self.failed, why);
        }
    }

    /// Values and mark in one batch.
    fn write(&self, values: &BTreeMap<String, Option<Vec<u8>>>, (seq, hash): (Seq, Digest)) {
        if self.failed.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return;
        }
        let mut batch = sled::Batch::default();
        for (key, value) in values {
            let key = entry_key(key);
            match value {
                Some(value) => batch.insert(key.as_slice(), stored(&key, value)),
                None => batch.remove(key.as_slice()),
            }
        }
        let mut mark = [0; 40];
        mark[..8].copy_from_slice(&seq.0.to_le_bytes());
        mark[8..].copy_from_slice(&hash.0);
        batch.insert(APPLIED, stored(APPLIED, &mark));
        let written =
            guarded(|| self.db.apply_batch(batch)).and_then(|applied| applied.map_err(|error| error.to_string()));
        if let Err(why) = written {
            fail(&self.failed, why);
        }
    }
}

fn fail(failed: &Mutex<Option<String>>, why: String) {
    tracing::error!(%why, "the view takes nothing more; the log goes on without it");
    failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
}

/// sled panics on some damage: that is a doubt like any other.
fn guarded<T>(act: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(act)).map_err(|_| "sled panicked on it".to_owned())
}

fn open_db(path: &Path) -> sled::Result<sled::Db> {
    wait_until_let_go(path);
    sled::Config::new().path(path).cache_capacity(CACHE_BYTES).open()
}

/// sled locks its file, and threads of its own may keep it a moment after the last handle is gone: who opens the view
/// again at once would take that for a view that cannot be read. Whether it has been let go in the end is sled's to say.
fn wait_until_let_go(path: &Path) {
    let Ok(file) = fs::File::open(path.join("db")) else { return };
    let since = Instant::now();
    while matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) && since.elapsed() < LET_GO {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Opens a view that is there and reads all of it.
fn checked(path: &Path) -> Result<(sled::Db, (Seq, Digest)), String> {
    guarded(|| {
        let db = open_db(path).map_err(|error| error.to_string())?;
        let at = applied(&db)?;
        entries(&db)?;
        Ok((db, at))
    })?
}

fn applied(db: &sled::Db) -> Result<(Seq, Digest), String> {
    let Some(stored) = db.get(APPLIED).map_err(|error| error.to_string())? else {
        return if db.is_empty() {
            Ok((Seq(0), Digest::default()))
        } else {
            Err("it has entries but no mark".to_owned())
        };
    };
    let mark = value_of(APPLIED, &stored).filter(|mark| mark.len() == 40).ok_or("its mark is damaged")?;
    Ok((Seq(u64::from_le_bytes(array(&mark[..8]))), Digest(array(&mark[8..]))))
}

fn entries(db: &sled::Db) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let mut found = BTreeMap::new();
    for item in db.scan_prefix([ENTRY]) {
        let (key, value) = item.map_err(|error| error.to_string())?;
        let name = std::str::from_utf8(&key[1..]).map_err(|_| "a key is not text")?;
        let value = value_of(&key, &value).ok_or_else(|| format!("the value of {name} is damaged"))?;
        found.insert(name.to_owned(), value.to_vec());
    }
    Ok(found)
}

/// Why a mark and the log do not belong together.
fn disagreement((seq, hash): (Seq, Digest), log: &dyn ReadLog) -> Result<Option<String>, LogError> {
    let (last, _) = log.tail();
    if seq == Seq(0) {
        return Ok(None);
    }
    if seq > last {
        return Ok(Some(format!("it reflects frame {seq}, the log ends at {last}")));
    }
    if seq < log.first() {
        return Ok(Some(format!("it reflects frame {seq}, the log begins at {}", log.first())));
    }
    let same = log.frame_hash(seq)? == Some(hash);
    Ok((!same).then(|| format!("frame {seq} of the log is not the one that it reflects")))
}

/// What the log has lost, if the view reflected more than it has. The log notes it, durably, before the view is gone.
fn note_lost(dir: &Path, applied: (Seq, Digest), log: &dyn ReadLog) -> Result<Option<Lost>, LogError> {
    let lost = Lost::find(Some(applied), log.tail().0);
    if lost.is_some() {
        let log = log_dir(dir);
        hint::raise(&log, applied).map_err(LogError::io("note the loss in", &log))?;
    }
    Ok(lost)
}

/// Moves a doubtful view to `view.doubt`, in place of an earlier one.
fn put_aside(path: &Path) -> Result<(), LogError> {
    if !path.exists() {
        return Ok(());
    }
    let aside: PathBuf = path.with_extension("doubt");
    if aside.exists() {
        fs::remove_dir_all(&aside).map_err(LogError::io("remove", &aside))?;
    }
    fs::rename(path, &aside).map_err(LogError::io("move aside", path))
}

fn entry_key(key: &str) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(ENTRY);
    stored.extend_from_slice(key.as_bytes());
    stored
}

/// A value as it is stored: the crc32c of key and value, then the value.
fn stored(key: &[u8], value: &[u8]) -> Vec<u8> {
    let crc = crc32c::crc32c_append(crc32c::crc32c(key), value);
    let mut stored = Vec::with_capacity(4 + value.len());
    stored.extend_from_slice(&crc.to_le_bytes());
    stored.extend_from_slice(value);
    stored
}

fn value_of<'a>(key: &[u8], stored: &'a [u8]) -> Option<&'a [u8]> {
    let (crc, value) = stored.split_first_chunk::<4>()?;
    (crc32c::crc32c_append(crc32c::crc32c(key), value) == u32::from_le_bytes(*crc)).then_some(value)
}
