//! Seals full segments, on a thread of its own: reads a plain segment, checks all of it, writes its sealed form beside it,
//! durable before it has its name, then removes the plain one. What fails here harms nothing: the plain segment stays and
//! the next start tries again.

use crate::disk::sync_dir;
use crate::error::{LogError, Problem, ProblemKind};
use crate::folder::segment_path;
use crate::header::Form;
use crate::log::OnSealed;
use crate::scan::scan;
use crate::sealed::SealedWriter;
use farshore_schemas::ids::Seq;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

/// The sealing thread. Its queue holds one path per full segment, which disk space bounds.
pub(crate) struct Sealer {
    queue: Option<Sender<(PathBuf, Seq)>>,
    thread: Option<JoinHandle<()>>,
}

impl Sealer {
    pub(crate) fn start(on_sealed: Option<OnSealed>) -> Sealer {
        let (queue, jobs) = channel::<(PathBuf, Seq)>();
        let work = move || {
            for (path, first) in jobs {
                match (seal(&path, first), &on_sealed) {
                    (Ok(last), Some(on_sealed)) => on_sealed(last),
                    (Ok(_), None) => {}
                    (Err(error), _) => {
                        tracing::warn!(segment = %path.display(), %error, "a full segment was not sealed; it stays as it is");
                    }
                }
            }
        };
        match std::thread::Builder::new().name("log-seal".to_owned()).spawn(work) {
            Ok(thread) => Sealer { queue: Some(queue), thread: Some(thread) },
            Err(error) => {
                tracing::warn!(%error, "full segments are not sealed: no thread for it");
                Sealer { queue: None, thread: None }
            }
        }
    }

    pub(crate) fn seal(&self, path: PathBuf, first: Seq) {
        if let Some(queue) = &self.queue
            && queue.send((path, first)).is_err()
        {
            tracing::warn!("full segments are not sealed: the thread for it has ended");
        }
    }

    /// Waits until what is queued is sealed.
    pub(crate) fn close(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that seals segments panicked");
        }
    }
}

/// Seals one segment and says which frame is its last.
///
/// # Errors
/// [`LogError`]; the plain segment is then still there.
pub(crate) fn seal(plain: &Path, first: Seq) -> Result<Seq, LogError> {
    let log = plain.parent().unwrap_or(Path::new("."));
    let bytes = fs::read(plain).map_err(LogError::io("read", plain))?;
    let mut places = Vec::new();
    let scan = scan(plain, first, &bytes, &mut |at, frame, _| places.push((at, frame.len())))?;
    if let Some(torn) = scan.torn {
        return Err(Problem::at(plain, torn.kept_end, scan.tail.0.next(), ProblemKind::Torn).into());
    }
    let target = segment_path(log, first, Form::Sealed);
    let beside = target.with_extension("tmp");
    let write = || {
        let mut writer = SealedWriter::create(&beside, &scan.header)?;
        for (at, len) in places {
            let at = usize::try_from(at).map_err(std::io::Error::other)?;
            writer.push(&bytes[at..at + len])?;
        }
        let trailer = writer.finish()?;
        assert!((trailer.last, trailer.last_hash) == scan.tail, "a sealed segment ends where the plain one ended");
        fs::rename(&beside, &target)?;
        sync_dir(log)
    };
    write().map_err(LogError::io("write", &target))?;
    fs::remove_file(plain).and_then(|()| sync_dir(log)).map_err(LogError::io("remove", plain))?;
    Ok(scan.tail.0)
}
