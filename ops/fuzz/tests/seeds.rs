//! Every target on its seeds, on every one-byte change and every cut of them, and on what was once found.

use farshore_fuzz::{TARGETS, Target, memory_limit, target};
use peak_alloc::PeakAlloc;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Memory is that of the whole process: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn run(target: &Target, bytes: &[u8]) {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    (target.run)(bytes);
    let (held, limit) = (MEMORY.peak_usage().saturating_sub(before), memory_limit(bytes.len()));
    assert!(
        held <= limit,
        "{}: {held} bytes were held for {} bytes of input, at most {limit} may be",
        target.name,
        bytes.len()
    );
}

#[test]
fn every_target_withstands_its_seeds_each_changed_and_cut_anywhere() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for target in TARGETS {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has something to begin with", target.name);
        for seed in seeds {
            run(&target, &seed);
            // Of long seeds every so many bytes, so that the test stays short.
            for at in (0..seed.len()).step_by(seed.len().div_ceil(600).max(1)) {
                run(&target, &seed[..at]);
                for change in [0x01, 0x80, 0xff] {
                    let mut changed = seed.clone();
                    changed[at] ^= change;
                    run(&target, &changed);
                }
            }
        }
    }
}

/// `found/<target>/*`: inputs that once broke a promise.
#[test]
fn nothing_that_was_found_comes_back() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("found");
    for folder in
        std::fs::read_dir(found).expect("the folder is in the repository").map(|entry| entry.expect("it is listed"))
    {
        let name = folder.file_name().into_string().expect("targets have plain names");
        let Some(target) = target(&name) else { continue };
        for input in std::fs::read_dir(folder.path()).expect("it is listed") {
            let input = input.expect("it is listed").path();
            run(&target, &std::fs::read(&input).expect("it is read"));
        }
    }
}
