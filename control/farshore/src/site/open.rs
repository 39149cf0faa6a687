//! Opens a site's log and view and folds them into actors: at start, for the log verbs, and to rebuild one actor.

use crate::failure::Failure;
use crate::site::baseline::{self, Nearest};
use crate::site::data::DataFolder;
use crate::site::recovered::Recovered;
use farshore_kernel::entity::{Memory, new_entity};
use farshore_kernel::sequencer::{Sequencer, SequencerMemory};
use farshore_kernel::site::{Depth, Site};
use farshore_log::{LogOptions, LogReader, Lost, ReadLog, SegmentLog, View, ViewState};
use farshore_runtime::Opened;
use farshore_runtime::ports::{Rebuild, SEQUENCER_KEY, ViewBatch, ViewSink, entity_key};
use farshore_schemas::codec;
use farshore_schemas::frame::genesis_hash;
use farshore_schemas::ids::{Digest, EntityId, Lineage, Seq, SiteName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a start has to say to the operator.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StartNotes(pub(crate) Vec<String>);

/// Opens everything for a site that goes on deciding.
pub(crate) fn open(
    folder: &DataFolder,
    site: &SiteName,
    renew: Option<String>,
) -> Result<(Opened, StartNotes), Failure> {
    let mut notes = StartNotes::default();
    let mut options = LogOptions::new(&folder.path, site, Lineage(rand::random()));
    options.on_sealed = Some(baseline::after_each_segment(&folder.path, site));
    let opened = SegmentLog::open(&options).map_err(|error| Failure::log(&error))?;
    notes.0.extend(notes_of(&opened));
    let reader = opened.log.reader();
    let Folded { site: folded, view, lost } = fold_with_view(folder, site, &reader, &mut notes)?;
    if lost > opened.lost {
        notes.0.extend(lost.iter().map(ToString::to_string));
    }
    let lost = lost.max(opened.lost);
    let rebuild = rebuild_from(&reader, site);
    let recovered = Recovered::renewal(folder, &reader)?;
    notes.0.extend(recovered.iter().cloned());
    let renew = renew
        .or(recovered)
        .or_else(|| lost.map(|lost| lost.to_string()))
        .filter(|_| !opened.created || lost.is_some())
        .map(|why| (Lineage(rand::random()), why));
    Ok((Opened { site: folded, log: Box::new(opened.log), view: Box::new(StoredView(view)), rebuild, renew }, notes))
}

/// What opening a log has to say: what was put aside, what is lost.
pub(crate) fn notes_of(opened: &farshore_log::Opened) -> Vec<String> {
    let recovered = opened.recovered.iter().map(ToString::to_string);
    let lost = opened.lost.iter().map(ToString::to_string);
    let baselines = opened.baselines_aside.iter().map(|path| {
        let path = path.display();
        format!("FS-LOG-BASELINE: a baseline of frames that are gone is not used; it is kept aside as {path}")
    });
    recovered.chain(lost).chain(baselines).collect()
}

/// What a fold at start gives.
struct Folded {
    site: Site,
    view: View,
    /// The view knew of frames that the log no longer has.
    lost: Option<Lost>,
}

/// The actors from the view and the frames after it; when the view cannot be used, from the newest baseline, or the whole log.
fn fold_with_view(
    folder: &DataFolder,
    site: &SiteName,
    reader: &LogReader,
    notes: &mut StartNotes,
) -> Result<Folded, Failure> {
    let (view, lost) = match View::open(&folder.path, reader).map_err(|error| Failure::log(&error))? {
        ViewState::Ready(view) => match site_from_view(&view, site) {
            Ok(mut folded) => {
                fold_on(&mut folded, reader, Depth::Outbox)?;
                return Ok(Folded { site: folded, view, lost: None });
            }
            Err(why) => {
                notes.0.push(format!("the view is rebuilt from the log: {why}"));
                drop(view);
                let view = View::rebuild(&folder.path, reader).map_err(|error| Failure::log(&error))?.into_view();
                (view, None)
            }
        },
        ViewState::Rebuild { view, why, lost } => {
            if reader.tail().0 > Seq(0) {
                notes.0.push(format!("the view is rebuilt from the log: {why}"));
            }
            (view, lost)
        }
    };
    let folded = baseline::shortest(reader, site, &mut notes.0)?;
    fill(&view, &folded);
    Ok(Folded { site: folded, view, lost })
}

/// Writes all memories of a site into a view.
pub(crate) fn fill(view: &View, site: &Site) {
    let (seq, hash) = site.sequencer.tail();
    if seq == Seq(0) {
        return;
    }
    let changes = entries(site).into_iter().map(|(key, value)| (key, Some(value))).collect();
    view.apply(seq, hash, changes);
    view.flush();
}

/// What a view and a baseline hold of a site.
pub(crate) fn entries(site: &Site) -> BTreeMap<String, Vec<u8>> {
    let memories = site.entities().map(|entity| (entity_key(entity.id()), codec::encode(&entity.memory())));
    let sequencer = (SEQUENCER_KEY.to_owned(), codec::encode(&site.sequencer.memory()));
    memories.chain([sequencer]).collect()
}

/// The actors as a view holds them.
pub(crate) fn site_from_view(view: &View, name: &SiteName) -> Result<Site, String> {
    site_from_entries(view.entries()?, name, view.opened_at())
}

/// The actors from the entries of a view or a baseline that stands at a frame.
pub(crate) fn site_from_entries(
    mut entries: BTreeMap<String, Vec<u8>>,
    name: &SiteName,
    at: (Seq, Digest),
) -> Result<Site, String> {
    let sequencer = entries.remove(SEQUENCER_KEY).ok_or("it has no sequencer")?;
    let memory: SequencerMemory = codec::decode_checked(&sequencer).map_err(|error| error.to_string())?;
    if (memory.last, memory.chain) != at {
        return Err("its sequencer stands at another frame".to_owned());
    }
    let memories: Result<Vec<Memory>, _> = entries.values().map(|value| codec::decode_checked(value)).collect();
    let memories = memories.map_err(|error| error.to_string())?;
    Site::from_memories(Sequencer::load(name, &memory), memories).map_err(|error| error.to_string())
}

/// Folds the frames after what a site has.
pub(crate) fn fold_on(site: &mut Site, reader: &LogReader, depth: Depth) -> Result<(), Failure> {
    fold_until(site, reader, reader.tail().0, depth)
}

/// Folds the frames after what a site has, up to one.
pub(crate) fn fold_until(site: &mut Site, reader: &LogReader, until: Seq, depth: Depth) -> Result<(), Failure> {
    let from = site.sequencer.tail().0.next();
    if from > until {
        return Ok(());
    }
    let mut frames = reader.frames_from(from).map_err(|error| Failure::log(&error))?;
    while let Some(stored) = frames.next().map_err(|error| Failure::log(&error))? {
        if stored.seq() > until {
            break;
        }
        site.fold(&stored.raw, stored.hash(), depth).map_err(|error| fold_failure(&error))?;
    }
    Ok(())
}

/// A fold that failed: the log is sound (its crcs are right), but this program cannot follow it.
pub(crate) fn fold_failure(error: &farshore_kernel::site::FoldError) -> Failure {
    Failure::new("FS-LOG-FOLD", error.to_string(), "use the version that wrote the log, and report this")
        .with(crate::failure::Exit::Mismatch)
}

/// The actors folded from the first frame, up to `until` (all without); where the first frames were archived, from a baseline.
pub(crate) fn fold_all(reader: &LogReader, site: &SiteName, until: Option<Seq>, depth: Depth) -> Result<Site, Failure> {
    let until = until.unwrap_or(reader.tail().0);
    let mut folded = baseline::beginning(reader, site, until)?;
    fold_until(&mut folded, reader, until, depth)?;
    Ok(folded)
}

/// The lineage of the first frame, or of the log to be.
pub(crate) fn first_lineage(reader: &LogReader) -> Result<Lineage, Failure> {
    if reader.tail().0 == Seq(0) {
        return Ok(reader.lineage());
    }
    let mut frames = reader.frames_from(Seq(1)).map_err(|error| Failure::log(&error))?;
    let first = frames.next().map_err(|error| Failure::log(&error))?;
    let lineage = first.map_or(reader.lineage(), |stored| stored.raw.header.lineage);
    debug_assert_ne!(genesis_hash(lineage).0, [0; 32], "a lineage has a genesis hash");
    Ok(lineage)
}

/// Folds one actor from the log, for the runtime.
fn rebuild_from(reader: &LogReader, site: &SiteName) -> Rebuild {
    let (dir, site) = (reader.dir().to_owned(), site.clone());
    Arc::new(move |id: &EntityId, until: Seq| {
        let mut entity = new_entity(id).ok_or_else(|| format!("{id} at {site} has no decider"))?;
        // The log has grown since it was opened.
        let reader = LogReader::open(&dir).map_err(|error| error.to_string())?;
        if reader.tail().0 < until {
            return Err(format!("the log on disk ends at frame {}, before frame {until}", reader.tail().0));
        }
        let nearest = Nearest::find(&reader, &site, until).map_err(|failure| failure.to_string())?;
        let from = match nearest.site {
            Some(at_baseline) => {
                if let Some(known) = at_baseline.entity(id) {
                    entity.load(&known.memory()).map_err(|error| error.to_string())?;
                }
                at_baseline.sequencer.tail().0.next()
            }
            None => Seq(1),
        };
        let mut frames = reader.frames_from(from).map_err(|error| error.to_string())?;
        while let Some(stored) = frames.next().map_err(|error| error.to_string())? {
            if stored.seq() > until {
                break;
            }
            let section = stored.raw.events_section().map_err(|error| error.to_string())?;
            if section.actor == *id {
                entity.fold(&section).map_err(|error| error.to_string())?;
            }
        }
        Ok(entity.memory())
    })
}

/// The view as the runtime writes it.
struct StoredView(View);

impl ViewSink for StoredView {
    fn apply(&self, batch: ViewBatch) {
        let changes = batch.changes.into_iter().map(|(key, value)| (key, Some(value))).collect();
        self.0.apply(batch.seq, batch.hash, changes);
    }

    fn flush(&self) {
        self.0.flush();
    }
}
