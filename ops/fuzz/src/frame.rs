//! Frames of the log.

use crate::seeds::golden;
use farshore_schemas::frame::{EventsSection, InputSection, RawFrame, SendsSection};
use farshore_schemas::upcast::{Section, decode};

pub(crate) fn run(bytes: &[u8]) {
    if let Ok((frame, len)) = RawFrame::decode(bytes) {
        assert!(len <= bytes.len(), "a frame lies in the bytes that it was read from");
        let _ = (frame.input_section(), frame.events_section(), frame.sends_section());
    }
    // Behind the crcs: the schema by the first byte, which section by the second.
    let ([schema, which], section) = crate::head::<2>(bytes);
    let schema = u16::from(schema % 3);
    match which % 3 {
        0 => again(decode::<InputSection>(schema, Section::Input, section).ok()),
        1 => again(decode::<EventsSection>(schema, Section::Events, section).ok()),
        _ => again(decode::<SendsSection>(schema, Section::Sends, section).ok()),
    }
}

/// What was read can be written, and reads the same.
fn again<T>(value: Option<T>)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let Some(value) = value else { return };
    let bytes = farshore_schemas::codec::encode(&value);
    assert_eq!(farshore_schemas::codec::decode::<T>(&bytes).as_ref(), Ok(&value));
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for name in ["frame-v0.bin", "frame-v1.bin"] {
        let bytes = std::fs::read(golden(name)).expect("the golden files are in the repository");
        let mut rest = bytes.as_slice();
        while let Ok((frame, len)) = RawFrame::decode(rest) {
            seeds.push(rest[..len].to_vec());
            let sections = [frame.input, frame.events, frame.sends];
            seeds.extend(
                (0u8..)
                    .zip(sections)
                    .map(|(which, section)| [[frame.header.schema as u8, which].as_slice(), section].concat()),
            );
            rest = &rest[len..];
        }
    }
    seeds
}
