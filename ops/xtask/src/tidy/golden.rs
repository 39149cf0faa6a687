//! A golden file that no test names holds nothing.

use super::{Finding, Tree};

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let golden = tree.files.keys().filter(|path| path.split('/').rev().skip(1).any(|folder| folder == "golden"));
    let unused = golden.filter(|path| {
        let name = path.rsplit('/').next().unwrap_or_default();
        // A test may put the ending on by itself, so the name may stand without it, but then as a whole string.
        let stem = format!("\"{}\"", name.split('.').next().unwrap_or_default());
        !tree.rust().any(|(_, text)| text.contains(name) || text.contains(&stem))
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
