//! Every target on its seeds, on every one-byte change and every cut of them, and on what was once found.

use farshore_fuzz::{TARGETS, target};
use std::path::Path;

#[test]
fn every_target_withstands_its_seeds_each_changed_and_cut_anywhere() {
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has something to begin with", target.name);
        for seed in seeds {
            (target.run)(&seed);
            // Of long seeds every so many bytes, so that the test stays short.
            for at in (0..seed.len()).step_by(seed.len().div_ceil(600).max(1)) {
                (target.run)(&seed[..at]);
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] ^= change;
                    (target.run)(&changed);
                }
            }
        }
    }
}

/// `found/<target>/*`: inputs that once broke a promise.
#[test]
fn nothing_that_was_found_comes_back() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for folder in
        std::fs::read_dir(found).expect("the folder is in the repository").map(|entry| entry.expect("it is listed"))
    {
        let name = folder.file_name().into_string().expect("targets have plain names");
        let Some(target) = target(&name) else { continue };
        for input in std::fs::read_dir(folder.path()).expect("it is listed") {
            let input = input.expect("it is listed").path();
            (target.run)(&std::fs::read(&input).expect("it is read"));
        }
    }
}
