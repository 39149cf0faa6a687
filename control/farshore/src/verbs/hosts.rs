//! Verbs that have a host do something now: list its VMs, start one, stop one. They wait for the end, and a failure is theirs.

use super::drive::LOOK;
use super::get::{text, typed};
use super::vms::Reach;
use crate::cli::{At, Output, PowerArgs, VmVerb};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{count, hint, say, structured};
use farshore_core::host::{Defined, State};
use farshore_schemas::ids::{Kind, Name, VmName};
use farshore_schemas::messages::host::{Command, Driver, Work};
use farshore_schemas::messages::{Message, Override};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// A mover that is started together with its site is there by then, and one elsewhere has been asked.
const COMES: Duration = Duration::from_secs(5);

/// `farshore discover`.
pub(crate) fn discover(host: &Name, no_wait: bool, at: &At, how: (Output, bool)) -> Result<(), Failure> {
    let client = Client::of(&at.data)?;
    match client.command(Kind::Host, host, &Message::Host(Command::Discover)) {
        Ok(_) => {}
        // The one under way is waited for instead.
        Err(failure) if failure.code == "FS-HOST-DISCOVERING" => {}
        Err(failure) => return Err(failure),
    }
    if no_wait {
        say(&format!("{host} lists its VMs; see `farshore get vms`"));
        return Ok(());
    }
    let listing = |defined: &Defined| {
        defined.orders.open.iter().filter(|(_, open)| open.work == Work::Discover).map(|(ordinal, _)| *ordinal).max()
    };
    let Some(ordinal) = listing(&*look(&client, host)?) else { return listed(host, &*look(&client, host)?, how.0) };
    let mut patience = Patience::new(&client, host);
    loop {
        let defined = look(&client, host)?;
        if !defined.orders.open.contains_key(&ordinal) {
            return listed(host, &defined, how.0);
        }
        patience.wait(&defined)?;
    }
}

fn look(client: &Client, host: &Name) -> Result<Box<Defined>, Failure> {
    let shown: Value = client.get(&format!("/api/v1/resources/host/{host}"))?;
    match typed(&shown) {
        Some(State::Defined(defined)) => Ok(defined),
        Some(State::Undefined { .. }) | None => {
            let text = format!("the host {host} is not defined any more, or the site runs another version");
            Err(Failure::new("FS-CLI-HOST-GONE", text, "see `farshore get hosts`").not_found())
        }
    }
}

/// What a listing came to.
fn listed(host: &Name, defined: &Defined, output: Output) -> Result<(), Failure> {
    if let Some(failed) = &defined.listing_failed {
        let Driver::Folder { path } = &defined.spec.driver;
        let why = &failed.failure;
        let text = format!("host {host}, folder {path}: {}", why.message);
        return Err(Failure::new(&why.code, text, &why.advice));
    }
    let vms = defined.inventory.len();
    if !structured(output, &json!({ "host": host, "vms": vms, "listed": defined.listed }))? {
        say(&format!("{host} has {}; see `farshore get vms`", count(vms, "VM")));
    }
    Ok(())
}

/// Waits for a host, and gives up when its mover has not been there for a while: what was ordered stands in the log, and is done
/// once the mover is there.
struct Patience<'a> {
    client: &'a Client,
    host: &'a Name,
    away_since: Option<Instant>,
}

impl<'a> Patience<'a> {
    fn new(client: &'a Client, host: &'a Name) -> Self {
        Patience { client, host, away_since: None }
    }

    fn wait(&mut self, defined: &Defined) -> Result<(), Failure> {
        let (reach, mover, host) = (Reach::ask(self.client)?, defined.spec.mover.as_str(), self.host);
        if reach.is_connected(mover) {
            self.away_since = None;
        } else if self.away_since.get_or_insert_with(Instant::now).elapsed() > COMES {
            let line = reach.line(mover);
            let text = format!("host {host} was told, and its mover {mover} {line}: nothing is done until it is");
            let advice = "define the mover if it is not, and run its agent; see `farshore status`";
            return Err(Failure::new("FS-CLI-MOVER-AWAY", text, advice).with(Exit::Incomplete));
        }
        std::thread::sleep(LOOK);
        Ok(())
    }
}

