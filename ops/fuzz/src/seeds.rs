//! Seeds from the golden files.

use std::path::Path;

/// The bytes of each line of `schemas/tests/golden/<name>`: the third word, where `\xNN` stands for a byte.
pub(crate) fn golden_lines(name: &str) -> Vec<Vec<u8>> {
    let text = std::fs::read_to_string(golden(name)).expect("the golden files are in the repository");
    text.lines().filter_map(|line| line.splitn(3, ' ').nth(2)).map(unescaped).collect()
}

/// A golden file's path.
pub(crate) fn golden(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/tests/golden").join(name)
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"x").and_then(|hex| hex.get(..2)).filter(|_| *first == b'\\');
        let byte = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[3..] } else { after };
    }
    bytes
}
