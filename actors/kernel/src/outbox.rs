//! What a site has said and not yet heard confirmed, per receiver, in order. Part of it is folded from the log (what was
//! sent, what was confirmed); when to try again is volatile and starts afresh with the process.

use farshore_schemas::envelope::{Channel, Envelope, Sender};
use farshore_schemas::ids::{Address, EntityId, Lineage, MessageId, Seq, SiteName};
use farshore_schemas::messages::Message;
use farshore_schemas::units::{Hlc, Millis, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// How many messages of one channel are under way at once.
const WINDOW: usize = 64;
/// First wait before a message is sent again; doubled up to [`LAST_WAIT`].
const FIRST_WAIT: Millis = Millis(200);
const LAST_WAIT: Millis = Millis(5_000);

/// A message that waits for its confirmation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number on the channel.
    pub number: u64,
    /// The actor that sent it.
    pub from: EntityId,
    /// Its id: lineage, frame and index.
    pub lineage: Lineage,
    /// The frame that sent it.
    pub seq: Seq,
    /// Its index in that frame.
    pub index: u16,
    /// The site's clock then.
    pub sent: Hlc,
    /// Not to be acted on after this.
    pub expires: Option<Timestamp>,
    /// A later entry with this key stands for it.
    pub supersede: Option<String>,
    /// On whose behalf.
    pub principal: String,
    /// Trace context.
    pub trace: Option<String>,
    /// What is said; none when superseded.
    pub body: Option<Message>,
}

/// The volatile part of a receiver's channel: what this process has tried and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Attempt {
    /// When what is under way is sent again.
    at: Timestamp,
    wait: Millis,
    /// Entries beyond `heard` that were sent since it last confirmed something.
    under_way: usize,
    /// The last number confirmed; the entries go when a frame has recorded it.
    heard: u64,
    /// When it was last sent everything because it said that it lacks something.
    hurried: Option<Timestamp>,
}

/// All channels of a site. The entries are exactly what folding the log gives; what was confirmed since the last frame is
/// kept apart, so that a fold and a live site renumber the same entries at a renewed lineage.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Outbox {
    entries: BTreeMap<Address, VecDeque<Entry>>,
    attempts: BTreeMap<Address, Attempt>,
}

impl Outbox {
    /// Adds a message behind those for the same receiver; earlier ones with its key are emptied.
    pub fn push(&mut self, to: &Address, entry: Entry) {
        let queue = self.entries.entry(to.clone()).or_default();
        if let Some(key) = &entry.supersede {
            queue.iter_mut().filter(|old| old.supersede.as_ref() == Some(key)).for_each(|old| old.body = None);
        }
        queue.push_back(entry);
    }

    /// A receiver has confirmed up to a number: nothing of that is sent again. Says whether that is news.
    pub fn hear(&mut self, receiver: &Address, number: u64, now: Timestamp) -> bool {
        let Some(queue) = self.entries.get(receiver) else {
            return false;
        };
        let attempt = self.attempts.entry(receiver.clone()).or_insert(Attempt::starting(now));
        let news = queue.iter().filter(|entry| entry.number > attempt.heard && entry.number <= number).count();
        if news == 0 {
            return false;
        }
        attempt.heard = number;
        attempt.under_way = attempt.under_way.saturating_sub(news);
        attempt.wait = FIRST_WAIT;
        attempt.at = now.after(FIRST_WAIT);
        true
    }

    /// A frame has recorded that a receiver confirmed up to a number: forgets everything up to it.
    pub fn confirm(&mut self, receiver: &Address, number: u64) {
        let Some(queue) = self.entries.get_mut(receiver) else {
            return;
        };
        while queue.front().is_some_and(|entry| entry.number <= number) {
            queue.pop_front();
        }
        if queue.is_empty() {
            self.entries.remove(receiver);
            self.attempts.remove(receiver);
        }
    }

    /// The receiver lacks what comes after its last confirmation: send it at once, though not more often than a message is
    /// sent again anyway. (Each repeat is answered with what is known already; without that pause they would feed each other.)
    pub fn hurry(&mut self, receiver: &Address, now: Timestamp) {
        if let Some(attempt) = self.attempts.get_mut(receiver)
            && attempt.hurried.is_none_or(|last| now < last || now >= last.after(FIRST_WAIT))
        {
            attempt.hurried = Some(now);
            attempt.under_way = 0;
            attempt.at = now;
        }
    }

    /// A peer is within reach again: everything may be tried at once.
    pub fn hurry_all(&mut self, now: Timestamp) {
        self.attempts.values_mut().for_each(|attempt| {
            *attempt = Attempt { heard: attempt.heard, ..Attempt::starting(now) };
        });
    }

