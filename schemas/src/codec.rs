//! The one codec: MessagePack maps with named fields. Decoding has limits, consumes its whole input and never panics.
//! `rmp-serde` alone aborts a debug build at depth 1000 and accepts trailing bytes, so both are guarded here.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The deepest nesting that is decoded.
pub const MAX_DEPTH: usize = 64;
/// The largest message on the bus, in bytes: a frame that records it as its input still fits [`crate::frame::MAX_FRAME`].
pub const MAX_MESSAGE: usize = 192 * 1024;

/// Why bytes were not decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// More bytes than allowed.
    #[error("{len} bytes are more than the {max} allowed here")]
    TooLarge {
        /// Their count.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// Nested deeper than [`MAX_DEPTH`], or a length that the input cannot hold.
    #[error("not well-formed MessagePack at byte {at}: {why}")]
    Malformed {
        /// Where.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// Well-formed, but not this type.
    #[error("not a {what}: {why}")]
    WrongShape {
        /// The Rust type's name.
        what: &'static str,
        /// What serde says.
        why: String,
    },
}

/// Encodes with named fields.
///
/// # Panics
/// Never for the types of this crate: they hold no map with keys that MessagePack cannot write and no failing
/// serializer.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect("our types serialize without error")
}

/// Decodes exactly one value from all of `bytes`, at most [`MAX_MESSAGE`] of them.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_limited(bytes, MAX_MESSAGE)
}

/// Decodes exactly one value from all of `bytes`, at most `max` of them.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_limited<T: DeserializeOwned>(bytes: &[u8], max: usize) -> Result<T, CodecError> {
    if bytes.len() > max {
        return Err(CodecError::TooLarge { len: bytes.len(), max });
    }
    decode_checked(bytes)
}

/// Decodes bytes whose crc has vouched for them: our own frames, read back. Only how many there may be is not limited: a crc
/// is no seal, and what says that a billion elements follow takes no memory for them.
///
/// # Errors
/// [`CodecError`] for anything else.
pub fn decode_checked<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    check(bytes)?;
    let wrong = |why: String| CodecError::WrongShape { what: std::any::type_name::<T>(), why };
    let mut deserializer = rmp_serde::Deserializer::from_read_ref(bytes);
    deserializer.set_max_depth(MAX_DEPTH * 2);
    T::deserialize(&mut deserializer).map_err(|error| wrong(error.to_string()))
}

/// Walks the bytes once without allocating: one value, nothing after it, depth and lengths within bounds. What passes
/// cannot make serde allocate more than its own size suggests, nor recurse deeper than [`MAX_DEPTH`].
fn check(bytes: &[u8]) -> Result<(), CodecError> {
    let mut open: Vec<u64> = Vec::with_capacity(MAX_DEPTH);
    let mut at = 0usize;
    loop {
        let malformed = |why| CodecError::Malformed { at, why };
        let head = *bytes.get(at).ok_or(malformed("it ends in the middle of a value"))?;
        let rest = &bytes[at + 1..];
        let be = |n: usize| -> Result<u64, CodecError> {
            let raw = rest.get(..n).ok_or(malformed("it ends in the middle of a length"))?;
            Ok(raw.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
        };
        // (bytes of length field, bytes of payload, elements that follow)
        let (len_field, payload, elements) = match head {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => (0, 0, 0),
            0x80..=0x8f => (0, 0, 2 * u64::from(head & 0x0f)),
            0x90..=0x9f => (0, 0, u64::from(head & 0x0f)),
            0xa0..=0xbf => (0, u64::from(head & 0x1f), 0),
            0xc4 | 0xd9 => (1, be(1)?, 0),
            0xc5 | 0xda => (2, be(2)?, 0),
            0xc6 | 0xdb => (4, be(4)?, 0),
            0xca | 0xce | 0xd2 => (0, 4, 0),
            0xcb | 0xcf | 0xd3 => (0, 8, 0),
            0xcc | 0xd0 => (0, 1, 0),
            0xcd | 0xd1 => (0, 2, 0),
            0xdc => (2, 0, be(2)?),
            0xdd => (4, 0, be(4)?),
            0xde => (2, 0, 2 * be(2)?),
            0xdf => (4, 0, 2 * be(4)?),
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(malformed("a type that is not used here")),
        };
        let left = (bytes.len() - at - 1) as u64;
        if payload + len_field as u64 > left || elements > left {
            return Err(malformed("a length that the input cannot hold"));
        }
        at += 1 + len_field + payload as usize;
        if elements > 0 {
            if open.len() == MAX_DEPTH {
                return Err(CodecError::Malformed { at, why: "nested too deeply" });
            }
            open.push(elements);
            continue;
        }
        // A value has ended: close every container that it completes.
        while let Some(remaining) = open.last_mut() {
            *remaining -= 1;
            if *remaining > 0 {
                break;
            }
            open.pop();
        }
        if open.is_empty() {
            return if at == bytes.len() {
                Ok(())
            } else {
                Err(CodecError::Malformed { at, why: "bytes after the value" })
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u8);
        bytes.push(0);
        assert_eq!(decode::<u8>(&bytes), Err(CodecError::Malformed { at: 1, why: "bytes after the value" }));
    }

    #[test]
    fn deep_nesting_is_refused_before_serde_sees_it() {
        let bytes = vec![0x91; 100_000];
        assert!(matches!(decode::<u8>(&bytes), Err(CodecError::Malformed { why: "nested too deeply", .. })));
    }

    #[test]
    fn a_length_beyond_the_input_is_refused() {
        assert!(matches!(decode::<Vec<u8>>(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Err(CodecError::Malformed { .. })));
        assert!(matches!(decode::<String>(&[0xdb, 0xff, 0xff, 0xff, 0xff]), Err(CodecError::Malformed { .. })));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512)) {
            let _ = decode::<crate::envelope::Wire>(&bytes);
        }
    }
}
