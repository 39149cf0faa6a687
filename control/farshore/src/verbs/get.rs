//! Verbs that look: lists and single things of a running site, read through its API.

use super::vms::{Reach, VmLine, vms};
use crate::cli::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{count, rows, structured, time};
use farshore_core::{host, job, mover, plan, replica, repository, session};
use farshore_schemas::ids::{Kind, Name, VmRef};
use farshore_schemas::messages::host::Driver;
use farshore_schemas::messages::repository::Hold;
use farshore_schemas::units::ByteCount;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// A kind as operators write it: one or many of it.
pub(crate) fn kind(text: &str) -> Result<Kind, Failure> {
    let singular = match text {
        "repositories" => "repository",
        "plan" | "plans" | "failoverplan" | "failoverplans" => "plan",
        other => other.strip_suffix('s').unwrap_or(other),
    };
    let parsed = singular.parse::<Kind>().ok().filter(|kind| Kind::ENTITIES.contains(kind));
    parsed.ok_or_else(|| {
        let advice = "use site, host, mover, repository, broker, job, session, replica, plan, vms or points";
        Failure::new("FS-CLI-KIND", format!("there is no kind {text:?}"), advice)
    })
}

/// `farshore get`.
pub(crate) fn get(what: &str, name: Option<&Name>, data: &Path, output: Output) -> Result<(), Failure> {
    let client = Client::of(data)?;
    match (what, name) {
        ("vms" | "vm", None) => {
            rows(output, &vms(&client)?, &["host", "vm", "disks", "size", "power", "protected by"], VmLine::row)
        }
        ("points" | "point", None) => rows(
            output,
            &points(&client)?,
            &["repository", "point", "vm", "taken", "usable", "job", "stored", "immutable until", "held"],
            PointLine::row,
        ),
        (_, None) => {
            let kind = kind(what)?;
            let things: Vec<Value> = client.get(&format!("/api/v1/resources/{kind}"))?;
            let things: Vec<Value> = things.into_iter().filter(exists).collect();
            let reach = Reach::ask(&client)?;
            rows(output, &things, &["name", "frames", "how it is"], |thing| {
                vec![text(&thing["name"]), text(&thing["frames"]), how(kind, thing, &reach)]
            })
        }
        (_, Some(name)) => describe(what, name, data, if output == Output::Table { Output::Yaml } else { output }),
    }
}

/// `farshore describe`.
pub(crate) fn describe(what: &str, name: &Name, data: &Path, output: Output) -> Result<(), Failure> {
    let client = Client::of(data)?;
    let output = if output == Output::Table { Output::Yaml } else { output };
    if matches!(what, "vm" | "vms") {
        let named: Vec<VmLine> = vms(&client)?.into_iter().filter(|line| line.vm == name.as_str()).collect();
        if named.is_empty() {
            let text = format!("no host of this site has a VM {name}");
            return Err(Failure::new("FS-CLI-NO-VM", text, "list them with `farshore get vms`").not_found());
        }
        return structured(output, &named).map(drop);
    }
    let kind = kind(what)?;
    let mut thing: Value = client.get(&format!("/api/v1/resources/{kind}/{name}"))?;
    if kind == Kind::Host {
        let its: Vec<VmLine> = vms(&client)?.into_iter().filter(|line| line.host == name.as_str()).collect();
        thing["vms"] = serde_json::to_value(its).map_err(|error| Failure::defect(&error))?;
    }
    structured(output, &thing).map(drop)
}