    /// Entries of frames up to `durable` that are to be put on the bus now: those never sent, and those whose wait is over.
    /// Receivers of this site (`local`) are left out: they are handed over directly.
    pub fn due(&mut self, now: Timestamp, durable: Seq, local: &SiteName) -> Vec<(Address, Entry)> {
        let mut out = Vec::new();
        for (to, queue) in self.entries.iter().filter(|(to, _)| !is_local(to, local)) {
            let attempt = self.attempts.entry(to.clone()).or_insert(Attempt::starting(now));
            // A clock that was set back must not hold messages up for as long as it went back.
            attempt.at = attempt.at.min(now.after(LAST_WAIT));
            let again = attempt.under_way > 0 && attempt.at <= now;
            let first = if again { 0 } else { attempt.under_way };
            let open = queue.iter().skip_while(|entry| entry.number <= attempt.heard);
            let window: Vec<&Entry> = open.take(WINDOW).skip(first).take_while(|entry| entry.seq <= durable).collect();
            if window.is_empty() {
                continue;
            }
            if first == 0 {
                attempt.at = now.after(attempt.wait);
            }
            attempt.under_way = first + window.len();
            if again {
                attempt.wait = Millis((attempt.wait.0 * 2).min(LAST_WAIT.0));
            }
            out.extend(window.into_iter().map(|entry| (to.clone(), entry.clone())));
        }
        out
    }

    /// When something is to be tried again.
    pub fn next_attempt(&self) -> Option<Timestamp> {
        self.attempts.values().filter(|attempt| attempt.under_way > 0).map(|attempt| attempt.at).min()
    }

    /// What one receiver has not taken yet, in order.
    pub fn waiting_for<'a>(&'a self, receiver: &Address) -> impl Iterator<Item = &'a Entry> {
        self.entries.get(receiver).into_iter().flatten()
    }

    /// The first number that this receiver can still be told: everything before it was confirmed.
    pub fn floor(&self, receiver: &Address) -> u64 {
        let heard = self.attempts.get(receiver).map_or(0, |attempt| attempt.heard);
        let held = self.entries.get(receiver).and_then(|queue| queue.front()).map_or(1, |entry| entry.number);
        held.max(heard + 1)
    }

    /// Everything for actors of this site that has not been taken yet, in order: handed over anew after a restart.
    pub fn local(&self, site: &SiteName) -> Vec<(Address, Entry)> {
        let of = |(to, queue): (&Address, &VecDeque<Entry>)| {
            queue.iter().map(|e| (to.clone(), e.clone())).collect::<Vec<_>>()
        };
        let mut all: Vec<_> = self.entries.iter().filter(|(to, _)| is_local(to, site)).flat_map(of).collect();
        all.sort_by_key(|(_, entry)| (entry.seq, entry.index));
        all
    }

    /// Numbers everything anew from 1 per receiver, for a renewed lineage. Gives the last number per receiver.
    pub fn renumber(&mut self) -> BTreeMap<Address, u64> {
        self.attempts.clear();
        let mut last = BTreeMap::new();
        for (to, queue) in &mut self.entries {
            (1..).zip(queue.iter_mut()).for_each(|(number, entry)| entry.number = number);
            last.insert(to.clone(), queue.len() as u64);
        }
        last
    }

    /// How many messages wait for a frame that records their confirmation.
    pub fn len(&self) -> usize {
        self.entries.values().map(VecDeque::len).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Per receiver: how many wait for its confirmation.
    pub fn waiting(&self) -> impl Iterator<Item = (&Address, usize)> {
        let open = |(to, queue): (&'_ Address, &VecDeque<Entry>)| {
            let heard = self.attempts.get(to).map_or(0, |attempt| attempt.heard);
            queue.iter().filter(|entry| entry.number > heard).count()
        };
        self.entries.iter().map(move |(to, queue)| (to, open((to, queue)))).filter(|(_, count)| *count > 0)
    }

    /// All entries, for a snapshot.
    pub fn entries(&self) -> Vec<(Address, Entry)> {
        self.entries.iter().flat_map(|(to, queue)| queue.iter().map(|entry| (to.clone(), entry.clone()))).collect()
    }
}

impl Attempt {
    fn starting(now: Timestamp) -> Attempt {
        Attempt { at: now, wait: FIRST_WAIT, under_way: 0, heard: 0, hurried: None }
    }
}

/// Whether a receiver is an actor of this site (agents of the site are not: they are reached over the bus).
pub(crate) fn is_local(to: &Address, site: &SiteName) -> bool {
    to.site == *site && farshore_schemas::ids::Kind::ENTITIES.contains(&to.entity.kind)
}

impl Entry {
    /// The message as it travels, with the first number that its sender can still say.
    pub fn envelope(&self, to: &Address, (site, lineage): (&SiteName, Lineage), floor: u64) -> Envelope {
        Envelope {
            from: Address { site: site.clone(), entity: self.from.clone() },
            channel: Channel { site: site.clone(), sender: Sender::Control, lineage },
            to: to.clone(),
            number: self.number,
            floor,
            id: MessageId { site: site.clone(), lineage: self.lineage, seq: self.seq, index: self.index },
            sent: self.sent,
            expires: self.expires,
            supersede: self.supersede.clone(),
            principal: self.principal.clone(),
            trace: self.trace.clone(),
            body: self.body.clone(),
        }
    }
}
