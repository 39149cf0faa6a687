//! The program that `cargo xtask fuzz` builds with libFuzzer inside; `FARSHORE_FUZZ_TARGET` names the target. Built without
//! it there is nothing to run.

#![cfg_attr(fuzzing, no_main)]

#[cfg(fuzzing)]
mod engine {
    use farshore_fuzz::{Target, memory_limit, target};
    use libfuzzer_sys::fuzz_target;
    use peak_alloc::PeakAlloc;
    use std::sync::OnceLock;

    #[global_allocator]
    static MEMORY: PeakAlloc = PeakAlloc;

    static TARGET: OnceLock<Target> = OnceLock::new();

    fn chosen() -> Target {
        let name = std::env::var("FARSHORE_FUZZ_TARGET").expect("FARSHORE_FUZZ_TARGET names a target");
        target(&name).expect("FARSHORE_FUZZ_TARGET names a target that there is")
    }

    fuzz_target!(|bytes: &[u8]| {
        let target = TARGET.get_or_init(chosen);
        let before = MEMORY.current_usage();
        MEMORY.reset_peak_usage();
        (target.run)(bytes);
        let held = MEMORY.peak_usage().saturating_sub(before);
        let limit = memory_limit(bytes.len());
        assert!(
            held <= limit,
            "{held} bytes were held at once for {} bytes of input, at most {limit} may be",
            bytes.len()
        );
    });
}

#[cfg(not(fuzzing))]
fn main() {
    eprintln!("built without an engine; run `cargo xtask fuzz`");
    std::process::exit(2);
}
