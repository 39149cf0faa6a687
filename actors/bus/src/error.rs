//! What can go wrong on the bus. Every text says what happened, to what, why and what to do.

use std::time::Duration;

/// Why the bus refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The message is larger than any message may be.
    #[error(
        "FS-BUS-TOO-LARGE: a message of {len} bytes to {subject} was not sent: {max} are allowed. Send bulk data from \
         mover to mover, and long lists in pages"
    )]
    TooLarge {
        /// Where it should go.
        subject: String,
        /// Its size.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// A bounded queue has no room.
    #[error(
        "FS-BUS-FULL: a message to {subject} was dropped: {queue} is full. It is sent again by its channel; when this \
         lasts, the receiver is too slow"
    )]
    Full {
        /// Where it should go.
        subject: String,
        /// Whose queue.
        queue: &'static str,
    },
    /// No connection at the moment.
    #[error(
        "FS-BUS-DOWN: {what} failed: there is no connection to {servers}. It is being made again; check the NATS \
         server and the network if this lasts"
    )]
    Down {
        /// What was tried.
        what: String,
        /// The servers, without secrets.
        servers: String,
    },
    /// No connection could be made at the start.
    #[error(
        "FS-BUS-UNREACHABLE: no connection to {servers} within {waited:?}: {why}. Check the URL, that nats-server runs \
         there, and that no firewall is in between"
    )]
    Unreachable {
        /// The servers, without secrets.
        servers: String,
        /// How long it was tried.
        waited: Duration,
        /// The last answer.
        why: String,
    },
    /// The server does not let us in.
    #[error("FS-BUS-DENIED: {servers} refused us: {why}. Check the credentials file and the account's rights")]
    Denied {
        /// The servers, without secrets.
        servers: String,
        /// The server's answer.
        why: String,
    },
    /// A URL, credentials or certificate file cannot be used.
    #[error("FS-BUS-OPTIONS: {what} cannot be used: {why}. Correct it and start again")]
    Options {
        /// Which.
        what: String,
        /// Why.
        why: String,
    },
    /// The server takes smaller messages than we may send.
    #[error(
        "FS-BUS-SERVER-LIMIT: {servers} takes messages of {max_payload} bytes at most, {needed} are needed. Raise \
         max_payload in the server's configuration"
    )]
    ServerLimit {
        /// The servers, without secrets.
        servers: String,
        /// The server's limit in bytes.
        max_payload: usize,
        /// Ours.
        needed: usize,
    },
    /// Not a subject, or a wildcard where none may be.
    #[error("FS-BUS-SUBJECT: {subject:?} cannot be used here: {why}. Build subjects with schemas::subjects only")]
    Subject {
        /// The subject.
        subject: String,
        /// Why.
        why: &'static str,
    },
    /// NATS does not take the service's name or version.
    #[error("FS-BUS-ANNOUNCE: service {name:?} is not listed: {why}. Use a name of letters, digits, - and _")]
    Announce {
        /// The service.
        name: String,
        /// The library's words.
        why: String,
    },
}

/// Checks the subject of a publish (`wildcards` false) or of a subscription.
pub(crate) fn check_subject(subject: &str, wildcards: bool) -> Result<(), BusError> {
    let wrong = |why| Err(BusError::Subject { subject: subject.chars().take(200).collect(), why });
    if subject.len() > MAX_SUBJECT {
        return wrong("it is longer than 1024 bytes");
    }
    let mut tokens = subject.split('.').peekable();
    while let Some(token) = tokens.next() {
        if token.is_empty() {
            return wrong("it has an empty token");
        }
        if token.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return wrong("it has white space in it");
        }
        let wild = token.contains(['*', '>']);
        if wild && !wildcards {
            return wrong("it has a wildcard");
        }
        if wild && token.len() > 1 {
            return wrong("a wildcard stands in a token with other characters");
        }
        if token == ">" && tokens.peek().is_some() {
            return wrong("> is not the last token");
        }
    }
    Ok(())
}

/// The longest subject in bytes.
const MAX_SUBJECT: usize = 1024;
