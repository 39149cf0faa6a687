//! Baselines of a site: where a fold may begin, and who writes them when. A start that cannot use its view begins at the
//! newest one; whatever is to be proved begins at the first frame, as long as that is there.

use crate::failure::{Exit, Failure};
use crate::site::open::{entries, first_lineage, fold_until, site_from_entries};
use farshore_kernel::site::{Depth, Site};
use farshore_log::{
    Baseline, Held, Ignored, LogReader, OnSealed, ReadLog, SiteKey, Unfit, baselines, newest_baseline,
    put_baseline_aside,
};
use farshore_schemas::ids::{Digest, Seq, SiteName};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

/// The newest baseline that can be used, and those that cannot.
#[derive(Default)]
pub(crate) struct Nearest {
    /// The actors at it.
    pub(crate) site: Option<Site>,
    /// Files that are not used.
    ignored: Vec<Ignored>,
    /// Sound ones whose states this program cannot read.
    unreadable: Vec<String>,
}

impl Nearest {
    /// The newest at `until` or before.
    pub(crate) fn find(reader: &LogReader, name: &SiteName, until: Seq) -> Result<Nearest, Failure> {
        let mut nearest = Nearest::default();
        let mut until = until;
        loop {
            let found = newest_baseline(reader.dir(), reader, until).map_err(|error| Failure::log(&error))?;
            nearest.ignored = found.1;
            let Some(baseline) = found.0 else { return Ok(nearest) };
            match site_from_entries(baseline.entries, name, (baseline.seq, baseline.head)) {
                Ok(site) => {
                    nearest.site = Some(site);
                    return Ok(nearest);
                }
                Err(why) => {
                    let text = format!("FS-LOG-BASELINE: the baseline at frame {} is not used: {why}", baseline.seq);
                    nearest.unreadable.push(text);
                    until = Seq(baseline.seq.0.saturating_sub(1));
                }
            }
        }
    }

    /// Says which are not used; what is damaged or of another history is moved where nothing reads it.
    fn tell(&self, notes: &mut Vec<String>) -> Result<(), Failure> {
        notes.extend(self.unreadable.iter().cloned());
        for ignored in &self.ignored {
            let (path, why) = (ignored.path.display(), &ignored.why);
            let aside = match why {
                Unfit::Untrusted(_) | Unfit::Archived(_) => "it stays where it is".to_owned(),
                Unfit::Damaged(_) | Unfit::Misfit(_) => {
                    let aside = put_baseline_aside(&ignored.path).map_err(|error| Failure::log(&error))?;
                    format!("it is kept aside as {}", aside.display())
                }
            };
            notes.push(format!("FS-LOG-BASELINE: the baseline {path} is not used: {why}; {aside}"));
        }
        Ok(())
    }
}

/// The actors at the tail by the shortest way, for a start without a view; notes say from where.
pub(crate) fn shortest(reader: &LogReader, name: &SiteName, notes: &mut Vec<String>) -> Result<Site, Failure> {
    let mut nearest = Nearest::find(reader, name, reader.tail().0)?;
    let mut site = match nearest.site.take() {
        Some(site) => {
            notes.push(format!("the fold begins at the baseline of frame {}", site.sequencer.tail().0));
            site
        }
        None => from_first(reader, name)?,
    };
    nearest.tell(notes)?;
    fold_until(&mut site, reader, reader.tail().0, Depth::Outbox)?;
    Ok(site)
}

/// Where a fold up to `until` begins when it shall prove something: before the first frame, or at the oldest baseline that
/// can be used when the first frames were archived.
pub(crate) fn beginning(reader: &LogReader, name: &SiteName, until: Seq) -> Result<Site, Failure> {
    if reader.first() == Seq(1) {
        return from_first(reader, name);
    }
    let held = baselines(reader.dir(), reader).map_err(|error| Failure::log(&error))?;
    let oldest_first = held.into_iter().rev().filter_map(|held| held.read.ok());
    for baseline in oldest_first.take_while(|baseline| baseline.seq <= until) {
        match site_from_entries(baseline.entries, name, (baseline.seq, baseline.head)) {
            Ok(site) => return Ok(site),
            Err(why) => tracing::warn!(frame = %baseline.seq, %why, "a baseline is not used"),
        }
    }
    Err(no_beginning(reader, until))
}

/// What there is to say of a fold that did not begin at the first frame.
pub(crate) fn begun_note(begun: Seq) -> Option<String> {
    (begun > Seq(0)).then(|| format!("the frames up to {begun} were archived: this begins at the baseline there"))
}

