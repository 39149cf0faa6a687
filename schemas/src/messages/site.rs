//! The site actor: its identity, and the sites it talks to.

use crate::ids::{Digest, Lineage, Seq, SiteName};
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
