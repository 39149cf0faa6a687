//! `farshore log`: reads, checks and replays the event log of a data folder; it needs no running site.

use crate::cli::{LogVerb, Output};
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, rows, say, structured, time};
use crate::site::baseline::{beginning, begun_note, fold_comparing};
use crate::site::data::DataFolder;
use crate::site::open::{fill, fold_all, fold_failure, fold_on, site_from_view};
use crate::verbs::baseline;
use crate::verbs::verify::{lost_by_view, lost_failure, verify};
use farshore_api::json::{from_msgpack, hex};
use farshore_kernel::redecide::{Difference, redecide};
use farshore_kernel::site::{Depth, Site};
use farshore_log::{LogReader, ReadLog, StoredFrame, View, ViewState};
use farshore_schemas::codec;
use farshore_schemas::frame::{Input, Verdict};
use farshore_schemas::ids::{EntityId, Seq};
use serde_json::{Value, json};

/// Runs one of the verbs.
pub(crate) fn run(verb: LogVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    match verb {
        LogVerb::Ls { at, from, limit, actor } => ls(&DataFolder::at(&at.data), from, limit, actor.as_ref(), output),
        LogVerb::Show { seq, at } => show(&DataFolder::at(&at.data), Seq(seq), output),
        LogVerb::Verify { at } => verify(&DataFolder::at(&at.data), output),
        LogVerb::Rebuild { at } => rebuild(&DataFolder::at(&at.data), output, quiet),
        LogVerb::Baseline { at, list: true } => baseline::list(&DataFolder::at(&at.data), output),
        LogVerb::Baseline { at, list: false } => baseline::write(&DataFolder::at(&at.data), output, quiet),
        LogVerb::Archive { at, to } => baseline::move_away(&DataFolder::at(&at.data), &to, output, quiet),
        LogVerb::Hash { at } => hash(&DataFolder::at(&at.data), output, quiet),
        LogVerb::Export { at, from, to, file } => {
            let reader = DataFolder::at(&at.data).reader()?;
            let to = to.map_or(reader.tail().0, Seq);
            farshore_log::export(&reader, Seq(from), to, &file).map_err(|error| Failure::log(&error))?;
            hint(quiet, &format!("frames {from} to {to} are in {}", file.display()));
            Ok(())
        }
        LogVerb::Replay { at, check, until } => {
            let folder = DataFolder::at(&at.data);
            let until = until.map(Seq);
            if check { check_again(&folder, until, output) } else { state_at(&folder, until, output) }
        }
    }
}

/// A frame in a line.
fn summary(stored: &StoredFrame<'_>) -> Result<Value, Failure> {
    let broken = |error: farshore_schemas::frame::FrameError| {
        fold_failure(&farshore_kernel::site::FoldError::Frame { seq: stored.seq(), error })
    };
    let input = stored.raw.input_section().map_err(broken)?;
    let events = stored.raw.events_section().map_err(broken)?;
    let sends = stored.raw.sends_section().map_err(broken)?;
    let what = match &input.input {
        Input::Message(envelope) => {
            envelope.body.as_ref().map_or_else(|| "superseded".to_owned(), |body| message_name(&codec::encode(body)))
        }
        Input::Wake => "wake".to_owned(),
        Input::Restarted => "restarted".to_owned(),
        Input::LineageRenewed { .. } => "lineage renewed".to_owned(),
        Input::Poisoned { .. } => "poisoned".to_owned(),
    };
    let event_names: Vec<String> =
        from_msgpack(&events.events).as_array().map(|all| all.iter().map(variant).collect()).unwrap_or_default();
    Ok(json!({
        "seq": stored.seq().0,
        "at": time(input.at.0),
        "actor": input.actor.to_string(),
        "input": what,
        "verdict": verdict(&events.verdict),
        "events": event_names,
        "sends": sends.sends.iter().map(|sent| sent.to.to_string()).collect::<Vec<_>>(),
    }))
}

