//! What a job decides.

use super::{Job, JobActor, LONGEST_NAME, Rejection, State, schedule};
use crate::decider::{Context, Decision, Input};
use crate::naming::session_name;
use crate::turn::Turn;
use farshore_schemas::ids::{Kind, Name, VmRef};
use farshore_schemas::messages::job::{Command, Event, JobSpec, Schedule, Trigger, Work};
use farshore_schemas::messages::{Message, Refused, SessionResult, session};

type Decided = Result<Decision<Event>, Rejection>;

pub(super) fn decide(state: &State, input: &Input<Command>, context: &Context) -> Decided {
    let me = Me { state, context };
    match input {
        Input::Command(Command::Define(spec)) => me.define(spec),
        Input::Command(Command::Remove) => me.remove(),
        Input::Command(Command::Run) => me.run(),
        Input::Command(Command::Stop) => me.stop(),
        Input::Command(Command::Enable { enabled }) => me.enable(*enabled),
        Input::Command(Command::SessionEnded { session, result, protected, ended: _ }) => {
            me.session_ended(session, *result, protected)
        }
        Input::Refused(refused) => me.refused(refused),
        Input::Wake => me.wake(),
    }
}

struct Me<'a> {
    state: &'a State,
    context: &'a Context,
}

impl<'a> Me<'a> {
    fn name(&self) -> Name {
        self.context.me.entity.name.clone()
    }

    fn turn(&self) -> Turn<'a, JobActor> {
        Turn::new(self.state, self.context)
    }

    fn defined(&self) -> Result<&'a Job, Rejection> {
        match self.state {
            State::New | State::Removed { .. } => Err(Rejection::Unknown { job: self.name() }),
            State::Defined(job) => Ok(job),
        }
    }

    fn idle(&self) -> Result<&'a Job, Rejection> {
        let job = self.defined()?;
        match &job.running {
            Some(running) => Err(Rejection::Running { job: self.name(), session: running.session.clone() }),
            None => Ok(job),
        }
    }

    fn define(&self, spec: &JobSpec) -> Decided {
        validate(&self.name(), spec)?;
        let restore = is_restore(spec);
        match self.state {
            State::New | State::Removed { .. } => {}
            State::Defined(job) if restore || is_restore(&job.spec) => {
                return Err(Rejection::RestoreIsOnce { job: self.name() });
            }
            State::Defined(_) => {}
        }
        let mut turn = self.turn();
        turn.log(Event::Defined { spec: spec.clone(), at: self.context.now });
        if restore {
            start(&mut turn, Trigger::Once);
        }
        Ok(turn.done())
    }

    fn remove(&self) -> Decided {
        self.idle()?;
        Ok(Decision::event(Event::Removed))
    }

    fn run(&self) -> Decided {
        let job = self.idle()?;
        if is_restore(&job.spec) {
            return Err(Rejection::RestoreIsOnce { job: self.name() });
        }
        let mut turn = self.turn();
        start(&mut turn, Trigger::Manual);
        Ok(turn.done())
    }

    fn stop(&self) -> Decided {
        let job = self.defined()?;
        let Some(running) = &job.running else { return Err(Rejection::NotRunning { job: self.name() }) };
        let session = running.session.clone();
        if running.stopping {
            return Err(Rejection::Stopping { job: self.name(), session });
        }
        let mut turn = self.turn();
        let principal = self.context.principal.clone();
        turn.send(&self.context.here(Kind::Session, &session), Message::Session(session::Command::Stop));
        turn.log(Event::StopRequested { session, principal, at: self.context.now });
        Ok(turn.done())
    }

    fn enable(&self, enabled: bool) -> Decided {
        let job = self.defined()?;
        if is_restore(&job.spec) {
            return Err(Rejection::RestoreIsOnce { job: self.name() });
        }
        if job.enabled == enabled {
            return Err(Rejection::AlreadyEnabled { job: self.name(), enabled });
        }
        Ok(Decision::event(Event::Enabled { enabled, at: self.context.now }))
    }

    fn session_ended(&self, session: &Name, result: SessionResult, protected: &[VmRef]) -> Decided {
        self.expect_session(session, "the end of a session")?;
        let mut turn = self.turn();
        turn.log(Event::RunEnded {
            session: session.clone(),
            result,
            protected: protected.to_vec(),
            refusal: None,
            at: self.context.now,
        });
        start_if_due(&mut turn);
        Ok(turn.done())
    }

    /// The answer must come from the session that runs.
    fn expect_session(&self, session: &Name, what: &str) -> Result<(), Rejection> {
        let job = self.defined()?;
        let ours = job.running.as_ref().is_some_and(|running| running.session == *session);
        if ours && self.context.from == self.context.here(Kind::Session, session) {
            return Ok(());
        }
        Err(Rejection::Stale { job: self.name(), what: format!("{what} {session}"), from: self.context.from.clone() })
    }

    /// A session that will not begin is a run that failed. A stop that came too late has its answer on the way.
    #[expect(clippy::wildcard_enum_match_arm, reason = "a job sends nothing else, so nothing else can come back")]
    fn refused(&self, refused: &Refused) -> Decided {
        match &refused.message {
            Message::Session(session::Command::Begin { .. }) => {
                let session = refused.by.entity.name.clone();
                self.expect_session(&session, "a refusal of session")?;
                let mut turn = self.turn();
                turn.log(Event::RunEnded {
                    session,
                    result: SessionResult::Failed,
                    protected: Vec::new(),
                    refusal: Some(refused.refusal.clone()),
                    at: self.context.now,
                });
                start_if_due(&mut turn);
                Ok(turn.done())
            }
            _ => Err(Rejection::Stale {
                job: self.name(),
                what: format!("a refusal ({})", refused.refusal.code),
                from: self.context.from.clone(),
            }),
        }
    }

    /// A wake before its time, or of a job that needs none, yields nothing.
    fn wake(&self) -> Decided {
        let mut turn = self.turn();
        start_if_due(&mut turn);
        Ok(turn.done())
    }
}

