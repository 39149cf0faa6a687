//! What an operator may say to an actor. Answers and reports of other actors and agents are messages too, but nobody may
//! forge them through the API.

use farshore_schemas::ids::{EntityId, Kind};
use farshore_schemas::messages::{Message, host, job, mover, plan, replica, repository, site};

/// Whether an operator may send this.
pub fn may_send(message: &Message) -> bool {
    match message {
        Message::Site(command) => matches!(command, site::Command::Define(_)),
        Message::Host(command) => matches!(
            command,
            host::Command::Define(_)
                | host::Command::Remove
                | host::Command::Discover
                | host::Command::PowerOn { .. }
                | host::Command::PowerOff { .. }
                | host::Command::GuestWrite { .. }
        ),
        Message::Mover(command) => matches!(command, mover::Command::Define(_) | mover::Command::Remove),
        Message::Repository(command) => matches!(
            command,
            repository::Command::Define(_)
                | repository::Command::Remove
                | repository::Command::Verify { .. }
                | repository::Command::Hold { .. }
                | repository::Command::Release { .. }
                | repository::Command::BreakAccess { .. }
                | repository::Command::Adopt { .. }
        ),
        Message::Job(command) => matches!(
            command,
            job::Command::Define(_)
                | job::Command::Remove
                | job::Command::Run
                | job::Command::Stop
                | job::Command::Enable { .. }
        ),
        Message::Replica(command) => matches!(
            command,
            replica::Command::Failover { .. }
                | replica::Command::UndoFailover
                | replica::Command::Failback
                | replica::Command::Switch
                | replica::Command::CommitFailback
                | replica::Command::UndoFailback
                | replica::Command::MakePermanent
                | replica::Command::Remove
        ),
        Message::Plan(command) => {
            matches!(command, plan::Command::Define(_) | plan::Command::Remove | plan::Command::Run { .. })
        }
        Message::Broker(_) | Message::Session(_) | Message::Agent(_) | Message::Refused(_) => false,
    }
}

/// Whether a message makes the thing that it is for.
pub fn defines(message: &Message) -> bool {
    match message {
        Message::Site(command) => matches!(command, site::Command::Define(_)),
        Message::Host(command) => matches!(command, host::Command::Define(_)),
        Message::Mover(command) => matches!(command, mover::Command::Define(_)),
        Message::Repository(command) => matches!(command, repository::Command::Define(_)),
        Message::Job(command) => matches!(command, job::Command::Define(_)),
        Message::Plan(command) => matches!(command, plan::Command::Define(_)),
        Message::Broker(_) | Message::Session(_) | Message::Replica(_) | Message::Agent(_) | Message::Refused(_) => {
            false
        }
    }
}

/// The command that forgets a thing, if an operator may have it forgotten.
pub fn removal(id: &EntityId) -> Option<Message> {
    match id.kind {
        Kind::Host => Some(Message::Host(host::Command::Remove)),
        Kind::Mover => Some(Message::Mover(mover::Command::Remove)),
        Kind::Repository => Some(Message::Repository(repository::Command::Remove)),
        Kind::Job => Some(Message::Job(job::Command::Remove)),
        Kind::Replica => Some(Message::Replica(replica::Command::Remove)),
        Kind::Plan => Some(Message::Plan(plan::Command::Remove)),
        Kind::Site | Kind::Broker | Kind::Session | Kind::Agent | Kind::Api => None,
    }
}
