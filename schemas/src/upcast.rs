//! Old frames, read by a new program. A frame's header names the schema of its sections; each upcaster lifts one section
//! from its schema to the next, as a MessagePack value. Events are never rewritten on disk.

use crate::codec::{self, CodecError};
use crate::frame::{FrameError, SCHEMA};
use serde::de::DeserializeOwned;

/// Which section of a frame (or baseline) a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Section {
    /// What was decided on.
    Input,
    /// What folding needs.
    Events,
    /// What was sent.
    Sends,
}

/// Lifts a section from schema `from` to `from + 1`.
struct Upcaster {
    from: u16,
    section: Section,
    lift: fn(&mut rmpv::Value),
}

/// Every change of a stored type since schema 0, oldest first.
const UPCASTERS: &[Upcaster] = &[Upcaster { from: 0, section: Section::Events, lift: acked_is_a_list_since_1 }];

/// Schema 0 (development logs before the first release) had no `acked` in the events section.
fn acked_is_a_list_since_1(section: &mut rmpv::Value) {
    if let rmpv::Value::Map(fields) = section
        && !fields.iter().any(|(key, _)| key.as_str() == Some("acked"))
    {
        fields.push((rmpv::Value::from("acked"), rmpv::Value::Array(Vec::new())));
    }
}

/// Decodes a section of a frame that was written with `schema`.
///
/// # Errors
/// [`FrameError::Newer`] for a schema that this program does not know, [`FrameError::Section`] for what does not decode.
pub fn decode<T: DeserializeOwned>(schema: u16, section: Section, bytes: &[u8]) -> Result<T, FrameError> {
    if schema == SCHEMA {
        return Ok(codec::decode_checked(bytes)?);
    }
    if schema > SCHEMA {
        return Err(FrameError::Newer { found: schema, known: SCHEMA });
    }
    let mut rest = bytes;
    let mut value = rmpv::decode::read_value_with_max_depth(&mut rest, codec::MAX_DEPTH)
        .map_err(|error| CodecError::WrongShape { what: "MessagePack value", why: error.to_string() })?;
    UPCASTERS
        .iter()
        .filter(|upcaster| upcaster.from >= schema && upcaster.section == section)
        .for_each(|upcaster| (upcaster.lift)(&mut value));
    let mut lifted = Vec::with_capacity(bytes.len() + 16);
    rmpv::encode::write_value(&mut lifted, &value)
        .map_err(|error| CodecError::WrongShape { what: "MessagePack value", why: error.to_string() })?;
    Ok(codec::decode_checked(&lifted)?)
}
