//! A frame is what was written or it is refused.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

use farshore_schemas::codec::CodecError;
use farshore_schemas::frame::{
    EventsSection, FrameError, FrameParts, HEADER_LEN, Header, Input, InputSection, MAX_FRAME, RawFrame, SCHEMA,
    SendsSection, Verdict, encode,
};
use farshore_schemas::ids::{Digest, Lineage, Seq};
use farshore_schemas::units::{Hlc, Timestamp};
use proptest::prelude::*;

fn sections(events: Vec<u8>, principal: String) -> (InputSection, EventsSection, SendsSection) {
    let actor: farshore_schemas::ids::EntityId = "job/nightly".parse().unwrap();
    let hlc = Hlc { wall: Timestamp(5), count: 1 };
    let input = InputSection {
        actor: actor.clone(),
        actor_seq: 1,
        owner_epoch: 0,
        core: 1,
        at: Timestamp(5),
        hlc,
        input: Input::Wake,
    };
    let events =
        EventsSection { actor, actor_seq: 1, hlc, verdict: Verdict::Accepted, mark: None, acked: Vec::new(), events };
    (input, events, SendsSection { sends: Vec::new(), principal, trace: None })
}

fn build(
    seq: u64,
    events: Vec<u8>,
    principal: String,
    state: Option<[u8; 32]>,
) -> Result<(Vec<u8>, Digest), CodecError> {
    let (input, events, sends) = sections(events, principal);
    encode(&FrameParts {
        seq: Seq(seq),
        lineage: Lineage([1; 16]),
        site: [2; 16],
        input: &input,
        events: &events,
        sends: &sends,
        state_hash: state.map(Digest),
        previous: Digest([4; 32]),
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_frame_is_read_back_as_it_was_written(
        seq in 1u64..,
        events in proptest::collection::vec(any::<u8>(), 0..600),
        principal in "[a-z]{0,40}",
        state in any::<Option<[u8; 32]>>(),
    ) {
        let (bytes, hash) = build(seq, events.clone(), principal.clone(), state).unwrap();
        let (raw, len) = RawFrame::decode(&bytes).unwrap();
        let (input, events, sends) = sections(events, principal);
        prop_assert_eq!(len, bytes.len());
        prop_assert_eq!(raw.header.frame_len(), bytes.len());
        prop_assert_eq!((raw.header.seq, raw.header.schema), (Seq(seq), SCHEMA));
        prop_assert_eq!(raw.input_section().unwrap(), input);
        prop_assert_eq!(raw.events_section().unwrap(), events);
        prop_assert_eq!(raw.sends_section().unwrap(), sends);
        prop_assert_eq!(raw.state_hash, state.map(Digest));
        prop_assert_eq!(hash.0, *blake3::hash(&bytes).as_bytes());
    }

    #[test]
    fn any_flipped_byte_is_found(
        events in proptest::collection::vec(any::<u8>(), 0..200),
        state in any::<Option<[u8; 32]>>(),
        flip in 1u8..,
    ) {
        let (good, _) = build(9, events, "hq".to_owned(), state).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= flip;
            let refused = RawFrame::decode(&bad);
            if at < HEADER_LEN {
                prop_assert!(matches!(refused, Err(FrameError::Header(_))), "byte {}", at);
                prop_assert!(matches!(Header::decode(&bad), Err(FrameError::Header(_))), "byte {}", at);
            } else {
                prop_assert_eq!(refused.unwrap_err(), FrameError::Body, "byte {}", at);
            }
        }
    }

    #[test]
    fn a_cut_frame_says_what_it_lacks(events in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (good, _) = build(9, events, "hq".to_owned(), None).unwrap();
        for have in 0..good.len() {
            let need = if have < HEADER_LEN { HEADER_LEN } else { good.len() };
            prop_assert_eq!(RawFrame::decode(&good[..have]).unwrap_err(), FrameError::Short { have, need });
        }
    }

    #[test]
    fn any_bytes_give_a_frame_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        if let Ok((raw, len)) = RawFrame::decode(&bytes) {
            prop_assert!(len <= bytes.len());
            let _ = (raw.input_section(), raw.events_section(), raw.sends_section());
        }
    }

    /// Crcs that are right are no reason to trust what is inside.
    #[test]
    fn any_sections_give_a_value_or_an_error(
        schema in 0u16..3,
        parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 3),
    ) {
        let mut frame = b"FSF1".to_vec();
        frame.extend(schema.to_le_bytes());
        frame.extend([0; 2 + 8 + 32]);
        parts.iter().for_each(|part| frame.extend(u32::try_from(part.len()).unwrap().to_le_bytes()));
        frame.extend(crc32c::crc32c(&frame).to_le_bytes());
        parts.iter().for_each(|part| frame.extend(part));
        frame.extend([0; 32]);
        frame.extend(crc32c::crc32c(&frame[HEADER_LEN..]).to_le_bytes());
        let (raw, _) = RawFrame::decode(&frame).unwrap();
        let newer = matches!(raw.input_section(), Err(FrameError::Newer { .. }));
        prop_assert_eq!(newer, schema > SCHEMA);
        let _ = (raw.events_section(), raw.sends_section());
    }
}

#[test]
fn a_frame_that_is_too_large_is_not_made() {
    let made = build(1, vec![0; MAX_FRAME], "hq".to_owned(), None);
    assert!(matches!(made, Err(CodecError::TooLarge { max: MAX_FRAME, .. })));
    let (bytes, _) = build(1, vec![0; MAX_FRAME - 1000], "hq".to_owned(), None).unwrap();
    assert!(RawFrame::decode(&bytes).is_ok());
}
