//! What `farshore up` says of movers whose agents it does not run: nothing of what they serve is done until somebody runs them,
//! and a site that does not say so looks well.

use crate::cli::{BusArgs, UpArgs};
use crate::failure::Failure;
use farshore_core::mover;
use farshore_runtime::handle::ControlHandle;
use farshore_schemas::codec;
use farshore_schemas::ids::{Kind, Name, SiteName};
use std::path::Path;

/// One line for each mover that the site defines and this process does not run, with the command that does.
pub(crate) async fn movers(control: &ControlHandle, args: &UpArgs, site: &SiteName) -> Result<Vec<String>, Failure> {
    let memories = control.memories(Some(Kind::Mover)).await;
    let memories = memories.map_err(|why| Failure::coded(&why.to_string(), "look at the messages above"))?;
    let mut defined = Vec::new();
    for memory in memories {
        if let Ok(mover::State::Defined(mover)) = codec::decode_checked(&memory.state) {
            let serves: Vec<String> = mover.registered.iter().map(|who| who.entity.to_string()).collect();
            defined.push((memory.actor.name, serves));
        }
    }
    let ours = defined.iter().any(|(name, _)| *name == args.agent);
    let away: Vec<_> = defined.iter().filter(|(name, _)| *name != args.agent).collect();
    let lines = away.iter().map(|(name, serves)| {
        let waits = if serves.is_empty() { String::new() } else { format!(", and {} waits for it", serves.join(", ")) };
        format!(
            "mover {name} does not run in this process{waits}: {}",
            command(name, site, args, away.len() == 1 && !ours)
        )
    });
    Ok(lines.collect())
}

/// The command that runs a mover's agent. On a bus of this process' own nobody else can join: then either this process runs it
/// (`instead` of an agent that no mover stands for), or both need a bus that they share.
fn command(name: &Name, site: &SiteName, args: &UpArgs, instead: bool) -> String {
    let data = &args.control.data;
    let site_data = quoted(data);
    let agent = |bus: &str| {
        let its = if data.join("agents").join(name.as_str()).is_dir() { site_data.clone() } else { "DIR".to_owned() };
        format!("`farshore agent --data {its} --site {site} --name {name} {bus}`")
    };
    match shared(&args.control.bus) {
        Some(bus) => format!("run {}", agent(&bus)),
        None if instead => format!("stop this one and run `farshore up --data {site_data} --agent {name}`"),
        None => format!("stop this one, start it with --nats URL too, and run {}", agent("--nats URL")),
    }
}

/// How another process joins the same bus.
fn shared(bus: &BusArgs) -> Option<String> {
    let creds = bus.creds.as_ref().map(|creds| format!(" --creds {}", quoted(creds))).unwrap_or_default();
    let nats = bus.nats.as_ref().map(|urls| format!("--nats {urls}{creds}"));
    nats.or_else(|| bus.join.as_ref().map(|socket| format!("--join {}", quoted(socket))))
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let text = path.to_string_lossy();
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "/._-+=:@%,".contains(letter);
    if text.chars().all(plain) { text.into_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn said(line: &[&str], instead: bool) -> String {
        let cli = crate::cli::Cli::parse_from(["farshore", "up", "--data", "/no/such dir"].iter().chain(line));
        let crate::cli::Verb::Up(args) = cli.verb else { panic!("up") };
        command(&"m1".parse().unwrap(), &"hq".parse().unwrap(), &args, instead)
    }

    #[test]
    fn the_command_joins_the_bus_that_the_site_is_on() {
        let nats = said(&["--nats", "nats://a:4222", "--creds", "/c"], false);
        assert_eq!(nats, "run `farshore agent --data DIR --site hq --name m1 --nats nats://a:4222 --creds /c`");
        let socket = said(&["--join", "/run/it's"], true);
        assert_eq!(socket, "run `farshore agent --data DIR --site hq --name m1 --join '/run/it'\\''s'`");
        let instead = said(&[], true);
        assert_eq!(instead, "stop this one and run `farshore up --data '/no/such dir' --agent m1`");
        assert!(said(&[], false).contains("start it with --nats URL too"));
    }
}