/// `farshore vm`.
pub(crate) fn vm(verb: VmVerb, how: (Output, bool)) -> Result<(), Failure> {
    match verb {
        VmVerb::PowerOn { vm, power, force, reason } => {
            let operator = || std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
            let forced = reason.filter(|_| force).map(|reason| Override { by: operator(), reason });
            power_to(&vm, &power, Command::PowerOn { vm: vm.clone(), forced }, (true, how))
        }
        VmVerb::PowerOff { vm, power } => power_to(&vm, &power, Command::PowerOff { vm: vm.clone() }, (false, how)),
    }
}

fn power_to(
    vm: &VmName,
    args: &PowerArgs,
    command: Command,
    (on, (output, quiet)): (bool, (Output, bool)),
) -> Result<(), Failure> {
    let client = Client::of(&args.at.data)?;
    let host = args.host.clone().map_or_else(|| host_of(&client, vm), Ok)?;
    let applied = client.command(Kind::Host, &host, &Message::Host(command))?;
    let mut note = applied.note.clone();
    if let Some(note) = &note {
        hint(quiet, note);
    }
    let (mut done, mut patience) = (false, Patience::new(&client, &host));
    while !args.no_wait && !done {
        let defined = look(&client, &host)?;
        done = settled(vm, &host, &defined, on)?;
        if done {
            note = None;
        } else {
            patience.wait(&defined)?;
        }
    }
    let power = match (done, on) {
        (true, true) => "on",
        (true, false) => "off",
        (false, _) => "ordered",
    };
    if !structured(output, &json!({ "host": host, "vm": vm, "frame": applied.seq, "power": power, "note": note }))? {
        say(&format!("{vm} on {host}: {power}{}", note.map(|note| format!("; {note}")).unwrap_or_default()));
    }
    Ok(())
}

/// The host that has a VM of this name, when there is only one.
fn host_of(client: &Client, vm: &VmName) -> Result<Name, Failure> {
    let hosts: Vec<Value> = client.get("/api/v1/resources/host")?;
    let has = |thing: &&Value| match typed::<State>(thing) {
        Some(State::Defined(host)) => host.inventory.contains_key(vm),
        Some(State::Undefined { .. }) | None => false,
    };
    let found: Vec<String> = hosts.iter().filter(has).map(|thing| text(&thing["name"])).collect();
    match found.as_slice() {
        [one] => one.parse().map_err(|bad: farshore_schemas::ids::BadId| Failure::defect(&bad)),
        [] => {
            let text = format!("no host of this site has a VM {vm}");
            let advice = "list them with `farshore get vms`, or list a host's anew with `farshore discover`";
            Err(Failure::new("FS-CLI-NO-VM", text, advice).not_found())
        }
        several => {
            let text = format!("the hosts {} each have a VM {vm}", several.join(" and "));
            Err(Failure::new("FS-CLI-VM-AMBIGUOUS", text, "say which with --host").with(Exit::Refused))
        }
    }
}

/// Whether the VM is as it was ordered to be; an error once nothing is under way that could make it so.
fn settled(vm: &VmName, host: &Name, defined: &Defined, on: bool) -> Result<bool, Failure> {
    let under_way = defined.orders.open.values().any(|open| match &open.work {
        Work::Start { vm: at, .. } | Work::Stop { vm: at, .. } => at == vm,
        Work::Discover | Work::BeginRead { .. } | Work::EndRead { .. } | Work::Create { .. } | Work::Write { .. } => {
            false
        }
    });
    let runs = defined.inventory.get(vm).is_some_and(|facts| facts.running);
    if under_way || (on && defined.asked.contains_key(vm)) {
        return Ok(false);
    }
    if runs == on {
        return Ok(true);
    }
    let why = match defined.kept_down.get(vm) {
        Some(kept) => {
            format!("kept down by {}, which knows epoch {} of {}", kept.by, kept.epoch.counter, kept.epoch.site)
        }
        None => "its order failed".to_owned(),
    };
    let (was, advice) = (if on { "started" } else { "stopped" }, format!("see `farshore log ls --actor host/{host}`"));
    Err(Failure::new("FS-CLI-POWER", format!("the VM {vm} on {host} was not {was}: {why}"), &advice))
}