fn from_first(reader: &LogReader, name: &SiteName) -> Result<Site, Failure> {
    if reader.first() == Seq(1) {
        return Ok(Site::new(name, first_lineage(reader)?));
    }
    Err(no_beginning(reader, reader.tail().0))
}

fn no_beginning(reader: &LogReader, until: Seq) -> Failure {
    let text = format!(
        "the log begins at frame {}, and no baseline at frame {until} or before it can be used in place of the frames \
         that are not here",
        reader.first()
    );
    let advice = "put the archived segments back into the log's folder, or ask for a later frame";
    Failure::new("FS-LOG-ARCHIVED", text, advice).with(Exit::Mismatch)
}

/// Folds the whole log and compares with every baseline on the way; how many there were.
pub(crate) fn fold_comparing(reader: &LogReader, name: &SiteName) -> Result<(Site, u64), Failure> {
    let held = baselines(reader.dir(), reader).map_err(|error| Failure::log(&error))?;
    let sound: Vec<(&PathBuf, &Baseline)> =
        held.iter().rev().filter_map(|Held { path, read, .. }| Some((path, read.as_ref().ok()?))).collect();
    let mut site = beginning(reader, name, reader.tail().0)?;
    let mut compared = 0;
    for (path, baseline) in sound {
        if baseline.seq < site.sequencer.tail().0 {
            continue;
        }
        fold_until(&mut site, reader, baseline.seq, Depth::Outbox)?;
        if entries(&site) != baseline.entries {
            let text = format!(
                "at frame {} the log folds to other states than the baseline {} holds",
                baseline.seq,
                path.display()
            );
            let advice = "move the baseline away if the program that wrote it was at fault: the log is the truth";
            return Err(Failure::new("FS-LOG-BASELINE-DIFFERS", text, advice).with(Exit::Mismatch));
        }
        compared += 1;
    }
    fold_until(&mut site, reader, reader.tail().0, Depth::Outbox)?;
    Ok((site, compared))
}

/// A baseline that is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    /// Its frame.
    pub(crate) seq: Seq,
    /// The state hash there.
    pub(crate) state: Digest,
    /// Its file; none when there was one already.
    pub(crate) path: Option<PathBuf>,
}

/// Writes a baseline at `until`, folded from the newest one before it; none for an empty log. With `expected`, the fold must
/// come to that state.
pub(crate) fn write(
    reader: &LogReader,
    name: &SiteName,
    until: Seq,
    expected: Option<Digest>,
) -> Result<Option<Written>, Failure> {
    if until == Seq(0) {
        return Ok(None);
    }
    let mut site = match Nearest::find(reader, name, until)?.site {
        Some(site) => site,
        None => from_first(reader, name)?,
    };
    let there = site.sequencer.tail().0 == until;
    fold_until(&mut site, reader, until, Depth::Outbox)?;
    let state = site.state_hash();
    if let Some(expected) = expected.filter(|expected| *expected != state) {
        let text = format!("the log folds to the state {state} at frame {until}, the process held {expected}");
        let advice = "the log is the truth; report this with `farshore log export`";
        return Err(Failure::new("FS-LOG-FOLD", text, advice).with(Exit::Mismatch));
    }
    let path = if there { None } else { Some(write_file(reader.dir(), name, &site)?) };
    Ok(Some(Written { seq: until, state, path }))
}

fn write_file(dir: &Path, name: &SiteName, site: &Site) -> Result<PathBuf, Failure> {
    let write = || {
        let key = SiteKey::open_or_make(dir)?;
        Baseline::new(name, site.sequencer.lineage(), site.sequencer.tail(), entries(site)).write(dir, &key)
    };
    write().map_err(|error| Failure::log(&error))
}

/// Writes a baseline, on a thread of its own, whenever a segment is sealed: at the segment's last frame, which is durable.
/// While one is being written later ones are passed over, but for the next.
pub(crate) fn after_each_segment(dir: &Path, name: &SiteName) -> OnSealed {
    let (tell, told) = sync_channel::<Seq>(1);
    let (dir, name) = (dir.to_owned(), name.clone());
    let work = move || {
        for last in told {
            let reader = LogReader::open(&dir).map_err(|error| Failure::log(&error));
            match reader.and_then(|reader| write(&reader, &name, last, None)) {
                Ok(_) => tracing::info!(frame = %last, "a baseline is written"),
                Err(failure) => tracing::warn!(frame = %last, %failure, "no baseline was written"),
            }
        }
    };
    if let Err(error) = std::thread::Builder::new().name("baseline".to_owned()).spawn(work) {
        tracing::warn!(%error, "no baselines are written: no thread for it");
    }
    Arc::new(move |last| _ = tell.try_send(last))
}