fn verdict(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Accepted => "accepted".to_owned(),
        Verdict::Rejected(refusal) => refusal.code.clone(),
        Verdict::Expired => "expired".to_owned(),
        Verdict::Superseded => "superseded".to_owned(),
        Verdict::Unsupported => "unsupported".to_owned(),
        Verdict::Poisoned => "poisoned".to_owned(),
    }
}

/// The name of an enum's variant as serde writes it.
fn variant(value: &Value) -> String {
    match value {
        Value::String(name) => name.clone(),
        Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => String::new(),
    }
}

/// `Job.Run`, from the message's encoding.
fn message_name(bytes: &[u8]) -> String {
    match from_msgpack(bytes) {
        Value::Object(fields) => {
            fields.iter().next().map(|(kind, inner)| format!("{kind}.{}", variant(inner))).unwrap_or_default()
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            variant(&other)
        }
    }
}

fn ls(
    folder: &DataFolder,
    from: Option<u64>,
    limit: u64,
    actor: Option<&EntityId>,
    output: Output,
) -> Result<(), Failure> {
    let reader = folder.reader()?;
    let tail = reader.tail().0.0;
    let start = from.unwrap_or_else(|| if actor.is_some() { 1 } else { (tail + 1).saturating_sub(limit) }).max(1);
    let mut listed = Vec::new();
    let mut frames = reader.frames_from(Seq(start)).map_err(|error| Failure::log(&error))?;
    while let Some(stored) = frames.next().map_err(|error| Failure::log(&error))? {
        let line = summary(&stored)?;
        if actor.is_none_or(|actor| line["actor"] == actor.to_string()) {
            listed.push(line);
        }
        let full = listed.len() as u64 > limit;
        if full && from.is_some() {
            listed.pop();
            break;
        }
        if full {
            listed.remove(0);
        }
    }
    if let Some(actor) = actor.filter(|_| listed.is_empty()) {
        let text = format!("the log has no frame of {actor} from {start} to {tail}");
        let advice = "list what there is with `farshore log ls`; an actor is named like job/nightly";
        return Err(Failure::new("FS-LOG-NO-FRAME", text, advice).not_found());
    }
    let list = |value: &Value| {
        value
            .as_array()
            .map(|all| all.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" "))
            .unwrap_or_default()
    };
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    rows(output, &listed, &["seq", "at", "actor", "input", "verdict", "events", "sends to"], |line| {
        vec![
            text(&line["seq"]),
            text(&line["at"]),
            text(&line["actor"]),
            text(&line["input"]),
            text(&line["verdict"]),
            list(&line["events"]),
            list(&line["sends"]),
        ]
    })
}

fn show(folder: &DataFolder, seq: Seq, output: Output) -> Result<(), Failure> {
    let reader = folder.reader()?;
    let mut frames = reader.frames_from(seq).map_err(|error| Failure::log(&error))?;
    let Some(stored) = frames.next().map_err(|error| Failure::log(&error))? else {
        let text = format!("the log has no frame {seq}; its last one is {}", reader.tail().0);
        return Err(Failure::new("FS-LOG-NO-FRAME", text, "list frames with `farshore log ls`").not_found());
    };
    let broken = |error: farshore_schemas::frame::FrameError| {
        fold_failure(&farshore_kernel::site::FoldError::Frame { seq, error })
    };
    let events = stored.raw.events_section().map_err(broken)?;
    let input = from_msgpack(stored.raw.input);
    let cause = stored.raw.input_section().map_err(broken)?;
    let cause = match &cause.input {
        Input::Message(envelope) | Input::Poisoned { envelope, .. } => {
            json!({ "message": envelope.id.to_string(), "from": envelope.from.to_string(), "principal": envelope.principal })
        }
        Input::Wake | Input::Restarted | Input::LineageRenewed { .. } => json!({ "itself": input["actor"] }),
    };
    let mut decided = from_msgpack(stored.raw.events);
    decided["events"] = from_msgpack(&events.events);
    let shown = json!({
        "seq": seq.0,
        "hash": stored.hash().to_string(),
        "previous": stored.raw.previous.to_string(),
        "lineage": stored.raw.header.lineage.to_string(),
        "bytes": stored.bytes.len(),
        "cause": cause,
        "input": input,
        "decided": decided,
        "sends": from_msgpack(stored.raw.sends)["sends"],
        "stateHash": stored.raw.state_hash.map(|hash| hex(&hash.0)),
    });
    let output = if output == Output::Table { Output::Yaml } else { output };
    structured(output, &shown).map(drop)
}

