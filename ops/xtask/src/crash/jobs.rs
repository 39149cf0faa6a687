//! The sites' definitions, and the two jobs that run again and again whatever operators do meanwhile.

use super::Wrong;
use super::api::Api;
use super::choices::Choices;
use super::operator::KEEP_COLD;
use super::world::{Vm, World, until};
use farshore_core::host;
use farshore_schemas::ids::{Kind, Name};
use std::path::Path;

/// Defines both sites, waits until both hosts are listed.
pub(crate) fn define(world: &World, vms: &[Vm]) -> Result<(), Wrong> {
    let quoted = |path: &Path| serde_json::json!(path.to_string_lossy()).to_string();
    let head = |kind: &str, name: &str| format!("apiVersion: farshore/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
    let names: Vec<String> = vms.iter().map(|vm| vm.name.to_string()).collect();
    let names = names.join(", ");
    let mut hq = vec![
        head("Site", "hq") + "spec: {peers: [dr]}\n",
        head("Mover", "hq-mover") + "spec: {roles: [source, target, repository], slots: 4}\n",
        head("Repository", "hq-repo")
            + &format!("spec: {{mover: hq-mover, path: {}}}\n", quoted(&world.hq.folder.join("repository"))),
        head("Host", "hq-host") + &format!("spec: {{mover: hq-mover, folder: {}}}\n", quoted(world.hq_host.path())),
        head("Job", "nightly")
            + &format!("spec: {{backup: {{host: hq-host, vms: [{names}], repository: hq-repo}}, keep: 3}}\n"),
    ];
    let mut dr = vec![
        head("Site", "dr") + "spec: {peers: [hq]}\n",
        head("Mover", "dr-mover") + "spec: {roles: [source, target], slots: 4}\n",
        head("Host", "dr-host") + &format!("spec: {{mover: dr-mover, folder: {}}}\n", quoted(world.dr_host.path())),
        head("Job", "offsite")
            + &format!(
                "spec: {{replication: {{sourceSite: hq, sourceHost: hq-host, vms: [{names}], digests: hq-repo, targetHost: dr-host}}, keep: 3}}\n"
            ),
    ];
    for vm in vms {
        let backup = format!(
            "spec: {{backup: {{host: hq-host, vms: [{}], repository: hq-repo}}, keep: {KEEP_COLD}}}\n",
            vm.name
        );
        hq.push(head("Job", vm.cold.as_str()) + &backup);
        dr.push(head("FailoverPlan", vm.plan.as_str()) + &format!("spec: {{steps: [{{replica: {}}}]}}\n", vm.replica));
    }
    let steps: Vec<String> = vms.iter().map(|vm| format!("{{replica: {}}}", vm.replica)).collect();
    dr.push(head("FailoverPlan", "all") + &format!("spec: {{steps: [{}]}}\n", steps.join(", ")));
    world.hq.apply(&hq.join("---\n"))?;
    world.dr.apply(&dr.join("---\n"))?;
    for (api, host) in [(&world.hq, "hq-host"), (&world.dr, "dr-host")] {
        listed(world, api, &super::name(host))?;
    }
    Ok(())
}

fn listed(world: &World, api: &Api, name: &Name) -> Result<(), Wrong> {
    until(&format!("the inventory of {name}"), || {
        let defined: Option<Box<host::Defined>> = world.host(api, name)?;
        Ok(defined.filter(|host| host.revision > 0 && host.orders.open.is_empty()).map(drop))
    })
}

/// Runs a job again and again until enough processes were killed.
pub(crate) fn repeat(world: &World, api: &Api, job: &Name, mut choices: Choices) -> Result<(), Wrong> {
    while !world.enough() {
        world.run_job(api, job)?;
        std::thread::sleep(choices.millis(50..700));
    }
    Ok(())
}

/// Whether the site has nothing left to do: no job runs, no order is open, nothing waits to be confirmed. Says what does
/// not rest.
pub(crate) fn unrest(world: &World, api: &Api, named: &Name) -> Result<Option<String>, Wrong> {
    type Rests = fn(&serde_json::Value) -> bool;
    let kinds: [(Kind, Rests); 4] = [
        (Kind::Session, |state| !state["Begun"]["phase"]["Stopped"].is_null()),
        (Kind::Job, |state| state["Defined"]["running"].is_null()),
        (Kind::Plan, |state| state["Running"].is_null()),
        (Kind::Repository, |state| empty(&state["Defined"]["accesses"]) && empty(&state["Defined"]["orders"]["open"])),
    ];
    for (kind, rests) in kinds {
        let shown: Vec<serde_json::Value> = api.get(&format!("resources/{kind}"))?.unwrap_or_default();
        for one in &shown {
            if !rests(&one["state"]) {
                return Ok(Some(format!("{kind}/{} at {}: {}", one["name"], api.site, one["state"])));
            }
        }
    }
    let defined = world.host(api, named)?.ok_or("the host is gone")?;
    // A snapshot that cannot be let go yet is tried again after minutes; nobody waits for it.
    let later = |read: &host::Read| matches!(read.status, host::ReadStatus::EndDelayed { .. });
    let reads = defined.reads.values().any(|readers| !readers.0.values().all(later));
    if !defined.orders.open.is_empty() || reads {
        return Ok(Some(format!("{named}: orders {:?}, reads {:?}", defined.orders.open, defined.reads)));
    }
    let status: serde_json::Value = api.get("status")?.ok_or("there is no status")?;
    if !empty(&status["waiting"]) {
        return Ok(Some(format!("{} waits for confirmations: {}", api.site, status["waiting"])));
    }
    Ok(None)
}

fn empty(value: &serde_json::Value) -> bool {
    value.as_object().is_none_or(serde_json::Map::is_empty) && value.as_array().is_none_or(Vec::is_empty)
}
