//! Decides again on the recorded inputs and says where it would decide otherwise. On frames of the same core version there
//! must be no difference; on older ones a difference is a change of behaviour, to be looked at before an upgrade.

use crate::draft::{Draft, Receipt};
use crate::entity::Surroundings;
use crate::site::{Depth, FoldError, Site};
use farshore_core::CORE_VERSION;
use farshore_schemas::frame::{EventsSection, Input, InputSection, RawFrame, SendsSection};
use farshore_schemas::ids::{Digest, EntityId, Seq};
use serde::Serialize;

/// A decision that comes out otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The frame.
    pub seq: Seq,
    /// The actor.
    pub actor: EntityId,
    /// Core version of the frame.
    pub core: u32,
    /// Whether that is this program's: then the difference is a defect.
    pub same_core: bool,
    /// What differs: verdict, events, sends or mark.
    pub what: &'static str,
    /// As recorded.
    pub recorded: String,
    /// As decided now.
    pub now: String,
}

/// Decides a frame again on the state before it, then folds what was recorded.
///
/// # Errors
/// [`FoldError`] when it cannot be folded.
pub fn redecide(site: &mut Site, frame: &RawFrame<'_>, hash: Digest) -> Result<Option<Difference>, FoldError> {
    let seq = frame.header.seq;
    let at = |error| FoldError::Frame { seq, error };
    let input = frame.input_section().map_err(at)?;
    let events = frame.events_section().map_err(at)?;
    let sends = frame.sends_section().map_err(at)?;
    let around =
        Surroundings { site: site.sequencer.site().clone(), lineage: frame.header.lineage, frame: seq, now: input.at };
    let receipt =
        decide_again(site, &input, &around).ok_or_else(|| FoldError::NoActor { seq, actor: input.actor.clone() })?;
    let difference = compare(&receipt, &input, &events, &sends, seq);
    site.fold(frame, hash, Depth::Outbox)?;
    Ok(difference)
}

fn decide_again(site: &mut Site, input: &InputSection, around: &Surroundings) -> Option<Option<Receipt>> {
    let entity = site.entity_mut(&input.actor)?;
    Some(match &input.input {
        Input::Message(envelope) => Some(entity.decide(envelope, around)),
        Input::Wake => Some(entity.wake(around)),
        Input::Restarted => Some(entity.resume(around)),
        Input::Poisoned { envelope, panic } => Some(entity.poison(envelope, panic, around)),
        Input::LineageRenewed { .. } => None,
    })
}

fn compare(
    receipt: &Option<Receipt>,
    input: &InputSection,
    events: &EventsSection,
    sends: &SendsSection,
    seq: Seq,
) -> Option<Difference> {
    let receipt = receipt.as_ref()?;
    let difference = |what, recorded: String, now: String| {
        Some(Difference {
            seq,
            actor: input.actor.clone(),
            core: input.core,
            same_core: input.core == CORE_VERSION,
            what,
            recorded,
            now,
        })
    };
    let Receipt::Decided(draft) = receipt else {
        return difference("verdict", format!("{:?}", events.verdict), format!("{receipt:?}"));
    };
    if too_large_refusal(events) {
        return None;
    }
    if draft.verdict != events.verdict {
        return difference("verdict", format!("{:?}", events.verdict), format!("{:?}", draft.verdict));
    }
    if draft.mark != events.mark {
        return difference("mark", format!("{:?}", events.mark), format!("{:?}", draft.mark));
    }
    if draft.events != events.events {
        return difference("events", hex(&events.events), hex(&draft.events));
    }
    if !same_sends(draft, sends) {
        return difference("sends", format!("{:?}", sends.sends), format!("{:?}", draft.sends));
    }
    None
}

/// Whether the frame records that the decision did not fit: the kernel's refusal, not the decider's.
fn too_large_refusal(events: &EventsSection) -> bool {
    matches!(&events.verdict, farshore_schemas::frame::Verdict::Rejected(refusal) if refusal.code == "FS-KERNEL-TOO-LARGE")
}

fn same_sends(draft: &Draft, recorded: &SendsSection) -> bool {
    draft.sends.len() == recorded.sends.len()
        && draft.sends.iter().zip(&recorded.sends).all(|(now, then)| {
            now.to == then.to && now.body == then.body && now.expires == then.expires && now.supersede == then.supersede
        })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().take(200).map(|byte| format!("{byte:02x}")).collect()
}