fn rebuild(folder: &DataFolder, output: Output, quiet: bool) -> Result<(), Failure> {
    let name = folder.known_site()?;
    let log = baseline::take(folder, quiet)?;
    let reader = log.reader();
    let (site, compared) = fold_comparing(&reader, &name)?;
    let rebuilt = View::rebuild(&folder.path, &reader).map_err(|error| Failure::log(&error))?;
    if let ViewState::Rebuild { lost: Some(lost), .. } = &rebuilt {
        hint(quiet, &lost.to_string());
    }
    let view = rebuilt.into_view();
    fill(&view, &site);
    if let Some(why) = view.failure() {
        return Err(Failure::new(
            "FS-LOG-VIEW",
            format!("the view could not be written: {why}"),
            "check the disk and try again",
        ));
    }
    let shown = json!({ "site": name.to_string(), "seq": site.sequencer.tail().0.0, "actors": site.entities().count(), "state": site.state_hash().to_string(), "baselines": compared });
    if !structured(output, &shown)? {
        say(&format!(
            "the view of {name} is rebuilt: frame {}, {}; {} compared, all equal",
            shown["seq"],
            count(site.entities().count(), "actor"),
            count(compared, "baseline")
        ));
    }
    Ok(())
}

fn hash(folder: &DataFolder, output: Output, quiet: bool) -> Result<(), Failure> {
    let name = folder.known_site()?;
    let reader = folder.reader()?;
    let mut folded = beginning(&reader, &name, reader.tail().0)?;
    let begun = folded.sequencer.tail().0;
    if let Some(note) = begun_note(begun) {
        hint(quiet, &note);
    }
    fold_on(&mut folded, &reader, Depth::States)?;
    let state = folded.state_hash();
    if let Some(lost) = lost_by_view(folder, reader.tail().0) {
        return Err(lost_failure(&lost.to_string()));
    }
    let view = view_hash(folder, &reader)?;
    let shown = json!({ "site": name.to_string(), "after": begun.0, "seq": reader.tail().0.0, "state": state.to_string(), "view": view.as_ref().map(|hash| hash.clone().unwrap_or_else(|why| why)) });
    if !structured(output, &shown)? {
        say(&state.to_string());
    }
    match view {
        Some(Ok(hash)) if hash != state.to_string() => {
            let text = format!(
                "the log folds to {state}, the view holds {hash}: something changed the view behind the log's back"
            );
            Err(Failure::new("FS-LOG-VIEW-DIFFERS", text, "make the view anew with `farshore log rebuild`")
                .with(Exit::Mismatch))
        }
        Some(Err(why)) => Err(Failure::new(
            "FS-LOG-VIEW-DIFFERS",
            format!("the view cannot be trusted: {why}"),
            "make the view anew with `farshore log rebuild`",
        )
        .with(Exit::Mismatch)),
        Some(Ok(_)) | None => Ok(()),
    }
}

