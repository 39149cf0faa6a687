//! The site actor: its identity, and the sites it talks to.

use crate::ids::{Digest, Lineage, Seq, SiteName};
use crate::units::Timestamp;
use serde::{Deserialize, Serialize};

/// A site, as an operator defines it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteSpec {
    /// Sites whose requests it takes.
    pub peers: Vec<SiteName>,
}

/// What a site accepts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    /// From the operator.
    Define(SiteSpec),
    /// From another site's control on connect: its lineage, and how far it has heard us.
    PeerHello {
        /// The peer.
        peer: SiteName,
        /// Its lineage.
        lineage: Lineage,
        /// The last seq of ours that it has heard, with that frame's hash.
        heard: Option<(Seq, Digest)>,
        /// Its program version.
        version: String,
    },
}

/// What a site's log tells about the site itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// An operator said which peers it has. A peer that is no longer named is forgotten.
    Defined {
        /// The definition.
        spec: SiteSpec,
    },
    /// A peer said hello.
    PeerSeen {
        /// The peer.
        peer: SiteName,
        /// Its lineage.
        lineage: Lineage,
        /// The last seq of ours that it has heard, with that frame's hash.
        heard: Option<(Seq, Digest)>,
        /// Its program version.
        version: String,
        /// When.
        at: Timestamp,
    },
    /// A peer came back with another lineage: its log was made anew, restored from a copy, or cut.
    PeerLineageChanged {
        /// The peer.
        peer: SiteName,
        /// Its lineage until now.
        was: Lineage,
        /// Its lineage from now on.
        now: Lineage,
        /// When.
        at: Timestamp,
    },
    /// Alarm: under the same lineage a peer has heard less of us than it had before, so its log lost what it had
    /// acknowledged, or an old copy of it runs.
    PeerHeardLess {
        /// The peer.
        peer: SiteName,
        /// Its lineage.
        lineage: Lineage,
        /// The last seq that it had heard.
        was: Seq,
        /// The last seq that it says it has heard now; none when it has heard nothing.
        now: Option<Seq>,
        /// When.
        at: Timestamp,
    },
    /// Alarm: a peer has another frame of ours under a seq that it had named before: two histories of one site.
    PeerHeardOther {
        /// The peer.
        peer: SiteName,
        /// The seq.
        seq: Seq,
        /// The hash that it had named.
        was: Digest,
        /// The hash that it names now.
        now: Digest,
        /// When.
        at: Timestamp,
    },
}
