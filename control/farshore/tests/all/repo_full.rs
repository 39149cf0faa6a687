//! A repository on a file system that is wholly full.

use crate::support::{FARSHORE, text, tool, tool_runs};
use std::fs;

/// Three days in a folder of 24 MiB, in a mount namespace of the script's own; the rest of it is filled up by somebody else. Of
/// the first two days' packs a quarter is on the third, too, so that a prune would like to write that anew.
const SCRIPT: &str = r#"set -e
far="$1"; cd "$0"; mkdir r; mount -t tmpfs -o size=24m none r
free() { stat -f -c %a r; }
"$far" -q repo init r --name r >&2
for day in one two three; do "$far" -q repo backup r $day.raw --vm web --point $day >&2; done
dd if=/dev/zero of=r/filler bs=4k status=none 2>/dev/null || true
while echo >> r/filler-$(ls r | wc -l) ; do :; done 2>/dev/null
test "$(free)" = 0
"$far" -q repo backup r other.raw --vm other >&2 && exit 97
test "$(free)" = 0
"$far" -q repo prune r --keep 1 --apply >&2
"$far" -q repo prune r --keep 1 --apply >&2
test "$(free)" -gt 1024
test -e r/reserve
"$far" -q repo backup r other.raw --vm other --point other >&2
"$far" -q repo verify r >&2
"$far" -q repo restore r three --to out >&2
"$far" -q repo points r -o json
"#;

#[test]
fn a_prune_frees_space_on_a_disk_that_is_wholly_full() {
    let folder = tempfile::tempdir().unwrap();
    let noise = |seed: u32, bytes: u32| -> Vec<u8> {
        let word = |number: u32| (number ^ seed << 24).wrapping_mul(2_654_435_761).rotate_left(number % 31);
        (0..bytes / 4).flat_map(|number| word(number).to_le_bytes()).collect()
    };
    for (seed, name, bytes) in [(1, "one", 4), (2, "two", 4), (3, "three", 4), (4, "other", 3)] {
        let shared = if name == "other" { Vec::new() } else { noise(9, 1 << 20) };
        fs::write(folder.path().join(format!("{name}.raw")), [shared, noise(seed, bytes << 20)].concat()).unwrap();
    }
    let mut wrapped = tool("unshare", "util-linux");
    let script = ["--mount", "--map-root-user", "sh", "-c", SCRIPT, text(folder.path()), FARSHORE];
    let said = tool_runs(wrapped.args(script));
    assert!(said.contains("three") && said.contains("other") && !said.contains("\"one\""), "{said}");
    let (out, disk) = (folder.path().join("out/three.raw"), folder.path().join("three.raw"));
    assert!(fs::read(out).unwrap() == fs::read(disk).unwrap());
}
