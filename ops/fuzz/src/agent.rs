//! What control and agents say to each other, on the bus and in envelopes, and agents among themselves on the data channel.

use crate::seeds::golden_lines;
use farshore_schemas::codec;
use farshore_schemas::envelope::{Envelope, Wire};
use farshore_schemas::messages::agent::{Command, Outcome};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

pub(crate) fn run(bytes: &[u8]) {
    try_as::<Wire>(bytes);
    try_as::<Envelope>(bytes);
    try_as::<Command>(bytes);
    try_as::<Outcome>(bytes);
    farshore_agent::hostile::feed(bytes);
}

fn try_as<T: Serialize + DeserializeOwned + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(value) = codec::decode::<T>(bytes) {
        assert_eq!(codec::decode::<T>(&codec::encode(&value)).as_ref(), Ok(&value));
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let said = ["agent-v1.txt", "carriers-v1.txt"].into_iter().flat_map(golden_lines);
    said.chain(farshore_agent::hostile::samples()).collect()
}