/// Whether a thing is defined: an actor that was only ever refused something, or was removed, is none.
pub(crate) fn exists(thing: &Value) -> bool {
    let state = &thing["state"];
    state != "New" && state != "Undefined" && state["Undefined"].is_null() && state["Removed"].is_null()
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// A state as its actor's type; none when the site runs another version.
pub(crate) fn typed<T: DeserializeOwned>(thing: &Value) -> Option<T> {
    serde_json::from_value(thing["state"].clone()).ok()
}

/// One line about a thing.
pub(crate) fn how(kind: Kind, thing: &Value, reach: &Reach) -> String {
    let line = match kind {
        Kind::Job => typed(thing).map(|state: job::State| job_line(&state)),
        Kind::Session => Some(SessionLook::of(thing).line()),
        Kind::Replica | Kind::Plan => Some(Rest::of(kind, thing).line),
        Kind::Repository => typed(thing).map(|state: repository::State| match state {
            repository::State::Undefined { .. } => "not defined".to_owned(),
            repository::State::Defined(defined) => format!(
                "{}, {}, at {}",
                count(defined.points.len(), "point"),
                count(defined.accesses.len(), "access"),
                defined.spec.path
            ),
        }),
        Kind::Host => typed(thing).map(|state: host::State| match state {
            host::State::Undefined { .. } => "not defined".to_owned(),
            host::State::Defined(defined) => host_line(&defined, reach),
        }),
        Kind::Mover => typed(thing).map(|state: mover::State| match state {
            mover::State::Undefined { .. } => "not defined".to_owned(),
            mover::State::Defined(_) => reach.line(&text(&thing["name"])),
        }),
        Kind::Site | Kind::Broker | Kind::Agent | Kind::Api => None,
    };
    line.unwrap_or_else(|| short(&thing["state"]))
}

/// A state's variant, for kinds without a line of their own.
fn short(state: &Value) -> String {
    match state {
        Value::Object(fields) => fields.keys().next().cloned().unwrap_or_default(),
        other @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => text(other),
    }
}

fn host_line(host: &host::Defined, reach: &Reach) -> String {
    let Driver::Folder { path } = &host.spec.driver;
    if let Some(host::ListingFailed { failure, at }) = &host.listing_failed {
        let (at, last) =
            (time(at.0), host.listed.map_or("never listed".to_owned(), |at| format!("last listed {}", time(at.0))));
        return format!("{path} was not listed at {at}: {}: {} ({last})", failure.code, failure.message);
    }
    if let Some(why) = reach.unknown(host) {
        return format!("{}, power unknown: {why}", count(host.inventory.len(), "VM"));
    }
    let running = host.inventory.values().filter(|vm| vm.running).count();
    let mut line = format!("{}, {running} running", count(host.inventory.len(), "VM"));
    for (count, what) in [(host.asked.len(), "waiting for leave to run"), (host.kept_down.len(), "kept down")] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line
}

fn job_line(state: &job::State) -> String {
    match state {
        job::State::New => "not defined".to_owned(),
        job::State::Removed { runs } => format!("forgotten after {}", count(*runs, "run")),
        job::State::Defined(job) => {
            let now = job.running.as_ref().map(|running| format!("runs as {}", running.session));
            let last = job
                .last
                .as_ref()
                .map(|last| format!("last {}: {:?} at {}", last.session, last.result, time(last.ended.0)));
            now.or(last).unwrap_or_else(|| "never ran".to_owned())
        }
    }
}

/// A session as the command line looks at it.
pub(crate) struct SessionLook {
    pub(crate) ended: bool,
    pub(crate) result: String,
    /// Why it failed, as far as it is known.
    pub(crate) why: String,
    phase: String,
    vms: String,
}

impl SessionLook {
    pub(crate) fn of(thing: &Value) -> SessionLook {
        let nothing = || SessionLook {
            ended: false,
            result: "None".to_owned(),
            why: String::new(),
            phase: "unknown".to_owned(),
            vms: String::new(),
        };
        let Some(session::State::Begun(run)) = typed(thing) else { return nothing() };
        let (ended, result) = match &run.phase {
            session::Phase::Stopped { result, .. } => (true, format!("{result:?}")),
            session::Phase::Starting { .. }
            | session::Phase::Working
            | session::Phase::RetryWait { .. }
            | session::Phase::Stopping => (false, "None".to_owned()),
        };
        let failures = run.vms.iter().filter_map(|(vm, of)| match &of.step {
            session::Step::Ended(end) => {
                end.failure.as_ref().map(|failure| format!("{vm}: {}: {}", failure.code, failure.message))
            }
            session::Step::Planned
            | session::Step::Slots { .. }
            | session::Step::Access { .. }
            | session::Step::Read { .. }
            | session::Step::Create { .. }
            | session::Step::Point { .. }
            | session::Step::Moving { .. }
            | session::Step::Committing { .. }
            | session::Step::Winding { .. } => None,
        });
        let whole = run.failure.iter().map(|failure| format!("{}: {}", failure.code, failure.message));
        let why = whole.chain(failures).collect::<Vec<_>>().join("; ");
        let vms = run.vms.iter().map(|(vm, of)| format!("{vm} {}", step_name(&of.step))).collect::<Vec<_>>().join(", ");
        SessionLook { ended, result, why, phase: phase_name(&run.phase).to_owned(), vms }
    }

    pub(crate) fn line(&self) -> String {
        if self.ended {
            return format!("{} {}", self.result, self.why).trim_end().to_owned();
        }
        format!("{}: {}", self.phase, self.vms)
    }
}

fn phase_name(phase: &session::Phase) -> &'static str {
    match phase {
        session::Phase::Starting { .. } => "starting",
        session::Phase::Working => "working",
        session::Phase::RetryWait { .. } => "waits to try again",
        session::Phase::Stopping => "stopping",
        session::Phase::Stopped { .. } => "stopped",
    }
}