/// The hash of what the view holds, folded on to the log's tail; none when there is no view, or a running site holds it.
fn view_hash(folder: &DataFolder, reader: &LogReader) -> Result<Option<Result<String, String>>, Failure> {
    if !folder.path.join("view").exists() {
        return Ok(None);
    }
    let name = folder.known_site()?;
    // The lock keeps a running site's view from being opened twice.
    let Ok(_held) = farshore_log::hold(&folder.path) else { return Ok(None) };
    let view = match View::look(&folder.path, reader) {
        Ok(view) => view,
        Err(why) => return Ok(Some(Err(why))),
    };
    let mut site = match site_from_view(&view, &name) {
        Ok(site) => site,
        Err(why) => return Ok(Some(Err(why))),
    };
    fold_on(&mut site, reader, Depth::States)?;
    Ok(Some(Ok(site.state_hash().to_string())))
}

/// The log, and up to where it is to be replayed: a frame that it has.
fn replayed(folder: &DataFolder, until: Option<Seq>) -> Result<(LogReader, Seq), Failure> {
    let reader = folder.reader()?;
    let (first, last) = (reader.first(), reader.tail().0);
    let until = until.unwrap_or(last);
    if until > last {
        return Err(Failure::log(&farshore_log::LogError::NotHere { seq: until, first, last }));
    }
    Ok((reader, until))
}

fn state_at(folder: &DataFolder, until: Option<Seq>, output: Output) -> Result<(), Failure> {
    let (reader, until) = replayed(folder, until)?;
    let site = fold_all(&reader, &folder.known_site()?, Some(until), Depth::Outbox)?;
    show_state(&site, output)
}

fn check_again(folder: &DataFolder, until: Option<Seq>, output: Output) -> Result<(), Failure> {
    let name = folder.known_site()?;
    let (reader, until) = replayed(folder, until)?;
    let mut site = beginning(&reader, &name, until)?;
    let begun = site.sequencer.tail().0;
    let mut differences: Vec<Difference> = Vec::new();
    let mut frames = reader.frames_from(begun.next()).map_err(|error| Failure::log(&error))?;
    while let Some(stored) = frames.next().map_err(|error| Failure::log(&error))? {
        if stored.seq() > until {
            break;
        }
        differences.extend(redecide(&mut site, &stored.raw, stored.hash()).map_err(|error| fold_failure(&error))?);
    }
    let decided = Seq(site.sequencer.tail().0.0 - begun.0);
    let defects = differences.iter().filter(|difference| difference.same_core).count();
    let shown = json!({ "site": name.to_string(), "after": begun.0, "frames": decided.0, "differences": differences });
    if !structured(output, &shown)? {
        begun_note(begun).iter().for_each(|note| say(note));
        say(&format!("{} decided again: {}", count(decided.0, "frame"), count(differences.len(), "difference")));
        differences.iter().take(20).for_each(|one| {
            say(&format!(
                "  frame {} {} (core {}): {}\n    recorded {}\n    now      {}",
                one.seq, one.actor, one.core, one.what, one.recorded, one.now
            ));
        });
    }
    if defects > 0 {
        let text = format!("{defects} decisions of this program's own version come out otherwise");
        return Err(Failure::new(
            "FS-LOG-REDECIDE",
            text,
            "this is a defect of the program: please report it with `farshore log export`",
        )
        .with(Exit::Mismatch));
    }
    Ok(())
}

fn show_state(site: &Site, output: Output) -> Result<(), Failure> {
    let actors: Vec<Value> = site
        .entities()
        .filter(|entity| entity.memory().actor_seq > 0)
        .map(|entity| farshore_api::server::shown(&entity.memory()))
        .collect();
    let shown = json!({ "seq": site.sequencer.tail().0.0, "state": site.state_hash().to_string(), "waiting": site.sequencer.outbox.len(), "actors": actors });
    if structured(output, &shown)? {
        return Ok(());
    }
    say(&format!("frame {}, state {}", shown["seq"], site.state_hash()));
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    rows(Output::Table, &actors, &["kind", "name", "frames", "state"], |actor| {
        vec![text(&actor["kind"]), text(&actor["name"]), text(&actor["frames"]), variant(&actor["state"])]
    })
}
