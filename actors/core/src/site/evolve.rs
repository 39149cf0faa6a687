use super::{Peer, State};
use farshore_schemas::ids::SiteName;
use farshore_schemas::messages::site::Event;
use std::collections::BTreeMap;

pub(super) fn evolve(state: &mut State, event: &Event) {
    if let Event::Defined { spec } = event {
        let mut peers = match std::mem::take(state) {
            State::Undefined => BTreeMap::new(),
            State::Defined { spec: _, peers } => peers,
        };
        peers.retain(|peer, _| spec.peers.contains(peer));
        *state = State::Defined { spec: spec.clone(), peers };
        return;
    }
    match state {
        State::Undefined => {}
        State::Defined { spec: _, peers } => fold_peer(peers, event),
    }
}

fn fold_peer(peers: &mut BTreeMap<SiteName, Peer>, event: &Event) {
    match event {
        Event::Defined { .. } => {}
        Event::PeerSeen { peer, lineage, heard, version, at } => {
            let alarms = peers.get(peer).map_or(0, |known| known.alarms);
            let seen = Peer { lineage: *lineage, heard: *heard, version: version.clone(), seen: *at, alarms };
            peers.insert(peer.clone(), seen);
        }
        Event::PeerLineageChanged { peer, .. } => {
            // What it had heard belongs to its former history: no floor for the new one.
            if let Some(known) = peers.get_mut(peer) {
                known.heard = None;
            }
        }
        Event::PeerHeardLess { peer, .. } | Event::PeerHeardOther { peer, .. } => {
            if let Some(known) = peers.get_mut(peer) {
                known.alarms = known.alarms.saturating_add(1);
            }
        }
    }
}
