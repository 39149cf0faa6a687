//! A disk that keeps what was synced. What was written and not yet synced may be there after a power cut, in whole or in
//! part: a prefix of it, the last entry perhaps torn.

use crate::choices::{Choices, Draw};
use std::rc::Rc;

/// An append-only file of entries.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    entries: Vec<Rc<[u8]>>,
    synced: usize,
}

impl Disk {
    /// Writes an entry; it is not durable yet.
    pub(crate) fn append(&mut self, entry: &[u8]) {
        self.entries.push(entry.into());
    }

    /// How many entries are there, durable or not.
    pub(crate) fn written(&self) -> usize {
        self.entries.len()
    }

    /// How many are durable.
    pub(crate) fn synced(&self) -> usize {
        self.synced
    }

    /// A sync that began when `upto` entries were written has returned.
    pub(crate) fn sync_returned(&mut self, upto: usize) {
        assert!(upto <= self.entries.len(), "a sync covers what was written before it began");
        self.synced = self.synced.max(upto);
    }

    /// All entries, in order.
    pub(crate) fn entries(&self) -> &[Rc<[u8]>] {
        &self.entries
    }

    /// The power is gone. Of what was not synced a prefix survives; if `torn`, a part of the next entry does too.
    pub(crate) fn power_cut(&mut self, torn: bool, choices: &mut Choices) {
        let loose = (self.entries.len() - self.synced) as u64;
        let kept = self.synced + usize::try_from(choices.below(Draw::Disk, loose + 1)).expect("no more than there are");
        let next = self.entries.get(kept).cloned();
        self.entries.truncate(kept);
        if let (true, Some(next)) = (torn, next) {
            let len = choices.below(Draw::Disk, next.len() as u64);
            self.entries.push(next[..usize::try_from(len).expect("shorter than the entry")].into());
        }
    }

    /// Recovery: keeps the first `whole` entries and syncs them before anything goes on.
    pub(crate) fn recover(&mut self, whole: usize) {
        assert!(whole >= self.synced, "recovery never drops what was synced");
        self.entries.truncate(whole);
        self.synced = whole;
    }

    /// Someone puts back a copy of the file that was made when it held `entries` entries.
    pub(crate) fn restore_copy(&mut self, entries: usize) {
        self.entries.truncate(entries);
        self.synced = self.entries.len();
    }

    /// A new file takes the place of this one, durable.
    pub(crate) fn replace(&mut self, entries: Vec<Rc<[u8]>>) {
        self.entries = entries;
        self.synced = self.entries.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_power_cut_keeps_what_was_synced() {
        for seed in 0..50 {
            let mut choices = Choices::from_seed(seed);
            let mut disk = Disk::default();
            (0u8..10).for_each(|n| disk.append(&[n; 9]));
            disk.sync_returned(4);
            disk.power_cut(true, &mut choices);
            let whole = disk.entries().iter().take_while(|entry| entry.len() == 9).count();
            assert!(whole >= 4 && disk.written() <= whole + 1);
            disk.recover(whole);
            assert_eq!((disk.written(), disk.synced()), (whole, whole));
        }
    }
}
