//! Verbs that change things: they go through the API of the running site.

use crate::cli::{FailbackArgs, FailbackStep, FailoverArgs, Group, JobVerb, Output, RestoreArgs, SessionVerb};
use crate::client::Client;
use crate::failure::{Exit, Failure};
use crate::output::{hint, rows, say, structured};
use farshore_api::resources;
use farshore_api::server::Applied;
use farshore_schemas::ids::{EntityId, Kind, Name, PointId};
use farshore_schemas::messages::job::{self, JobSpec, Retry, Schedule, Work};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::plan::{self, Action};
use farshore_schemas::messages::replica::{self, PointChoice};
use farshore_schemas::messages::{Message, Override};
use farshore_schemas::units::Millis;
use serde_json::Value;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// How often a watched thing is looked at.
pub(crate) const LOOK: Duration = Duration::from_millis(200);

/// `farshore apply`.
pub(crate) fn apply(file: &Path, data: &Path, output: Output) -> Result<(), Failure> {
    let mut text = String::new();
    if file.as_os_str() == "-" {
        std::io::stdin()
            .take(resources::MAX_BYTES as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|error| Failure::io("read", file, &error))?;
    } else {
        text = std::fs::read_to_string(file).map_err(|error| Failure::io("read", file, &error))?;
    }
    resources::parse(&text).map_err(|error| {
        let shown = picture(&text, error.line, error.column);
        Failure::coded(&format!("{error} (in {})\n{shown}", file.display()), "correct the text; nothing was applied")
    })?;
    let applied = Client::of(data)?.apply(text)?;
    rows(output, &applied, &["thing", "frame", "outcome"], |one| {
        vec![
            one.id.clone(),
            one.seq.to_string(),
            one.refused
                .as_ref()
                .map_or_else(|| "applied".to_owned(), |no| format!("{}: {}\n{}", no.code, no.message, no.advice)),
        ]
    })?;
    if applied.iter().any(|one| one.refused.is_some()) {
        return Err(
            Failure::new("FS-CLI-APPLY", "some things were refused", "see the table above").with(Exit::Incomplete)
        );
    }
    Ok(())
}

/// The line that is wrong, with a mark under the place.
fn picture(text: &str, line: u64, column: u64) -> String {
    let at = usize::try_from(line).unwrap_or(1).saturating_sub(1);
    let wrong: String = text.lines().nth(at).unwrap_or_default().chars().take(160).collect();
    let mark = usize::try_from(column).unwrap_or(1).clamp(1, 160);
    format!("  {line:>4} | {wrong}\n       | {:>mark$}", "^")
}

/// `farshore delete`.
pub(crate) fn delete(kind: &str, name: &Name, data: &Path) -> Result<(), Failure> {
    let id = EntityId { kind: super::get::kind(kind)?, name: name.clone() };
    Client::of(data)?.delete(&id)?;
    say(&format!("{id} is forgotten"));
    Ok(())
}

/// `farshore job`.
pub(crate) fn job(verb: JobVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    match verb {
        JobVerb::Run { name, no_wait, at } => {
            let client = Client::of(&at.data)?;
            client.command(Kind::Job, &name, &Message::Job(job::Command::Run))?;
            let session = running_session(&client, &name)?;
            if no_wait {
                say(&session);
                return Ok(());
            }
            watch(&client, &parse(&session)?, output, quiet)
        }
        JobVerb::Stop { name, at } => {
            Client::of(&at.data)?.command(Kind::Job, &name, &Message::Job(job::Command::Stop)).map(drop)
        }
    }
}

fn parse(text: &str) -> Result<Name, Failure> {
    text.parse().map_err(|bad: farshore_schemas::ids::BadId| Failure::defect(&bad))
}

/// The session that a job has begun, or has just ended.
fn running_session(client: &Client, job: &Name) -> Result<String, Failure> {
    let shown: Value = client.get(&format!("/api/v1/resources/job/{job}"))?;
    let defined = &shown["state"]["Defined"];
    let session = defined["running"]["session"].as_str().or_else(|| defined["last"]["session"].as_str());
    session.map(ToOwned::to_owned).ok_or_else(|| Failure::defect(&format!("job {job} runs and names no session")))
}

/// `farshore session watch`.
pub(crate) fn session(verb: SessionVerb, output: Output, quiet: bool) -> Result<(), Failure> {
    let SessionVerb::Watch { name, at } = verb;
    watch(&Client::of(&at.data)?, &name, output, quiet)
}

/// Follows a session until it has ended; its result is the exit code.
pub(crate) fn watch(client: &Client, session: &Name, output: Output, quiet: bool) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let shown: Value = client.get(&format!("/api/v1/resources/session/{session}"))?;
        let looks = super::get::SessionLook::of(&shown);
        let line = looks.line();
        if line != said {
            hint(quiet, &line);
            said = line;
        }
        if looks.ended {
            if !structured(output, &shown["state"])? {
                say(&format!("session {session}: {}", looks.result));
            }
            return match looks.result.as_str() {
                "Success" => Ok(()),
                "Warning" => Err(Failure::new(
                    "FS-SESSION-WARNING",
                    format!("session {session} ended with warnings"),
                    "see `farshore describe session`",
                )
                .with(Exit::Incomplete)),
                _ => Err(Failure::new(
                    "FS-SESSION-FAILED",
                    format!("session {session} failed: {}", looks.why),
                    "see `farshore describe session`",
                )),
            };
        }
        std::thread::sleep(LOOK);
    }
}

