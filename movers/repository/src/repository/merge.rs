//! Walking through segments of the index in order of ids, and through two of them as one.

use super::index::Part;
use crate::Result;
use crate::io::Io;
use farshore_format::repository::{ChunkId, Place};
use std::collections::BTreeSet;

/// The entries of a segment in order, with the numbers of packs here.
pub(super) struct Walk<'a> {
    io: &'a Io,
    /// Packs that are there: what another pack held is passed over, so that it does not hide a copy that is there.
    there: &'a BTreeSet<u32>,
    part: &'a Part,
    page: u64,
    entries: std::vec::IntoIter<(ChunkId, Place)>,
    ahead: Option<(ChunkId, Place)>,
}

impl<'a> Walk<'a> {
    pub(super) fn new((io, there): (&'a Io, &'a BTreeSet<u32>), part: &'a Part) -> Walk<'a> {
        Walk { io, there, part, page: 0, entries: Vec::new().into_iter(), ahead: None }
    }

    fn peek(&mut self) -> Result<Option<ChunkId>> {
        while self.ahead.is_none() {
            if let Some((id, place)) = self.entries.next() {
                let pack = self.part.packs.get(place.pack as usize).copied().unwrap_or(u32::MAX);
                self.ahead = self.there.contains(&pack).then_some((id, Place { pack, ..place }));
            } else if self.page < self.part.segment.header.pages() {
                let entries = self.part.segment.page(self.io, self.page)?;
                self.entries = Vec::clone(&entries).into_iter();
                self.page += 1;
            } else {
                return Ok(None);
            }
        }
        Ok(self.ahead.map(|(id, _)| id))
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<(ChunkId, Place)>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.peek() {
            Ok(_) => self.ahead.take().map(Ok),
            Err(error) => Some(Err(error)),
        }
    }
}

/// Two segments as one: where both have an id, the entry that can be better counted on, and of equals that of the newer.
pub(super) struct Merge<'a> {
    pub(super) left: Walk<'a>,
    pub(super) right: Walk<'a>,
    /// How little a place can be counted on: 0 for one that lasts.
    pub(super) doubt: &'a dyn Fn(&Place) -> u8,
}

impl Iterator for Merge<'_> {
    type Item = Result<(ChunkId, Place)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (left, right) = match (self.left.peek(), self.right.peek()) {
            (Ok(left), Ok(right)) => (left, right),
            (Err(error), _) | (_, Err(error)) => return Some(Err(error)),
        };
        match (left, right) {
            (Some(left), Some(right)) if left == right => {
                let (older, newer) = (self.left.next(), self.right.next());
                match (&older, &newer) {
                    (Some(Ok((_, old))), Some(Ok((_, new)))) if (self.doubt)(old) < (self.doubt)(new) => older,
                    _ => newer,
                }
            }
            (Some(left), Some(right)) if left < right => self.left.next(),
            (Some(_), None) => self.left.next(),
            (_, Some(_)) => self.right.next(),
            (None, None) => None,
        }
    }
}
