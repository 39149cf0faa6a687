//! Golden files of samples: text, one line per sample, `kind label bytes`, sorted. The bytes are what the one codec writes:
//! printable ASCII as it is, all else as `\xNN`, so that a reviewer sees names and values in a diff.
//!
//! `FARSHORE_WRITE_GOLDEN=1` adds the lines of new samples. It never changes or removes a line: what was once written must be
//! read for ever. (Before the first release a format may still change: delete its file, then write it anew.)

use super::samples;
use farshore_schemas::codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::path::{Path, PathBuf};

/// A golden file, and what is wrong with it so far.
pub(crate) struct Golden {
    path: PathBuf,
    kept: BTreeMap<String, String>,
    new: BTreeMap<String, String>,
    wrong: Vec<String>,
}

impl Golden {
    /// Reads a file; one that is not there yet is empty.
    pub(crate) fn open(folder: &str, name: &str) -> Golden {
        let path = Path::new(folder).join("tests/golden").join(name);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let mut kept = BTreeMap::new();
        for line in text.lines() {
            let (label, bytes) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{}: {line}", path.display()));
            assert!(kept.insert(label.to_owned(), bytes.to_owned()).is_none(), "{}: {label} twice", path.display());
        }
        Golden { path, kept, new: BTreeMap::new(), wrong: Vec::new() }
    }

    /// Holds every sample of a type against the file's lines of this kind, and every such line against the type.
    pub(crate) fn hold<T: Serialize + DeserializeOwned + PartialEq + Debug>(&mut self, kind: &str, opaque: &[&str]) {
        let samples = samples::<T>(opaque);
        for (label, sample) in &samples {
            let label = format!("{kind} {label}");
            let bytes = escape(&codec::encode(sample));
            match self.kept.get(&label) {
                None => drop(self.new.insert(label, bytes)),
                Some(kept) if *kept == bytes => {}
                Some(kept) => self.wrong.push(format!("{label} was written as\n    {kept}\n  and now is\n    {bytes}")),
            }
        }
        let prefix = format!("{kind} ");
        for (label, bytes) in self.kept.iter().filter(|(label, _)| label.starts_with(&prefix)) {
            let raw = unescape(bytes);
            match codec::decode::<T>(&raw) {
                Err(error) => self.wrong.push(format!("{label} is not read any more: {error}")),
                Ok(read) if codec::encode(&read) != raw => self.wrong.push(format!("{label} is written otherwise now")),
                Ok(read) => match samples.get(&label[prefix.len()..]) {
                    Some(sample) if *sample != read => self.wrong.push(format!("{label} is read as {read:?}")),
                    Some(_) | None => {}
                },
            }
        }
    }

    /// Ends the test: writes what is new when that is asked for, and fails when something is wrong or not there.
    pub(crate) fn finish(mut self) {
        let path = self.path.display();
        assert!(
            self.wrong.is_empty(),
            "{path}: a stored type has changed: raise SCHEMA and write an upcaster\n  {}",
            self.wrong.join("\n  ")
        );
        if std::env::var_os("FARSHORE_WRITE_GOLDEN").is_some() {
            self.kept.append(&mut self.new);
            let mut text = String::new();
            self.kept.iter().for_each(|(label, bytes)| text.push_str(&format!("{label} {bytes}\n")));
            std::fs::write(&self.path, text).unwrap_or_else(|error| panic!("{path}: {error}"));
        }
        let missing: Vec<&String> = self.new.keys().collect();
        assert!(missing.is_empty(), "{path}: write the lines of {missing:?} with FARSHORE_WRITE_GOLDEN=1");
    }
}

fn escape(bytes: &[u8]) -> String {
    let mut text = String::new();
    for &byte in bytes {
        if byte.is_ascii_graphic() && byte != b'\\' {
            text.push(char::from(byte));
        } else {
            write!(text, "\\x{byte:02x}").expect("text takes text");
        }
    }
    text
}

fn unescape(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if first == '\\' {
            bytes.push(u8::from_str_radix(&rest[2..4], 16).expect("\\x and two digits"));
            rest = &rest[4..];
        } else {
            bytes.push(u8::try_from(first).expect("ASCII"));
            rest = &rest[1..];
        }
    }
    bytes
}
