//! A golden file that no test names holds nothing.

use super::{Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let golden = tree.files.keys().filter(|path| path.split('/').rev().skip(1).any(|folder| folder == "golden"));
    let unused = golden.filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        !tree.rust().any(|(_, text)| names(text, name))
    });
    unused
        .map(|path| {
            Finding::new(
                (path, 1),
                "golden file without a test",
                "no Rust file names it, so nothing would notice a change",
                "name it in a test that reads it; never delete one that was ever released",
            )
        })
        .collect()
}

/// Whether a text names a file: in full, without its ending but then as a whole string, or with its number left open, as
/// `frame-v{schema}.bin` names `frame-v1.bin`.
fn names(text: &str, name: &str) -> bool {
    let stem = format!("\"{}\"", name.split('.').next().unwrap_or_default());
    text.contains(name) || text.contains(&stem) || names_by_number(text, name)
}

fn names_by_number(text: &str, name: &str) -> bool {
    let Some(start) = name.find(|c: char| c.is_ascii_digit()).filter(|start| *start > 0) else { return false };
    let (head, digits) = name.split_at(start);
    let tail = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    let open = format!("{head}{{");
    text.match_indices(&open).any(|(at, _)| {
        let inside = text[at + open.len()..].split_once('}');
        inside.is_some_and(|(_, rest)| rest.starts_with(tail))
    })
}
