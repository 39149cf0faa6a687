//! What the bus counts. The runtime shows it as metrics; tests wait on [`Counters::watch`] instead of sleeping.

use tokio::sync::watch;

/// A snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Messages taken by [`crate::Bus::publish`].
    pub published: u64,
    /// Messages that publish refused.
    pub refused: u64,
    /// Messages put into a subscription's queue.
    pub delivered: u64,
    /// Messages dropped because a subscription's queue was full.
    pub dropped: u64,
    /// Messages dropped because they were larger than allowed; another program sent them.
    pub oversized: u64,
    /// Messages that came whole but were not a [`farshore_schemas::envelope::Wire`].
    pub undecodable: u64,
}

/// The counts of one bus.
#[derive(Debug)]
pub struct Counters {
    counts: watch::Sender<Counts>,
}

impl Default for Counters {
    fn default() -> Self {
        Self { counts: watch::Sender::new(Counts::default()) }
    }
}

impl Counters {
    /// The counts now.
    pub fn snapshot(&self) -> Counts {
        *self.counts.borrow()
    }

    /// The counts as they change.
    pub fn watch(&self) -> watch::Receiver<Counts> {
        self.counts.subscribe()
    }

    /// Changes the counts.
    pub(crate) fn add(&self, change: impl FnOnce(&mut Counts)) {
        self.counts.send_modify(change);
    }
}