fn step_name(step: &session::Step) -> &'static str {
    match step {
        session::Step::Planned => "planned",
        session::Step::Slots { .. } => "waits for a slot",
        session::Step::Access { .. } => "waits for the repository",
        session::Step::Read { .. } => "is frozen",
        session::Step::Create { .. } => "is made",
        session::Step::Point { .. } => "waits for its replica",
        session::Step::Moving { .. } => "moves",
        session::Step::Committing { .. } => "commits",
        session::Step::Winding { .. } => "winds down",
        session::Step::Ended(_) => "done",
    }
}

/// Whether a plan or replica rests, and how.
pub(crate) struct Rest {
    pub(crate) rests: bool,
    pub(crate) line: String,
    pub(crate) failure: Option<String>,
}

impl Rest {
    pub(crate) fn of(kind: Kind, thing: &Value) -> Rest {
        let rest = |rests, line: String, failure| Rest { rests, line, failure };
        if kind == Kind::Plan {
            return match typed(thing) {
                Some(plan::State::New) => rest(true, "not defined".to_owned(), None),
                Some(plan::State::Idle { last: None, spec }) => {
                    rest(true, format!("{}, never ran", count(spec.steps.len(), "VM")), None)
                }
                Some(plan::State::Idle { last: Some(report), .. }) => {
                    let failed: Vec<String> = report
                        .steps
                        .iter()
                        .filter_map(|(name, failure)| {
                            failure.as_ref().map(|why| format!("{name}: {}: {}", why.code, why.message))
                        })
                        .collect();
                    let failure = (!failed.is_empty()).then(|| failed.join("; "));
                    rest(true, format!("{:?} ended: {:?}", report.action, report.result), failure)
                }
                Some(plan::State::Running { run, .. }) => rest(
                    false,
                    format!(
                        "{:?}: {} done, {} under way, {} to go",
                        run.action,
                        run.ended.len(),
                        run.under_way.len(),
                        run.left.len()
                    ),
                    None,
                ),
                None => rest(true, short(&thing["state"]), None),
            };
        }
        match typed(thing) {
            Some(replica::State::New) => rest(true, "never made".to_owned(), None),
            Some(replica::State::Known(known)) => match &known.phase {
                replica::Phase::Rest { rest: at, failure, .. } => {
                    let failure = failure.as_ref().map(|why| format!("{}: {}", why.code, why.message));
                    rest(
                        true,
                        format!("{at:?}, {}, epoch {}", count(known.points.len(), "point"), known.right.epoch.counter),
                        failure,
                    )
                }
                replica::Phase::Processing(processing) => {
                    rest(false, format!("takes point {}", processing.point), None)
                }
                replica::Phase::Working(_) => rest(false, "on its way".to_owned(), None),
            },
            None => rest(true, short(&thing["state"]), None),
        }
    }
}

/// A restore point in a list.
#[derive(Debug, Serialize)]
pub(crate) struct PointLine {
    pub(crate) repository: String,
    pub(crate) point: String,
    pub(crate) vm: String,
    pub(crate) taken: i64,
    pub(crate) usable: i64,
    pub(crate) job: String,
    pub(crate) stored: u64,
    /// Who holds it against retention, why and until when.
    pub(crate) held: Option<Hold>,
    /// Until when it must stay.
    pub(crate) immutable: Option<i64>,
    #[serde(skip)]
    origin: Option<VmRef>,
}

impl PointLine {
    fn row(&self) -> Vec<String> {
        vec![
            self.repository.clone(),
            self.point.clone(),
            self.vm.clone(),
            time(self.taken),
            time(self.usable),
            self.job.clone(),
            ByteCount(self.stored).to_string(),
            self.immutable.map_or_else(String::new, time),
            self.held.as_ref().map_or_else(String::new, held_line),
        ]
    }

    /// Whose point it is.
    pub(crate) fn origin(&self) -> Result<VmRef, Failure> {
        self.origin.clone().ok_or_else(|| Failure::defect(&"a point without a VM"))
    }
}

fn held_line(hold: &Hold) -> String {
    let until =
        hold.until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {}", time(until.0)));
    format!("{until}, by {}: {}", hold.by, hold.reason)
}

/// Every restore point of the site's repositories, oldest first.
pub(crate) fn points(client: &Client) -> Result<Vec<PointLine>, Failure> {
    let repositories: Vec<Value> = client.get("/api/v1/resources/repository")?;
    let mut lines = Vec::new();
    for thing in &repositories {
        let Some(repository::State::Defined(defined)) = typed(thing) else { continue };
        for point in defined.points.values() {
            let facts = &point.facts;
            lines.push(PointLine {
                repository: text(&thing["name"]),
                point: facts.point.to_string(),
                vm: facts.vm.to_string(),
                taken: facts.taken.0,
                usable: facts.usable.0,
                job: facts.job.to_string(),
                stored: facts.stored.0,
                held: point.held.clone(),
                immutable: point.immutable.map(|until| until.0),
                origin: Some(facts.vm.clone()),
            });
        }
    }
    lines.sort_by_key(|line| line.taken);
    Ok(lines)
}
