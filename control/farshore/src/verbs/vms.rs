//! The VMs of a site's hosts: whether they run, as far as that is known, what they wait for, and who protects them.

use super::get::{text, typed};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::time;
use farshore_api::condition::MoverThere;
use farshore_core::host;
use farshore_schemas::ids::Address;
use farshore_schemas::units::{ByteCount, Timestamp};
use serde::Serialize;
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Which movers are there.
pub(crate) struct Reach(Vec<MoverThere>);

impl Reach {
    /// Asks the site.
    pub(crate) fn ask(client: &Client) -> Result<Reach, Failure> {
        Ok(Reach::of(&client.get("/api/v1/status")?))
    }

    /// Reads it out of a site's status.
    pub(crate) fn of(status: &Value) -> Reach {
        let movers = status["movers"].as_array().into_iter().flatten();
        Reach(movers.filter_map(|mover| serde_json::from_value(mover.clone()).ok()).collect())
    }

    /// Movers that are not there.
    pub(crate) fn away(&self) -> impl Iterator<Item = &MoverThere> {
        self.0.iter().filter(|mover| !mover.connected)
    }

    /// Whether a mover is defined, and there.
    pub(crate) fn is_connected(&self, mover: &str) -> bool {
        self.find(mover).is_some_and(|one| one.connected)
    }

    fn find(&self, mover: &str) -> Option<&MoverThere> {
        self.0.iter().find(|one| one.mover.as_str() == mover)
    }

    /// Whether a mover is there, in words.
    pub(crate) fn line(&self, mover: &str) -> String {
        match self.find(mover) {
            None => "is not defined".to_owned(),
            Some(MoverThere { connected: true, .. }) => "is connected".to_owned(),
            Some(MoverThere { heard: Some(at), .. }) => format!("is not connected, last heard {}", time(at.0)),
            Some(MoverThere { heard: None, .. }) => "is not connected, never heard".to_owned(),
        }
    }

    /// Why nobody knows now what a host's guests do, if that is so.
    pub(crate) fn unknown(&self, host: &host::Defined) -> Option<String> {
        let mover = host.spec.mover.as_str();
        if self.find(mover).is_none_or(|one| !one.connected) {
            return Some(format!("its mover {mover} {}", self.line(mover)));
        }
        if let Some(failed) = &host.listing_failed {
            return Some(format!("its last listing failed: {}", failed.failure.code));
        }
        host.returning.then(|| "it is being listed anew after a start".to_owned())
    }

    /// When what is known of a host's guests was last true: its agent says of itself what changes.
    fn as_of(&self, host: &host::Defined) -> Option<Timestamp> {
        let heard = self.find(host.spec.mover.as_str()).and_then(|one| one.heard);
        heard.filter(|_| host.listing_failed.is_none()).max(host.listed)
    }
}

/// Whether a guest runs. What cannot be seen now is unknown, whatever was seen before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Power {
    On,
    Off,
    Unknown,
}

/// What was known before it became unknown.
#[derive(Debug, Serialize)]
struct LastKnown {
    power: Power,
    /// When it was last true, as far as anybody here knows; none if nobody does.
    at: Option<Timestamp>,
    /// How long ago that is, in seconds.
    age_s: Option<u64>,
    /// Why it is not known now.
    why: String,
}

/// A VM in a list.
#[derive(Debug, Serialize)]
pub(crate) struct VmLine {
    pub(crate) host: String,
    pub(crate) vm: String,
    disks: usize,
    size: u64,
    power: Power,
    /// When `power` is unknown.
    last_known: Option<LastKnown>,
    /// The replicas that have not said yet whether it may run here, and with which code they refused to, if they did.
    awaited: Vec<String>,
    /// What keeps it down, if a replica said that it may not run here.
    kept_down: Option<String>,
    replicas: Vec<String>,
}

impl VmLine {
    pub(crate) fn row(&self) -> Vec<String> {
        let power = match (self.power, &self.kept_down) {
            (Power::Unknown, _) => "unknown".to_owned(),
            (Power::On, _) => "on".to_owned(),
            (Power::Off, _) if !self.awaited.is_empty() => {
                format!("off, waits for leave of {}", self.awaited.join(" and "))
            }
            (Power::Off, Some(why)) => format!("off, {why}"),
            (Power::Off, None) => "off".to_owned(),
        };
        vec![
            self.host.clone(),
            self.vm.clone(),
            self.disks.to_string(),
            ByteCount(self.size).to_string(),
            power,
            self.replicas.join(" "),
        ]
    }
}

/// The VMs of all hosts of the site.
pub(crate) fn vms(client: &Client) -> Result<Vec<VmLine>, Failure> {
    let reach = Reach::ask(client)?;
    let hosts: Vec<Value> = client.get("/api/v1/resources/host")?;
    let mut lines = Vec::new();
    for thing in &hosts {
        let Some(host::State::Defined(defined)) = typed(thing) else { continue };
        let unknown = reach.unknown(&defined);
        for (name, vm) in &defined.inventory {
            let seen = if vm.running { Power::On } else { Power::Off };
            lines.push(VmLine {
                host: text(&thing["name"]),
                vm: name.to_string(),
                disks: vm.disks.len(),
                size: vm.disks.iter().map(|disk| disk.size.0).sum(),
                power: if unknown.is_some() { Power::Unknown } else { seen },
                last_known: unknown.as_ref().map(|why| last_known(seen, reach.as_of(&defined), why)),
                awaited: defined.asked.get(name).map(awaited).unwrap_or_default(),
                kept_down: defined.kept_down.get(name).map(kept_down),
                replicas: defined.protected.get(name).into_iter().flatten().map(ToString::to_string).collect(),
            });
        }
    }
    Ok(lines)
}

fn last_known(power: Power, at: Option<Timestamp>, why: &str) -> LastKnown {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
    LastKnown { power, at, age_s: at.map(|at| now.since(at).0 / 1000), why: why.to_owned() }
}

fn awaited(question: &host::Question) -> Vec<String> {
    let line = |replica: &Address| match question.refused.get(replica) {
        Some(code) => format!("{replica} (refused: {code})"),
        None => replica.to_string(),
    };
    question.awaited.iter().map(line).collect()
}

fn kept_down(why: &host::KeptDown) -> String {
    format!("kept down by {}: epoch {} of {}", why.by, why.epoch.counter, why.epoch.site)
}
