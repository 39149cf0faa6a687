//! What a sender is told of a message that was not decided on, or decided against.

use farshore_core::decider::Send;
use farshore_schemas::codec;
use farshore_schemas::envelope::{Envelope, Sender};
use farshore_schemas::frame::Verdict;
use farshore_schemas::ids::{Address, Kind};
use farshore_schemas::messages::{Message, Refusal, Refused};

/// A refusal echoes the refused message only up to this size, so that it always fits a message itself.
const MAX_ECHO: usize = 64 * 1024;

/// What a verdict that is not a decision says to the sender.
fn refusal_of(verdict: &Verdict) -> Option<Refusal> {
    let refusal = |code: &str, message: &str, advice: &str| {
        Some(Refusal { code: code.into(), message: message.into(), advice: advice.into() })
    };
    match verdict {
        Verdict::Rejected(refusal) => Some(refusal.clone()),
        Verdict::Expired => {
            refusal("FS-KERNEL-EXPIRED", "the message came after its time", "send it again if it still matters")
        }
        Verdict::Unsupported => refusal(
            "FS-KERNEL-UNSUPPORTED",
            "this kind of actor knows no such message",
            "check that both sites run versions that know it",
        ),
        Verdict::Poisoned => refusal(
            "FS-KERNEL-POISONED",
            "deciding on the message failed twice inside the program",
            "report it with the frame (farshore log show); other messages go on",
        ),
        Verdict::Accepted | Verdict::Superseded => None,
    }
}

/// The answer to a sender that is an actor: a refusal of what it sent. Refusals are never answered.
pub(crate) fn answer(envelope: &Envelope, verdict: &Verdict, me: Address) -> Option<Send> {
    let refusal = refusal_of(verdict)?;
    let message = envelope.body.clone()?;
    let to_actor = Kind::ENTITIES.contains(&envelope.from.entity.kind) && envelope.channel.sender == Sender::Control;
    if !to_actor || matches!(message, Message::Refused(_)) || codec::encode(&message).len() > MAX_ECHO {
        return None;
    }
    Some(Send::new(envelope.from.clone(), Message::Refused(Box::new(Refused { by: me, message, refusal }))))
}
