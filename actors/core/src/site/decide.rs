use super::{Peer, Rejection, State};
use crate::decider::{Context, Decision, Input};
use farshore_schemas::ids::{Digest, Lineage, Seq, SiteName};
use farshore_schemas::messages::site::{Command, Event, SiteSpec};
use std::collections::BTreeMap;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Result<Decision<Event>, Rejection> {
    match input {
        Input::Command(Command::Define(spec)) => define(spec, context),
        Input::Command(Command::PeerHello { peer, lineage, heard, version }) => match state {
            State::Undefined => Err(Rejection::Unknown { site: context.me.site.clone() }),
            State::Defined { spec, peers } => {
                is_peer(spec, peer, context)?;
                let mut decision = alarms(peers, peer, (*lineage, *heard), context);
                decision.events.push(Event::PeerSeen {
                    peer: peer.clone(),
                    lineage: *lineage,
                    heard: *heard,
                    version: version.clone(),
                    at: context.now,
                });
                Ok(decision)
            }
        },
        Input::Refused(refused) => {
            Err(Rejection::RefusalUnexpected { by: refused.by.clone(), code: refused.refusal.code.clone() })
        }
        Input::Wake => Err(Rejection::NotDue),
    }
}

fn define(spec: &SiteSpec, context: &Context) -> Result<Decision<Event>, Rejection> {
    if spec.peers.contains(&context.me.site) {
        return Err(Rejection::OwnPeer { site: context.me.site.clone() });
    }
    Ok(Decision::event(Event::Defined { spec: spec.clone() }))
}

fn is_peer(spec: &SiteSpec, peer: &SiteName, context: &Context) -> Result<(), Rejection> {
    if context.from.site != *peer {
        return Err(Rejection::PeerMismatch { peer: peer.clone(), from: context.from.clone() });
    }
    if !spec.peers.contains(peer) {
        return Err(Rejection::PeerUnknown { peer: peer.clone() });
    }
    Ok(())
}

/// What is wrong with a hello, seen beside the one before it.
fn alarms(
    peers: &BTreeMap<SiteName, Peer>,
    peer: &SiteName,
    (lineage, heard): (Lineage, Option<(Seq, Digest)>),
    context: &Context,
) -> Decision<Event> {
    let Some(known) = peers.get(peer) else { return Decision::none() };
    let (peer, at) = (peer.clone(), context.now);
    if known.lineage != lineage {
        return Decision::event(Event::PeerLineageChanged { peer, was: known.lineage, now: lineage, at });
    }
    match (known.heard, heard) {
        (None, None | Some(_)) => Decision::none(),
        (Some((was, _)), None) => Decision::event(Event::PeerHeardLess { peer, lineage, was, now: None, at }),
        (Some((was, _)), Some((now, _))) if now < was => {
            Decision::event(Event::PeerHeardLess { peer, lineage, was, now: Some(now), at })
        }
        (Some((was, had)), Some((now, has))) if now == was && has != had => {
            Decision::event(Event::PeerHeardOther { peer, seq: now, was: had, now: has, at })
        }
        (Some(_), Some(_)) => Decision::none(),
    }
}
