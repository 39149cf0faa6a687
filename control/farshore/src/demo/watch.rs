//! Waits for things of a running site, through its API, the way an operator's script would.

use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::verbs::get::Rest;
use farshore_core::{host, job, session};
use farshore_schemas::ids::{Kind, Name, VmName};
use farshore_schemas::messages::{Message, SessionResult};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(25);

/// Set when the user wants the demo to end (SIGINT, SIGTERM).
pub(crate) static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Looks until `look` finds what is wanted.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Option<T>, Failure>) -> Result<T, Failure> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look()? {
            return Ok(found);
        }
        if INTERRUPTED.load(Ordering::Relaxed) {
            return Err(
                Failure::new("FS-DEMO-INTERRUPTED", "the demo was interrupted", "run it again").with(Exit::Interrupted)
            );
        }
        if Instant::now() > deadline {
            let text = format!("{what}: not within {} s", PATIENCE.as_secs());
            return Err(Failure::new(
                "FS-DEMO-WAIT",
                text,
                "run it again on a quieter machine, or look at the logs with --keep",
            ));
        }
        std::thread::sleep(LOOK);
    }
}

/// The state of one actor; none while it does not exist.
pub(crate) fn state<T: DeserializeOwned>(client: &Client, kind: Kind, name: &Name) -> Result<Option<T>, Failure> {
    let shown: Value = match client.get(&format!("/api/v1/resources/{kind}/{name}")) {
        Ok(shown) => shown,
        Err(failure) if failure.code == "FS-API-NOT-FOUND" => return Ok(None),
        Err(failure) => return Err(failure),
    };
    serde_json::from_value(shown["state"].clone())
        .map(Some)
        .map_err(|error| Failure::defect(&format!("{kind}/{name}: {error}")))
}

/// A host that is defined.
pub(crate) fn host(client: &Client, name: &Name) -> Result<Option<Box<host::Defined>>, Failure> {
    Ok(match state::<host::State>(client, Kind::Host, name)? {
        Some(host::State::Defined(defined)) => Some(defined),
        Some(host::State::Undefined { .. }) | None => None,
    })
}

/// Waits until a host says of these VMs that they run, or do not.
pub(crate) fn running(client: &Client, name: &Name, vms: &[VmName], wanted: bool) -> Result<(), Failure> {
    until(&format!("VMs of {name} running: {wanted}"), || {
        let Some(defined) = host(client, name)? else { return Ok(None) };
        let so = |vm: &VmName| defined.inventory.get(vm).is_some_and(|facts| facts.running == wanted);
        Ok(vms.iter().all(so).then_some(()))
    })
}

/// Runs a job and waits for its end; anything but success is a failure.
pub(crate) fn run_job(client: &Client, name: &Name) -> Result<session::Run, Failure> {
    client.command(Kind::Job, name, &Message::Job(farshore_schemas::messages::job::Command::Run))?;
    job_end(client, name)
}

/// Waits for the end of the session that a job has begun.
pub(crate) fn job_end(client: &Client, name: &Name) -> Result<session::Run, Failure> {
    let begun = match state::<job::State>(client, Kind::Job, name)? {
        Some(job::State::Defined(job)) => {
            job.running.map(|running| running.session).or(job.last.map(|last| last.session))
        }
        Some(job::State::New | job::State::Removed { .. }) | None => None,
    };
    let session = begun.ok_or_else(|| Failure::defect(&format!("job {name} names no session")))?;
    let run = until(&format!("the end of session {session}"), || {
        let Some(session::State::Begun(run)) = state::<session::State>(client, Kind::Session, &session)? else {
            return Ok(None);
        };
        Ok(matches!(run.phase, session::Phase::Stopped { .. }).then_some(*run))
    })?;
    match &run.phase {
        session::Phase::Stopped { result: SessionResult::Success, .. } => Ok(run),
        phase @ (session::Phase::Starting { .. }
        | session::Phase::Working
        | session::Phase::RetryWait { .. }
        | session::Phase::Stopping
        | session::Phase::Stopped { .. }) => {
            let shown: Value = client.get(&format!("/api/v1/resources/session/{session}"))?;
            let why = crate::verbs::get::SessionLook::of(&shown).why;
            Err(Failure::new(
                "FS-DEMO-SESSION",
                format!("session {session} did not succeed ({phase:?}): {why}"),
                "see the site's log",
            ))
        }
    }
}

/// Runs something of a plan and waits for its end.
pub(crate) fn run_plan(client: &Client, name: &Name, message: &Message) -> Result<String, Failure> {
    client.command(Kind::Plan, name, message)?;
    let rest = until(&format!("the end of plan {name}"), || {
        let shown: Value = client.get(&format!("/api/v1/resources/plan/{name}"))?;
        let rest = Rest::of(Kind::Plan, &shown);
        Ok(rest.rests.then_some(rest))
    })?;
    match rest.failure {
        None => Ok(rest.line),
        Some(why) => Err(Failure::new("FS-DEMO-PLAN", format!("plan {name}: {why}"), "see the site's log")),
    }
}