fn is_restore(spec: &JobSpec) -> bool {
    match &spec.work {
        Work::Backup { .. } | Work::Replication { .. } => false,
        Work::Restore { .. } => true,
    }
}

fn validate(job: &Name, spec: &JobSpec) -> Result<(), Rejection> {
    let len = job.as_str().len();
    if len > LONGEST_NAME {
        return Err(Rejection::NameTooLong { job: job.clone(), len, most: LONGEST_NAME });
    }
    let bad = |field, found: String, rule| Err(Rejection::BadSpec { job: job.clone(), field, found, rule });
    validate_keep(spec).or_else(|(field, found, rule)| bad(field, found, rule))?;
    let zone = match &spec.schedule {
        Schedule::Manual => return Ok(()),
        Schedule::Periodic { every, zone } => {
            if !schedule::EVERY.contains(&every.0) {
                return bad("schedule.periodic.every", format!("{} ms", every.0), "from a minute to a day");
            }
            zone
        }
        Schedule::Daily { minute, zone } => {
            if *minute >= 1440 {
                return bad("schedule.daily.minute", minute.to_string(), "from 0 to 1439");
            }
            zone
        }
    };
    if schedule::zone(zone).is_none() {
        return bad("schedule zone", zone.clone(), "an IANA time zone such as Europe/Berlin");
    }
    match &spec.work {
        Work::Restore { .. } => bad("schedule", "a repeated one".to_owned(), "manual for a restore"),
        Work::Backup { .. } | Work::Replication { .. } => Ok(()),
    }
}

/// The longest that a rule of dates reaches back, in days, weeks, months or years.
const FARTHEST: u32 = 9_999;

/// The field, what was found in it, and what it must be.
fn validate_keep(spec: &JobSpec) -> Result<(), (&'static str, String, &'static str)> {
    let keep = &spec.keep;
    let replicates = match &spec.work {
        Work::Replication { .. } => true,
        Work::Backup { .. } | Work::Restore { .. } => false,
    };
    if keep.rules().iter().all(|(_, count)| count.is_none()) {
        return Err(("keep", "empty".to_owned(), "one of points, days, weekly, monthly and yearly at least"));
    }
    for (rule, count) in keep.rules() {
        let Some(count) = count else { continue };
        if count == 0 {
            return Err((rule, "0".to_owned(), "at least 1; leave it out if it shall keep nothing"));
        }
        if rule != "keep.points" && count > FARTHEST {
            return Err((rule, count.to_string(), "at most 9999"));
        }
        if rule != "keep.points" && replicates {
            return Err((rule, count.to_string(), "left out of a replication, which keeps points only"));
        }
    }
    if schedule::zone(&keep.zone).is_none() {
        return Err(("keep.zone", keep.zone.clone(), "an IANA time zone such as Europe/Berlin"));
    }
    Ok(())
}

/// Starts the one run that is owed, if one is: not while another runs, not while disabled.
fn start_if_due(turn: &mut Turn<'_, JobActor>) {
    let due = match &turn.state {
        State::New | State::Removed { .. } => None,
        State::Defined(job) if job.enabled && job.running.is_none() => {
            schedule::due(&job.spec.schedule, job.cursor, turn.now())
        }
        State::Defined(_) => None,
    };
    if let Some(due) = due {
        start(turn, Trigger::Slot { slot: due.slot.id, due: due.slot.at, missed: due.missed });
    }
}

/// Tells a new session to begin. Only a scheduled run is retried (field.md 1.3).
fn start(turn: &mut Turn<'_, JobActor>, trigger: Trigger) {
    let (spec, run) = match &turn.state {
        State::New | State::Removed { .. } => return,
        State::Defined(job) => (job.spec.clone(), job.runs.saturating_add(1)),
    };
    let job = turn.context.me.entity.name.clone();
    let session = session_name(&job, run);
    let retry = match &trigger {
        Trigger::Slot { .. } => Some(spec.retry),
        Trigger::Manual | Trigger::Once => None,
    };
    let to = turn.context.here(Kind::Session, &session);
    let principal = turn.context.principal.clone();
    turn.log(Event::RunStarted { session, run, trigger, principal, at: turn.context.now });
    turn.send(&to, Message::Session(session::Command::Begin { job, spec: Box::new(spec), retry }));
}
