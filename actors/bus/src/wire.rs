//! The one place where messages become bytes and bytes become messages.

use crate::{Bus, BusError};
use bytes::Bytes;
use farshore_schemas::codec::{self, CodecError};
use farshore_schemas::envelope::Wire;

/// Encodes and publishes.
///
/// # Errors
/// As [`Bus::publish`].
pub fn send_wire(bus: &dyn Bus, subject: &str, wire: &Wire) -> Result<(), BusError> {
    bus.publish(subject, Bytes::from(codec::encode(wire)))
}

/// Decodes what came from the bus: any bytes at all give a message or an error, within the codec's limits.
///
/// # Errors
/// [`CodecError`].
pub fn decode_wire(bytes: &[u8]) -> Result<Wire, CodecError> {
    codec::decode(bytes)
}
