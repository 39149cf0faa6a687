//! Frames of every schema ever written are kept in `golden/` and must be read for ever. After a change of a stored type:
//! raise `SCHEMA`, add an upcaster, then write the file of the new schema with
//! `FARSHORE_WRITE_GOLDEN=1 cargo nextest run -p farshore-schemas golden`. It writes only what is not there yet; files of older schemas are
//! never written again.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use farshore_schemas::codec;
use farshore_schemas::envelope::{Channel, Envelope, Mark, Sender};
use farshore_schemas::frame::{
    EventsSection, FrameParts, HEADER_LEN, Input, InputSection, RawFrame, SCHEMA, SendsSection, Sent, Verdict, encode,
    genesis_hash, site_tag,
};
use farshore_schemas::ids::{Address, Digest, EntityId, Lineage, MessageId, Seq, SiteName};
use farshore_schemas::messages::{Message, Refusal, Refused, host, job};
use farshore_schemas::units::{Hlc, Timestamp};
use std::path::PathBuf;

const LINEAGE: Lineage = Lineage([0x11; 16]);
const RENEWED: Lineage = Lineage([0x22; 16]);
const AT: Timestamp = Timestamp(1_763_800_000_000);

fn golden(schema: u16) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/frame-v{schema}.bin"))
}

fn site() -> SiteName {
    SiteName::parse("hq").unwrap()
}

fn entity(text: &str) -> EntityId {
    text.parse().unwrap()
}

fn address(text: &str) -> Address {
    text.parse().unwrap()
}

fn hlc(count: u32) -> Hlc {
    Hlc { wall: AT, count }
}

fn refusal() -> Refusal {
    Refusal {
        code: "FS-HOST-UNKNOWN".to_owned(),
        message: "host esx1 is not defined here".to_owned(),
        advice: "define it first".to_owned(),
    }
}

fn envelope() -> Envelope {
    Envelope {
        from: address("dr:api/operator"),
        channel: Channel {
            site: "dr".parse().unwrap(),
            sender: Sender::Agent("m1".parse().unwrap()),
            lineage: RENEWED,
        },
        to: address("hq:host/esx1"),
        number: 7,
        floor: 5,
        id: MessageId { site: "dr".parse().unwrap(), lineage: RENEWED, seq: Seq(40), index: 2 },
        sent: hlc(1),
        expires: Some(Timestamp(AT.0 + 60_000)),
        supersede: Some("discover".to_owned()),
        principal: "ada".to_owned(),
        trace: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        body: Some(Message::Host(host::Command::Discover)),
    }
}

/// What one golden frame says.
struct Story {
    lineage: Lineage,
    input: InputSection,
    events: EventsSection,
    sends: SendsSection,
    state_hash: Option<Digest>,
}

fn story(actor: &str, actor_seq: u64, input: Input, verdict: Verdict) -> Story {
    let hlc = hlc(u32::try_from(actor_seq).unwrap());
    Story {
        lineage: LINEAGE,
        input: InputSection { actor: entity(actor), actor_seq, owner_epoch: 3, core: 1, at: AT, hlc, input },
        events: EventsSection {
            actor: entity(actor),
            actor_seq,
            hlc,
            verdict,
            mark: None,
            acked: Vec::new(),
            events: codec::encode(&Vec::<job::Event>::new()),
        },
        sends: SendsSection::default(),
        state_hash: None,
    }
}

/// One frame of each kind of input, with every optional field once there and once not.
fn stories() -> Vec<Story> {
    let mut woken = story("job/nightly", 1, Input::Wake, Verdict::Accepted);
    woken.events.events = codec::encode(&vec![job::Event::Removed]);
    woken.events.acked = vec![(address("dr:site/site"), 12), (address("hq:agent/m1"), 3)];
    let mut rejected = story("host/esx1", 2, Input::Message(Box::new(envelope())), Verdict::Rejected(refusal()));
    rejected.events.mark = Some((envelope().channel, Mark { number: 7, digest: Digest([0x33; 32]) }));
    rejected.sends = SendsSection {
        sends: vec![Sent {
            to: address("dr:api/operator"),
            number: 1,
            expires: Some(Timestamp(AT.0 + 1)),
            supersede: Some("answer".to_owned()),
            body: Message::Refused(Box::new(Refused {
                by: address("hq:host/esx1"),
                message: Message::Host(host::Command::Discover),
                refusal: refusal(),
            })),
        }],
        principal: "ada".to_owned(),
        trace: envelope().trace,
    };
    rejected.state_hash = Some(Digest([0x44; 32]));
    let restarted = story("session/nightly-1", 3, Input::Restarted, Verdict::Accepted);
    let renewed = Input::LineageRenewed { previous: LINEAGE, reason: "restored from a copy".to_owned() };
    let mut renewed = story("site/site", 4, renewed, Verdict::Accepted);
    renewed.lineage = RENEWED;
    let poisoned = Input::Poisoned { envelope: Box::new(envelope()), panic: "index out of bounds".to_owned() };
    let mut poisoned = story("plan/all", 5, poisoned, Verdict::Poisoned);
    poisoned.lineage = RENEWED;
    vec![woken, rejected, restarted, renewed, poisoned]
}

