//! A decision in words, for those who read along.

use farshore_kernel::draft::Draft;
use farshore_kernel::sequencer::Stamped;
use farshore_schemas::frame::Input;

/// Who decided what on which input, and what it sends.
pub(crate) fn of_decision(stamped: &Stamped, draft: &Draft) -> String {
    let input = match &draft.input {
        Input::Message(envelope) => format!("{} says {:?}", envelope.from, envelope.body),
        Input::Poisoned { envelope, panic } => format!("{} poisons it ({panic})", envelope.from),
        Input::Wake => "wakes".to_owned(),
        Input::Restarted => "is back".to_owned(),
        Input::LineageRenewed { reason, .. } => format!("has a new lineage ({reason})"),
    };
    let sends: Vec<String> = stamped.sends.iter().map(|(to, entry)| format!("{to}: {:?}", entry.body)).collect();
    format!(
        "#{} {}: {input}\n            {:?}\n            -> {}",
        stamped.seq,
        draft.actor,
        draft.verdict,
        sends.join("\n            -> ")
    )
}