/// `farshore restore`.
pub(crate) fn restore(args: &RestoreArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let client = Client::of(&args.at.data)?;
    let points = super::get::points(&client)?;
    let point = points
        .iter()
        .find(|point| point.repository == args.repository.as_str() && point.point == args.point.as_str())
        .ok_or_else(|| {
            Failure::new(
                "FS-CLI-NO-POINT",
                format!("repository {} has no point {}", args.repository, args.point),
                "list points with `farshore get points`",
            )
            .not_found()
        })?;
    let origin = point.origin()?;
    let tag: String = rand::random::<[u8; 4]>().iter().map(|byte| format!("{byte:02x}")).collect();
    let name = parse(&format!("restore-{tag}"))?;
    let spec = JobSpec {
        work: Work::Restore {
            repository: args.repository.clone(),
            point: args.point_id(),
            origin,
            host: args.host.clone(),
            vm: args.vm.clone(),
        },
        schedule: Schedule::Manual,
        retry: Retry { attempts: 0, wait: Millis(0) },
        keep: Keep::newest(1),
    };
    client.command(Kind::Job, &name, &Message::Job(job::Command::Define(spec)))?;
    let session = running_session(&client, &name)?;
    watch(&client, &parse(&session)?, output, quiet)
}

fn point_choice(point: Option<&Name>) -> PointChoice {
    point.map_or(PointChoice::Newest, |point| PointChoice::Point(PointId(point.clone())))
}

/// `farshore failover`.
pub(crate) fn failover(args: &FailoverArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let client = Client::of(&args.at.data)?;
    let forced = args.override_by.clone().zip(args.reason.clone()).map(|(by, reason)| Override { by, reason });
    let point = point_choice(args.point.as_ref());
    let action = if args.undo { Action::Undo } else { Action::Failover };
    let command = match (args.undo, args.permanent) {
        (true, _) => replica::Command::UndoFailover,
        (_, true) => replica::Command::MakePermanent,
        (false, false) => replica::Command::Failover { point: point.clone(), forced: forced.clone() },
    };
    let plan = plan::Command::Run { action, point, forced };
    drive(&client, &args.group, command, plan, (output, quiet))
}

/// `farshore failback`.
pub(crate) fn failback(args: &FailbackArgs, output: Output, quiet: bool) -> Result<(), Failure> {
    let client = Client::of(&args.at.data)?;
    let (command, action) = match args.step {
        FailbackStep::Start => (replica::Command::Failback, Some(Action::Failback)),
        FailbackStep::Switch => (replica::Command::Switch, Some(Action::Switch)),
        FailbackStep::Commit => (replica::Command::CommitFailback, Some(Action::Commit)),
        FailbackStep::Undo => (replica::Command::UndoFailback, None),
    };
    let Some(action) = action else {
        let Some(name) = &args.group.replica else {
            return Err(Failure::new(
                "FS-CLI-UNDO-FAILBACK",
                "undoing a failback is done for one replica",
                "name it with --replica",
            )
            .with(Exit::Refused));
        };
        let applied = client.command(Kind::Replica, name, &Message::Replica(command))?;
        return settle(&client, &EntityId { kind: Kind::Replica, name: name.clone() }, &applied, (output, quiet));
    };
    let plan = plan::Command::Run { action, point: PointChoice::Newest, forced: None };
    drive(&client, &args.group, command, plan, (output, quiet))
}

fn drive(
    client: &Client,
    group: &Group,
    command: replica::Command,
    plan: plan::Command,
    how: (Output, bool),
) -> Result<(), Failure> {
    let (id, message) = match (&group.plan, &group.replica) {
        (Some(name), _) => (EntityId { kind: Kind::Plan, name: name.clone() }, Message::Plan(plan)),
        (None, Some(name)) => (EntityId { kind: Kind::Replica, name: name.clone() }, Message::Replica(command)),
        (None, None) => return Err(Failure::defect(&"neither plan nor replica")),
    };
    let applied = client.command(id.kind, &id.name, &message)?;
    settle(client, &id, &applied, how)
}

/// Follows a plan or replica until it rests.
fn settle(client: &Client, id: &EntityId, _applied: &Applied, (output, quiet): (Output, bool)) -> Result<(), Failure> {
    let mut said = String::new();
    loop {
        let shown: Value = client.get(&format!("/api/v1/resources/{}/{}", id.kind, id.name))?;
        let look = super::get::Rest::of(id.kind, &shown);
        if look.line != said {
            hint(quiet, &format!("{id}: {}", look.line));
            said.clone_from(&look.line);
        }
        if look.rests {
            if !structured(output, &shown["state"])? {
                say(&format!("{id}: {}", look.line));
            }
            return match look.failure {
                None => Ok(()),
                Some(why) => Err(Failure::new(
                    "FS-CLI-NOT-DONE",
                    format!("{id}: {why}"),
                    "see `farshore describe`, mend the cause and run it again",
                )),
            };
        }
        std::thread::sleep(LOOK);
    }
}
