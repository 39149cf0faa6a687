//! Reads a plain segment from end to end and judges it: whole, torn, or damaged. Everything that has to decide what a
//! broken byte means asks here: recovery, verify, seal, and a reader that has stumbled.
//!
//! A crash during a write leaves bytes of the last group unwritten: past the end of the file, or still zero. So a frame
//! that cannot be read is *torn* only if bytes that it needs are missing and no readable group follows (a group is
//! written only after the one before it is durable). Every other broken byte is *damage*.

use crate::chain::{Chain, frame_hash};
use crate::error::{LogError, Problem, ProblemKind};
use crate::folder::{SegmentFile, read_plain};
use crate::group::{GROUP_ALIGN, GROUP_HEADER_LEN, GroupHeader, PADDING};
use crate::header::{Form, SEGMENT_HEADER_LEN, SegmentHeader};
use farshore_schemas::frame::{HEADER_LEN, Header, RawFrame};
use farshore_schemas::ids::{Digest, Seq};
use std::path::Path;
use std::time::Duration;

/// What is written at once or not at all, on every disk there is.
const SECTOR: usize = 512;
/// Longer than a write that is under way takes.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A segment, read.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) header: SegmentHeader,
    /// The last frame kept, or what stands before the first.
    pub(crate) tail: (Seq, Digest),
    /// Where the next group goes when nothing is torn.
    pub(crate) end: u64,
    pub(crate) torn: Option<Torn>,
}

/// An unfinished write at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn {
    /// Where what is kept ends.
    pub(crate) kept_end: u64,
    /// The group that is cut short: how it has to read from now on, if frames of it are kept.
    pub(crate) group: Option<GroupHeader>,
}

/// Called for each whole frame with its offset and bytes.
pub(crate) type EachFrame<'a> = dyn FnMut(u64, &[u8], Digest) + 'a;

/// Reads all of a segment's bytes.
///
/// # Errors
/// [`LogError::Damaged`], [`LogError::Newer`].
pub(crate) fn scan(file: &Path, first: Seq, bytes: &[u8], each: &mut EachFrame<'_>) -> Result<Scan, LogError> {
    let header = SegmentHeader::decode(bytes, file, first)?;
    if header.form != Form::Plain {
        return Err(Problem::at(file, 10, first, ProblemKind::SegmentHeader("it is a sealed segment")).into());
    }
    let chain = Chain::of(&header);
    let mut scanner = Scanner { file, bytes, chain, at: SEGMENT_HEADER_LEN, each };
    let torn = loop {
        match scanner.group()? {
            Step::Whole => {}
            Step::End => break None,
            Step::Torn(torn) => break Some(torn),
        }
    };
    Ok(Scan { header, tail: scanner.chain.tail(), end: scanner.at as u64, torn })
}

/// What a look at a plain segment's file gives.
pub(crate) struct Look {
    /// What its bytes mean.
    pub(crate) scan: Result<Scan, LogError>,
    /// Frames that are right.
    pub(crate) frames: u64,
}

