//! How a site says no.

use crate::refusal::refusal;
use farshore_schemas::ids::{Address, SiteName};
use farshore_schemas::messages::Refusal;

/// Why a site rejects an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejection {
    /// The site is not defined.
    Unknown {
        /// Which.
        site: SiteName,
    },
    /// A site was named as its own peer.
    OwnPeer {
        /// Which.
        site: SiteName,
    },
    /// A hello from a site that is not a peer.
    PeerUnknown {
        /// Which.
        peer: SiteName,
    },
    /// A hello in another site's name.
    PeerMismatch {
        /// Whose name.
        peer: SiteName,
        /// Who spoke.
        from: Address,
    },
    /// A refusal of something that a site does not send.
    RefusalUnexpected {
        /// Who refused.
        by: Address,
        /// With which code.
        code: String,
    },
    /// A wake that was not asked for.
    NotDue,
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Refusal {
        match rejection {
            Rejection::Unknown { site } => refusal(
                "FS-SITE-UNKNOWN",
                format!("the site {site} is not defined, so it takes no peer's hello"),
                "apply a Site resource that names its peers",
            ),
            Rejection::OwnPeer { site } => refusal(
                "FS-SITE-OWN-PEER",
                format!("the site {site} is named as its own peer"),
                "take it out of its list of peers",
            ),
            Rejection::PeerUnknown { peer } => refusal(
                "FS-SITE-PEER-UNKNOWN",
                format!("the site {peer} is not a peer of this site"),
                "name it in this site's list of peers, if it is one of yours",
            ),
            Rejection::PeerMismatch { peer, from } => refusal(
                "FS-SITE-PEER-MISMATCH",
                format!("{from} said hello in the name of the site {peer}"),
                "check the configuration of the site that speaks: two sites may bear one name",
            ),
            Rejection::RefusalUnexpected { by, code } => refusal(
                "FS-SITE-REFUSAL-UNEXPECTED",
                format!("{by} refused ({code}) something that a site does not send"),
                "report this as a defect, with the frame",
            ),
            Rejection::NotDue => {
                refusal("FS-SITE-NOT-DUE", "a site waits for no time, and was woken", "report this as a defect")
            }
        }
    }
}
