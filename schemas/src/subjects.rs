//! Every subject on the bus, built and parsed in this file only. `fs1.<site>.<kind>.<name>` is a party's inbox;
//! `fs1.<site>.control.ack` and `fs1.<site>.agent.<name>.ack` are where acks for what it sent come in;
//! `fs1.<site>.progress` is for eyes only.

use crate::envelope::Sender;
use crate::ids::{Address, SiteName};

/// First token of every subject: changes with an incompatible protocol.
const PREFIX: &str = "fs1";

/// Where a party receives messages.
pub fn inbox(to: &Address) -> String {
    format!("{PREFIX}.{}.{}.{}", to.site, to.entity.kind, to.entity.name)
}

/// Where a sending end receives acks.
pub fn acks(site: &SiteName, sender: &Sender) -> String {
    match sender {
        Sender::Agent(name) => format!("{PREFIX}.{site}.agent.{name}.ack"),
        Sender::Control | Sender::Api => format!("{PREFIX}.{site}.control.ack"),
    }
}

/// All inboxes of a site's actors of one kind, as a subscription.
pub fn inboxes(site: &SiteName, kind: crate::ids::Kind) -> String {
    format!("{PREFIX}.{site}.{kind}.*")
}

/// Where a site's agents report progress.
pub fn progress(site: &SiteName) -> String {
    format!("{PREFIX}.{site}.progress")
}

/// Whether a subject falls under a subscription: `*` stands for one token, a last `>` for one or more.
pub fn matches(subscription: &str, subject: &str) -> bool {
    let mut subject_tokens = subject.split('.');
    let mut subscribed = subscription.split('.');
    loop {
        match (subscribed.next(), subject_tokens.next()) {
            (Some(">"), Some(_)) => return true,
            (Some("*"), Some(_)) => {}
            (Some(want), Some(have)) if want == have => {}
            (None, None) => return true,
            (Some(_) | None, Some(_) | None) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscriptions_match_by_token() {
        assert!(matches("fs1.hq.host.*", "fs1.hq.host.a"));
        assert!(!matches("fs1.hq.host.*", "fs1.hq.host.a.ack"));
        assert!(!matches("fs1.hq.host.*", "fs1.dr.host.a"));
        assert!(matches("fs1.>", "fs1.hq.host.a"));
        assert!(!matches("fs1.>", "fs1"));
    }
}