/// Reads a plain segment's file and judges it; none when it has been sealed since the folder was listed.
///
/// A read that meets a write of a site that runs gets some pages from before it and some from after, which looks like
/// damage. Damage counts only when two reads find the same bytes, a moment apart if somebody else `may_write`.
///
/// # Errors
/// [`LogError::Io`]; damage is in the look.
pub(crate) fn look(file: &SegmentFile, may_write: impl Fn() -> bool) -> Result<Option<Look>, LogError> {
    let mut before: Option<Vec<u8>> = None;
    loop {
        let Some(bytes) = read_plain(file)? else { return Ok(None) };
        let mut frames = 0;
        let scan = scan(&file.path, file.first, &bytes, &mut |_, _, _| frames += 1);
        let settled = !matches!(scan, Err(LogError::Damaged(_))) || before.as_ref() == Some(&bytes);
        if settled {
            return Ok(Some(Look { scan, frames }));
        }
        before = Some(bytes);
        if may_write() {
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }
}

enum Step {
    Whole,
    End,
    Torn(Torn),
}

struct Scanner<'a, 'e> {
    file: &'a Path,
    bytes: &'a [u8],
    chain: Chain,
    at: usize,
    each: &'a mut EachFrame<'e>,
}

impl Scanner<'_, '_> {
    fn problem(&self, at: usize, kind: ProblemKind) -> Problem {
        Problem::at(self.file, at as u64, self.chain.next, kind)
    }

    /// Reads one group.
    fn group(&mut self) -> Result<Step, Problem> {
        let start = self.at;
        let rest = self.bytes.get(start..).unwrap_or_default();
        if is_zero(rest) {
            return Ok(Step::End);
        }
        let nothing_kept = Torn { kept_end: start as u64, group: None };
        let header = match rest.first_chunk::<GROUP_HEADER_LEN>() {
            None => return Ok(Step::Torn(nothing_kept)),
            Some(raw) if is_zero(raw) => {
                return self.torn_unless_followed(start, start, ProblemKind::Group("it is all zeros"), nothing_kept);
            }
            Some(raw) => {
                GroupHeader::decode(raw, start as u64).map_err(|why| self.problem(start, ProblemKind::Group(why)))?
            }
        };
        if header.first != self.chain.next {
            let kind = ProblemKind::Seq { found: header.first, expected: self.chain.next };
            return Err(self.problem(start, kind));
        }
        self.at += GROUP_HEADER_LEN;
        for kept in 0..header.frames {
            if let Some(torn) = self.frame(&header, kept)? {
                return Ok(Step::Torn(torn));
            }
        }
        self.padding(&header)
    }

    /// Reads the next frame of a group; `kept` is how many of it were read before.
    fn frame(&mut self, group: &GroupHeader, kept: u32) -> Result<Option<Torn>, Problem> {
        let at = self.at;
        let frames_end = usize::try_from(group.frames_end()).expect("checked against MAX_GROUP");
        let here = self.bytes.get(at..frames_end.min(self.bytes.len()).max(at)).unwrap_or_default();
        let error = match RawFrame::decode(here) {
            Ok((frame, len)) => {
                self.chain.check(&frame).map_err(|kind| self.problem(at, kind))?;
                let hash = frame_hash(&here[..len]);
                (self.each)(at as u64, &here[..len], hash);
                self.chain.advance(hash);
                self.at += len;
                return Ok(None);
            }
            Err(error) => error,
        };
        // What the frame needs to be readable: its header, and if that is right, all of it.
        let need = Header::decode(here).map_or(HEADER_LEN, |header| header.frame_len());
        let damage = ProblemKind::Frame(error);
        if at + need > frames_end || !self.is_missing(group, at, at + need) {
            return Err(self.problem(at, damage));
        }
        let end = usize::try_from(group.end()).expect("checked against MAX_GROUP");
        match self.torn_unless_followed(at, end, damage, cut(group, kept, at))? {
            Step::Torn(torn) => Ok(Some(torn)),
            Step::Whole | Step::End => Ok(None),
        }
    }

    /// Checks what fills the group up.
    fn padding(&mut self, group: &GroupHeader) -> Result<Step, Problem> {
        let at = self.at;
        let end = usize::try_from(group.end()).expect("checked against MAX_GROUP");
        if at as u64 != group.frames_end() {
            return Err(self.problem(at, ProblemKind::Group("its frames are shorter than it says")));
        }
        let padding = self.bytes.get(at..end.min(self.bytes.len())).unwrap_or_default();
        if padding.len() == end - at && padding.iter().all(|byte| *byte == PADDING) {
            self.at = end;
            return Ok(Step::Whole);
        }
        if !self.is_missing(group, at, end) {
            return Err(self.problem(at, ProblemKind::Padding));
        }
        self.torn_unless_followed(at, end, ProblemKind::Padding, cut(group, group.frames, at))
    }

    /// Whether bytes of `from..to` were never written: they lie past the end of the file, everything of the group from them on is
    /// zero, or all that the group has in their sector is zero.
    fn is_missing(&self, group: &GroupHeader, from: usize, to: usize) -> bool {
        let start = usize::try_from(group.offset).expect("an offset in a file that was read");
        let end = usize::try_from(group.end()).expect("checked against MAX_GROUP").min(self.bytes.len());
        let there = self.bytes.get(start..end).unwrap_or_default();
        let written = there.iter().rposition(|byte| *byte != 0).map_or(start, |last| start + last + 1);
        if to > written {
            return true;
        }
        (from / SECTOR..=(to - 1) / SECTOR).any(|sector| {
            let part = (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(end);
            self.bytes.get(part).is_some_and(is_zero)
        })
    }

    /// Torn, unless a readable group stands at or after `from`: then what is broken at `at` had been durable.
    fn torn_unless_followed(&self, at: usize, from: usize, damage: ProblemKind, torn: Torn) -> Result<Step, Problem> {
        let align = GROUP_ALIGN as usize;
        let mut place = from.next_multiple_of(align);
        while let Some(raw) = self.bytes.get(place..).and_then(|rest| rest.first_chunk::<GROUP_HEADER_LEN>()) {
            if GroupHeader::decode(raw, place as u64).is_ok_and(|later| later.first > self.chain.next) {
                return Err(self.problem(at, damage));
            }
            place += align;
        }
        Ok(Step::Torn(torn))
    }
}

/// A group that keeps its first `kept` frames, which end at `at`.
fn cut(group: &GroupHeader, kept: u32, at: usize) -> Torn {
    if kept == 0 {
        return Torn { kept_end: group.offset, group: None };
    }
    let len = at as u64 - group.offset - GROUP_HEADER_LEN as u64;
    let len = u32::try_from(len).expect("a part of a length that is a u32");
    Torn { kept_end: at as u64, group: Some(GroupHeader { len, frames: kept, ..*group }) }
}

pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}
