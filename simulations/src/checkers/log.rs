//! P1: what was acknowledged stays; nothing leaves before it is durable; one lineage has one history. P2: the log folds to
//! what the process knew.

use super::Checkers;
use crate::control::Control;
use crate::recovery::fold;
use farshore_kernel::redecide::redecide;
use farshore_kernel::sequencer::Stamped;
use farshore_kernel::site::Site;
use farshore_schemas::envelope::{Channel, Wire};
use farshore_schemas::frame::RawFrame;
use farshore_schemas::ids::{Address, Digest, Seq};
use std::collections::{BTreeMap, BTreeSet};

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LogChecker {
    /// Every frame that was ever durable, by site, lineage and seq.
    durable: BTreeMap<(usize, [u8; 16], u64), Digest>,
    /// How far receivers have acked channels, per site of the receiver.
    acked: BTreeMap<(usize, Address, Channel), u64>,
    /// Sites whose log was put back from a copy.
    restored: BTreeSet<usize>,
    /// The last durable frame of each site.
    tails: BTreeMap<usize, u64>,
}

/// A frame's lineage, as its header has it.
fn lineage_of(frame: &[u8]) -> [u8; 16] {
    frame.get(16..32).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default()
}

impl Checkers {
    /// A frame is durable from now on.
    pub(crate) fn frame_durable(&mut self, site: usize, seq: Seq, frame: &[u8]) {
        let hash = Digest(*blake3::hash(frame).as_bytes());
        let before = self.log.durable.insert((site, lineage_of(frame), seq.0), hash);
        if before.is_some_and(|before| before != hash) {
            self.violate(
                "P1",
                format!("frame {seq} of site {site} was durable with other content under the same lineage"),
            );
        }
        self.log.tails.insert(site, seq.0);
    }

    /// Something leaves a control that stands for frame `seq`, while frames up to `durable` are durable.
    pub(crate) fn leaves(&mut self, site: usize, (seq, durable): (Seq, Seq), wire: &Wire) {
        if seq > durable {
            let what = match wire {
                Wire::Deliver(_) => "a message",
                Wire::Ack { .. } | Wire::Probe { .. } | Wire::Fork { .. } | Wire::Progress { .. } => "an ack",
            };
            let promise = if what == "an ack" { "P1" } else { "P4" };
            self.violate(promise, format!("{what} left for frame {seq} while only {durable} was durable"));
        }
        match wire {
            Wire::Ack { channel, receiver, number } => {
                let acked = self.log.acked.entry((site, receiver.clone(), channel.clone())).or_default();
                *acked = (*acked).max(*number);
            }
            Wire::Deliver(envelope) => self.note_order(envelope),
            Wire::Probe { .. } | Wire::Fork { .. } | Wire::Progress { .. } => {}
        }
    }

    /// A log was recovered up to `tail`; `restored` from an older copy, or with all that was durable.
    pub(crate) fn log_recovered(&mut self, site: usize, tail: Seq, restored: bool) {
        if restored {
            self.log.restored.insert(site);
            self.log.acked.retain(|(of, _, _), _| *of != site);
        } else if self.log.tails.get(&site).is_some_and(|durable| *durable > tail.0) {
            self.violate("P1", format!("site {site} has recovered up to frame {tail}, but more was durable"));
        }
        self.log.tails.insert(site, tail.0);
        self.forget_accepted(site, tail);
        self.forget_rights(site, tail);
    }

    /// A control is back with what it has folded.
    pub(crate) fn control_back(&mut self, site: usize, kernel: &Site) {
        let mut lost = Vec::new();
        for ((_, receiver, channel), acked) in self.log.acked.iter().filter(|((of, _, _), _)| *of == site) {
            let mark = kernel.entity(&receiver.entity).and_then(|entity| entity.mark(channel));
            let number = mark.map_or(0, |mark| mark.number);
            if number < *acked {
                lost.push(format!(
                    "{receiver} acked {acked} of {}, and knows {number} after its restart",
                    channel.site
                ));
            }
        }
        lost.into_iter().for_each(|text| self.violate("P1", text));
    }

    /// The log, folded from its first frame to its last, durable or not, is what the process knew.
    pub(crate) fn compare_fold(&mut self, control: &mut Control, kernel: &Site) {
        let loose = control.disk.synced();
        let folded = control.second_fold().and_then(|mut folded| {
            fold(&mut folded, &control.disk.entries()[loose..])?;
            Ok(folded.state_hash())
        });
        match folded {
            Ok(hash) if hash == kernel.state_hash() => {}
            Ok(_) => self.violate("P2", format!("at a crash the log of {} folds to another state", control.site)),
            Err(error) => self.violate("P2", format!("the log of {} cannot be folded: {error}", control.site)),
        }
    }

    /// Every decision of the log comes out the same once more.
    pub(crate) fn decide_again(&mut self, control: &Control, kernel: &Site) {
        let mut site = Site::new(&control.site, control.first_lineage);
        for bytes in control.disk.entries() {
            let hash = Digest(*blake3::hash(bytes).as_bytes());
            let again = RawFrame::decode(bytes)
                .map_err(|error| error.to_string())
                .and_then(|(frame, _)| redecide(&mut site, &frame, hash).map_err(|error| error.to_string()));
            match again {
                Ok(None) => {}
                Ok(Some(difference)) => {
                    let text = format!(
                        "frame {} of {}: {} decides other {} when asked again: {} instead of {}",
                        difference.seq,
                        control.site,
                        difference.actor,
                        difference.what,
                        cut(&difference.now),
                        cut(&difference.recorded)
                    );
                    self.violate("P3", text);
                }
                Err(error) => {
                    self.violate("P2", format!("the log of {} cannot be folded: {error}", control.site));
                    return;
                }
            }
        }
        if site.state_hash() != kernel.state_hash() {
            self.violate("P2", format!("at the end the log of {} folds to another state", control.site));
        }
    }

    /// A frame was made.
    pub(crate) fn frame_made(&mut self, site: usize, stamped: &Stamped, draft: &farshore_kernel::draft::Draft) {
        if let Some(lost) = draft.lost
            && !self.log.restored.contains(&site)
        {
            let text = format!(
                "{} has lost messages {} to {}, though its log was never put back",
                draft.actor, lost.first, lost.last
            );
            self.violate("P1", text);
        }
        self.note_accepted(site, stamped.seq, draft);
    }
}

fn cut(text: &str) -> String {
    text.chars().take(400).collect()
}