fn write_stories() -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut previous = genesis_hash(LINEAGE);
    for (at, story) in stories().iter().enumerate() {
        let parts = FrameParts {
            seq: Seq(at as u64 + 1),
            lineage: story.lineage,
            site: site_tag(&site()),
            input: &story.input,
            events: &story.events,
            sends: &story.sends,
            state_hash: story.state_hash,
            previous,
        };
        let (frame, hash) = encode(&parts).unwrap();
        bytes.extend(frame);
        previous = hash;
    }
    bytes
}

/// A frame as schema 0 wrote it: no `acked` in the events section.
fn write_schema_0() -> Vec<u8> {
    let story = &stories()[0];
    let mut events: rmpv::Value = codec::decode(&codec::encode(&story.events)).unwrap();
    let rmpv::Value::Map(fields) = &mut events else { panic!("a section is a map") };
    fields.retain(|(key, _)| key.as_str() != Some("acked"));
    let sections = [codec::encode(&story.input), codec::encode(&events), codec::encode(&story.sends)];
    let mut frame = b"FSF1\0\0\0\0".to_vec();
    frame.extend(1u64.to_le_bytes());
    frame.extend(LINEAGE.0);
    frame.extend(site_tag(&site()));
    sections.iter().for_each(|section| frame.extend(u32::try_from(section.len()).unwrap().to_le_bytes()));
    frame.extend(crc32c::crc32c(&frame).to_le_bytes());
    sections.iter().for_each(|section| frame.extend(section));
    frame.extend(genesis_hash(LINEAGE).0);
    frame.extend(crc32c::crc32c(&frame[HEADER_LEN..]).to_le_bytes());
    frame
}

/// The file of a schema; written first when that is asked for and it is not there.
fn read_golden(schema: u16, write: fn() -> Vec<u8>) -> Vec<u8> {
    let path = golden(schema);
    if std::env::var_os("FARSHORE_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, write()).unwrap();
    }
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn frames(bytes: &[u8]) -> Vec<RawFrame<'_>> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let (frame, len) = RawFrame::decode(rest).unwrap();
        frames.push(frame);
        rest = &rest[len..];
    }
    frames
}

#[test]
fn golden_frames_of_this_schema_say_what_they_said() {
    let bytes = read_golden(1, write_stories);
    let frames = frames(&bytes);
    let stories = stories();
    assert_eq!(frames.len(), stories.len());
    for (at, (frame, story)) in frames.iter().zip(&stories).enumerate() {
        assert_eq!((frame.header.schema, frame.header.seq), (1, Seq(at as u64 + 1)));
        assert_eq!(frame.input_section().unwrap(), story.input);
        assert_eq!(frame.events_section().unwrap(), story.events);
        assert_eq!(frame.sends_section().unwrap(), story.sends);
        assert_eq!(frame.state_hash, story.state_hash);
    }
}

#[test]
fn golden_frames_of_this_schema_are_written_the_same_way() {
    assert_eq!(SCHEMA, 1, "a new schema has a golden file of its own; compare that one here");
    assert_eq!(
        read_golden(1, write_stories),
        write_stories(),
        "a stored type has changed: raise SCHEMA, write an upcaster"
    );
}

#[test]
fn golden_frames_of_schema_0_are_lifted() {
    let bytes = read_golden(0, write_schema_0);
    let frames = frames(&bytes);
    assert_eq!((frames.len(), frames[0].header.schema), (1, 0));
    let story = &stories()[0];
    assert_eq!(frames[0].input_section().unwrap(), story.input);
    assert_eq!(frames[0].sends_section().unwrap(), story.sends);
    // What schema 0 did not know is empty; all else is as it was.
    let lifted = frames[0].events_section().unwrap();
    assert_eq!(lifted, EventsSection { acked: Vec::new(), ..story.events.clone() });
    let without = farshore_schemas::codec::decode::<EventsSection>(frames[0].events);
    assert!(without.is_err(), "the file has no `acked`, so it is the upcaster that put it there");
}

#[test]
fn golden_files_are_there_for_every_schema() {
    assert!((0..=SCHEMA).all(|schema| golden(schema).exists()));
}
