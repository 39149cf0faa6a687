//! The list of changed ranges that a backup goes by: a line `offset length` for each, in bytes, as change trackers give it.
//! It may name too much, never too little; so it is made wider to whole blocks, and ranges may overlap.

use crate::failure::Failure;
use std::ops::Range;
use std::path::Path;

const BLOCK: u64 = farshore_format::BLOCK as u64;

/// Reads a list, for a disk of this size: ranges in order and apart.
pub(super) fn read(path: &Path, size: u64) -> Result<Vec<Range<u64>>, Failure> {
    let text = std::fs::read_to_string(path).map_err(|error| Failure::io("read", path, &error))?;
    parse(&text, size).map_err(|(line, why)| {
        let text = format!("{} line {line}: {why}", path.display());
        Failure::new("FS-REPO-CHANGED", text, "write `offset length` in bytes on each line")
    })
}

/// A text of lines `offset length`; `#` begins a remark. The error names the line.
fn parse(text: &str, size: u64) -> Result<Vec<Range<u64>>, (usize, String)> {
    let mut ranges = Vec::new();
    for (number, line) in (1usize..).zip(text.lines()) {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let [offset, length] = words[..] else {
            if words.is_empty() {
                continue;
            }
            return Err((number, format!("{line:?} is not two numbers")));
        };
        let parsed = offset.parse::<u64>().and_then(|offset| Ok((offset, length.parse::<u64>()?)));
        let (offset, length) = parsed.map_err(|error| (number, format!("{line:?}: {error}")))?;
        let end = offset.checked_add(length).ok_or_else(|| (number, format!("{line:?} ends beyond every disk")))?;
        if offset >= size || length == 0 {
            // Of a disk that was larger, or nothing at all.
            continue;
        }
        ranges.push(offset / BLOCK * BLOCK..end.min(size).next_multiple_of(BLOCK).min(size));
    }
    ranges.sort_by_key(|range| range.start);
    let mut apart: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match apart.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => apart.push(range),
        }
    }
    Ok(apart)
}

#[cfg(test)]
#[test]
fn ranges_are_widened_to_blocks_put_in_order_and_joined() {
    let text = "# of vm1\n 9000 1\n0 4096\n\n4096 10 # touches\n40000 9999999\n60000 1\n8 0\n";
    assert_eq!(parse(text, 50_001), Ok(vec![0..12_288, 36_864..50_001]));
    assert_eq!(parse("", 10), Ok(vec![]));
    for (wrong, line) in [("1", 1), ("0 1\nx 2", 2), ("0 1 2", 1), ("-1 5", 1), ("1 18446744073709551615", 1)] {
        assert_eq!(parse(wrong, 1 << 30).unwrap_err().0, line, "{wrong:?}");
    }
}
