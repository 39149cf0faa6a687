//! The installation that scenarios run on: two sites, what stands there, and what it is called.

use crate::world::host::VmWorld;
use crate::world::{Place, World};
use farshore_schemas::ids::{Address, Digest, Kind, Name, SiteName, VmName, VmRef};
use farshore_schemas::messages::agent::Endpoint;

/// The two sites by index.
pub(crate) const HQ: usize = 0;
/// See [`HQ`].
pub(crate) const DR: usize = 1;
/// Where virtual time begins: 2026-01-01T00:00:00Z.
pub(crate) const BEGIN: i64 = 1_767_225_600_000;

/// Agents by index: the host's and the repository's at the one site, the host's at the other.
pub(crate) const AGENTS: [(usize, &str); 3] = [(HQ, "mover-a"), (HQ, "mover-v"), (DR, "mover-b")];

pub(crate) fn site(index: usize) -> SiteName {
    SiteName::parse(["hq", "dr"][index]).expect("a legal name")
}

pub(crate) fn site_index(site: &SiteName) -> Option<usize> {
    ["hq", "dr"].iter().position(|name| *name == site.as_str())
}

pub(crate) fn name(text: &str) -> Name {
    Name::parse(text).expect("a legal name")
}

pub(crate) fn address(at: usize, kind: Kind, text: &str) -> Address {
    Address::new(&site(at), kind, &name(text))
}

/// The n-th VM.
pub(crate) fn vm(n: usize) -> VmName {
    VmName::parse(&format!("vm{}", n + 1)).expect("a legal name")
}

/// The n-th VM where it stands at first.
pub(crate) fn production(n: usize) -> VmRef {
    VmRef { site: site(HQ), host: name("host-a"), vm: vm(n) }
}

pub(crate) fn host_a() -> Place {
    (site(HQ), name("host-a"))
}

pub(crate) fn host_b() -> Place {
    (site(DR), name("host-b"))
}

pub(crate) fn vault() -> Place {
    (site(HQ), name("vault"))
}

/// An agent's data channel.
pub(crate) fn endpoint(agent: usize) -> Endpoint {
    let (at, text) = AGENTS[agent];
    Endpoint {
        site: site(at),
        agent: name(text),
        address: format!("{text}.{}:7000", site(at)),
        fingerprint: Digest(*blake3::hash(text.as_bytes()).as_bytes()),
    }
}

/// The agent that has this data channel.
pub(crate) fn agent_of(endpoint: &Endpoint) -> Option<usize> {
    agent_index(&endpoint.site, &endpoint.agent)
}

pub(crate) fn agent_index(site: &SiteName, agent: &Name) -> Option<usize> {
    let at = site_index(site)?;
    AGENTS.iter().position(|(of, text)| *of == at && *text == agent.as_str())
}

/// Hosts, VMs with one or two disks, a repository: before anyone has heard of farshore.
pub(crate) fn furnish(vms: usize) -> World {
    let mut world = World::default();
    world.hosts.entry(host_b()).or_default();
    world.repositories.entry(vault()).or_default();
    let host = world.hosts.entry(host_a()).or_default();
    for n in 0..vms {
        let disks = (0..=n % 2).map(|d| format!("disk{d}.img").parse().expect("a legal name"));
        host.vms.insert(vm(n), VmWorld::new(production(n), disks, None));
    }
    world
}
