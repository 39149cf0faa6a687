//! The list of VMs: where each is, whether it runs, and what keeps one down that does not.

use super::get::{text, typed};
use crate::client::Client;
use crate::failure::Failure;
use farshore_core::host;
use farshore_schemas::ids::Address;
use farshore_schemas::units::ByteCount;
use serde::Serialize;
use serde_json::Value;

/// A VM in a list.
#[derive(Debug, Serialize)]
pub(crate) struct VmLine {
    host: String,
    vm: String,
    disks: usize,
    size: u64,
    running: bool,
    /// The replicas that have not said yet whether it may run here, and with which code they refused to, if they did.
    awaited: Vec<String>,
    /// What keeps it down, if a replica said that it may not run here.
    kept_down: Option<String>,
    replicas: Vec<String>,
}

impl VmLine {
    pub(crate) fn row(&self) -> Vec<String> {
        let running = match (self.running, &self.kept_down) {
            (true, _) => "yes".to_owned(),
            (false, _) if !self.awaited.is_empty() => format!("no, waits for leave of {}", self.awaited.join(" and ")),
            (false, Some(why)) => format!("no, {why}"),
            (false, None) => "no".to_owned(),
        };
        vec![
            self.host.clone(),
            self.vm.clone(),
            self.disks.to_string(),
            ByteCount(self.size).to_string(),
            running,
            self.replicas.join(" "),
        ]
    }
}

/// The VMs of all hosts of the site.
pub(crate) fn vms(client: &Client) -> Result<Vec<VmLine>, Failure> {
    let hosts: Vec<Value> = client.get("/api/v1/resources/host")?;
    let mut lines = Vec::new();
    for thing in &hosts {
        let Some(host::State::Defined(defined)) = typed(thing) else { continue };
        for (name, vm) in &defined.inventory {
            lines.push(VmLine {
                host: text(&thing["name"]),
                vm: name.to_string(),
                disks: vm.disks.len(),
                size: vm.disks.iter().map(|disk| disk.size.0).sum(),
                running: vm.running,
                awaited: defined.asked.get(name).map(awaited).unwrap_or_default(),
                kept_down: defined.kept_down.get(name).map(kept_down),
                replicas: defined.protected.get(name).into_iter().flatten().map(ToString::to_string).collect(),
            });
        }
    }
    Ok(lines)
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
