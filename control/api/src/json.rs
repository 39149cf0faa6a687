//! MessagePack as people and scripts read it: the same names, bytes in hexadecimal.

use farshore_schemas::codec::MAX_DEPTH;
use serde_json::{Map, Number, Value};

/// Turns MessagePack into JSON. Bytes become hexadecimal text; keys that are no text are written as their JSON.
/// What does not decode becomes a text that says so, since this is for showing only.
pub fn from_msgpack(bytes: &[u8]) -> Value {
    let mut rest = bytes;
    match rmpv::decode::read_value_with_max_depth(&mut rest, MAX_DEPTH) {
        Ok(value) => convert(value),
        Err(error) => Value::String(format!("not readable: {error}")),
    }
}

fn convert(value: rmpv::Value) -> Value {
    match value {
        rmpv::Value::Nil => Value::Null,
        rmpv::Value::Boolean(is) => Value::Bool(is),
        rmpv::Value::Integer(number) => integer(number),
        rmpv::Value::F32(number) => Number::from_f64(f64::from(number)).map_or(Value::Null, Value::Number),
        rmpv::Value::F64(number) => Number::from_f64(number).map_or(Value::Null, Value::Number),
        rmpv::Value::String(text) => Value::String(text.into_str().unwrap_or_default()),
        rmpv::Value::Binary(bytes) => Value::String(hex(&bytes)),
        rmpv::Value::Array(items) => Value::Array(items.into_iter().map(convert).collect()),
        rmpv::Value::Map(fields) => Value::Object(fields.into_iter().map(field).collect::<Map<_, _>>()),
        rmpv::Value::Ext(_, bytes) => Value::String(hex(&bytes)),
    }
}

fn integer(number: rmpv::Integer) -> Value {
    number.as_u64().map(Value::from).or_else(|| number.as_i64().map(Value::from)).unwrap_or(Value::Null)
}

fn field((key, value): (rmpv::Value, rmpv::Value)) -> (String, Value) {
    let key = match convert(key) {
        Value::String(text) => text,
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
            other.to_string()
        }
    };
    (key, convert(value))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use farshore_schemas::codec;
    use farshore_schemas::ids::{Digest, SiteName};

    #[test]
    fn names_numbers_and_digests_are_readable() {
        let value = (SiteName::parse("hq").expect("legal"), 7u64, -7i64, Digest([0xab; 32]));
        let json = from_msgpack(&codec::encode(&value));
        assert_eq!(json, serde_json::json!(["hq", 7, -7, "ab".repeat(32)]));
    }

    #[test]
    fn what_does_not_decode_is_said() {
        assert!(from_msgpack(&[0xda, 0x01]).as_str().is_some_and(|text| text.starts_with("not readable")));
    }
}
