use super::schedule::{due, next};
use super::*;
use crate::decider::step;
use crate::testing::{Given, address, given, name, vm, vm_ref};
use farshore_schemas::messages::job::{Retry, Schedule, SlotId, Trigger, Work};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::{Refusal, Refused, session};
use farshore_schemas::units::Millis;
use proptest::prelude::*;

const ME: &str = "hq:job/nightly";

fn ts(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

fn backup(schedule: Schedule) -> JobSpec {
    JobSpec {
        work: Work::Backup { host: name("esx"), vms: vec![vm("web")], repository: name("repo") },
        schedule,
        retry: Retry { attempts: 3, wait: Millis::from_mins(10) },
        keep: Keep::newest(7),
    }
}

fn daily(minute: u16, zone: &str) -> Schedule {
    Schedule::Daily { minute, zone: zone.to_owned() }
}

fn every(minutes: u64, zone: &str) -> Schedule {
    Schedule::Periodic { every: Millis::from_mins(minutes), zone: zone.to_owned() }
}

fn restore() -> JobSpec {
    let work = Work::Restore {
        repository: name("repo"),
        point: crate::testing::point("p1"),
        origin: vm_ref("hq/esx/web"),
        host: name("esx"),
        vm: vm("web-restored"),
    };
    JobSpec { work, ..backup(Schedule::Manual) }
}

fn defined(spec: JobSpec) -> Event {
    Event::Defined { spec, at: Timestamp(1_000_000) }
}

fn running(session: &str) -> Event {
    let (run, trigger) = (1, Trigger::Manual);
    Event::RunStarted { session: name(session), run, trigger, principal: "ops".into(), at: Timestamp(1_000_000) }
}

fn ended(result: SessionResult, protected: &[&str]) -> Command {
    let protected = protected.iter().map(|vm| vm_ref(vm)).collect();
    Command::SessionEnded { session: name("nightly-1"), result, protected, ended: Timestamp(1) }
}

fn begin(spec: &JobSpec, retry: Option<Retry>) -> Message {
    let spec = Box::new(spec.clone());
    Message::Session(session::Command::Begin { job: name("nightly"), spec, retry })
}

fn at(mut given: Given<JobActor>, now: Timestamp) -> Given<JobActor> {
    given.context.now = now;
    given
}

fn refused_begin() -> Input<Command> {
    Input::Refused(Refused {
        by: address("hq:session/nightly-1"),
        message: begin(&backup(Schedule::Manual), None),
        refusal: Refusal { code: "FS-SESSION-BEGUN".into(), message: "m".into(), advice: "a".into() },
    })
}

/// Walks a schedule from one instant to another.
fn slots(schedule: &Schedule, from: &str, to: &str) -> Vec<(String, u32, String)> {
    let (mut cursor, to) = (ts(from), ts(to));
    let mut found = Vec::new();
    while let Some(slot) = next(schedule, cursor).filter(|slot| slot.at <= to) {
        assert!(slot.at > cursor);
        cursor = slot.at;
        let at = jiff::Timestamp::from_millisecond(slot.at.0).unwrap().to_string();
        found.push((slot.id.date, slot.id.ordinal, at));
    }
    found
}

fn row(date: &str, ordinal: u32, at: &str) -> (String, u32, String) {
    (date.to_owned(), ordinal, at.to_owned())
}

#[test]
fn a_local_time_that_is_skipped_runs_once_when_clocks_go_forward() {
    let berlin = slots(&daily(150, "Europe/Berlin"), "2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z");
    let want = [
        row("2026-03-28", 0, "2026-03-28T01:30:00Z"),
        row("2026-03-29", 0, "2026-03-29T01:00:00Z"),
        row("2026-03-30", 0, "2026-03-30T00:30:00Z"),
    ];
    assert_eq!(berlin, want);
    let sydney = slots(&daily(150, "Australia/Sydney"), "2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z");
    assert_eq!(sydney, [row("2026-10-04", 0, "2026-10-03T16:00:00Z"), row("2026-10-05", 0, "2026-10-04T15:30:00Z")]);
}

#[test]
fn a_local_time_that_comes_twice_runs_once() {
    let berlin = slots(&daily(150, "Europe/Berlin"), "2026-10-24T12:00:00Z", "2026-10-26T12:00:00Z");
    assert_eq!(berlin, [row("2026-10-25", 0, "2026-10-25T00:30:00Z"), row("2026-10-26", 0, "2026-10-26T01:30:00Z")]);
    let sydney = slots(&daily(150, "Australia/Sydney"), "2026-04-04T00:00:00Z", "2026-04-05T23:00:00Z");
    assert_eq!(sydney, [row("2026-04-05", 0, "2026-04-04T15:30:00Z"), row("2026-04-06", 0, "2026-04-05T16:30:00Z")]);
}

#[test]
fn intervals_count_from_local_midnight_on_every_day() {
    let seven = slots(&every(7 * 60, "Europe/Berlin"), "2026-06-01T22:00:00Z", "2026-06-02T22:00:00Z");
    let ordinals: Vec<u32> = seven.iter().map(|slot| slot.1).collect();
    assert_eq!(ordinals, [1, 2, 3, 0], "00:00 is the start, 07:00, 14:00, 21:00, then the next midnight");
    let forward = slots(&every(30, "Europe/Berlin"), "2026-03-29T00:29:00Z", "2026-03-29T02:00:00Z");
    let at: Vec<&str> = forward.iter().map(|slot| slot.2.as_str()).collect();
    assert_eq!(at, ["2026-03-29T00:30:00Z", "2026-03-29T01:00:00Z", "2026-03-29T01:30:00Z", "2026-03-29T02:00:00Z"]);
    let back = slots(&every(30, "Europe/Berlin"), "2026-10-24T23:59:00Z", "2026-10-25T02:30:00Z");
    let at: Vec<&str> = back.iter().map(|slot| slot.2.as_str()).collect();
    let want = ["2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z", "2026-10-25T02:00:00Z", "2026-10-25T02:30:00Z"];
    assert_eq!(at, want, "the hour that comes twice counts the first time");
}

#[test]
fn missed_slots_coalesce_into_one_that_says_how_many_they_were() {
    let found = due(&every(60, "UTC"), ts("2026-01-01T00:00:00Z"), ts("2026-01-03T05:30:00Z")).unwrap();
    assert_eq!(found.slot.id, SlotId { date: "2026-01-03".into(), ordinal: 5 });
    assert_eq!(found.missed, 52);
    assert_eq!(due(&every(60, "UTC"), ts("2026-01-01T00:00:00Z"), ts("2026-01-01T00:59:00Z")), None);
    let years = due(&every(1, "Europe/Berlin"), ts("2020-01-01T00:00:00Z"), ts("2026-01-01T00:00:00Z")).unwrap();
    assert!(years.missed > 3_000_000);
}

#[test]
fn a_wake_starts_the_run_that_is_due_with_retry() {
    let spec = backup(every(60, "UTC"));
    let history = [Event::Defined { spec: spec.clone(), at: ts("2026-01-01T00:10:00Z") }];
    let given = at(given::<JobActor>(ME, history), ts("2026-01-01T03:30:00Z")).from(ME);
    assert_eq!(JobActor::next_wake(&given.state), Some(ts("2026-01-01T01:00:00Z")));
    let slot = SlotId { date: "2026-01-01".into(), ordinal: 3 };
    let trigger = Trigger::Slot { slot, due: ts("2026-01-01T03:00:00Z"), missed: 2 };
    let started = Event::RunStarted {
        session: name("nightly-1"),
        run: 1,
        trigger,
        principal: "ops".into(),
        at: ts("2026-01-01T03:30:00Z"),
    };
    let after =
        given.when_input(Input::Wake).then(&[started], &[("hq:session/nightly-1", begin(&spec, Some(spec.retry)))]);
    assert_eq!(JobActor::next_wake(&after.state), None, "nothing is due while it runs");
    let after = at(after, ts("2026-01-01T06:10:00Z")).from("hq:session/nightly-1");
    let after = after.when(ended(SessionResult::Success, &["hq/esx/web"]));
    assert_eq!(after.decision().sends.len(), 1, "slots that were due while it ran are one more run");
    let events = &after.decision().events;
    assert!(
        matches!(&events[1], Event::RunStarted { run: 2, trigger: Trigger::Slot { missed: 2, .. }, .. }),
        "{events:?}"
    );
}

#[test]
fn a_run_by_hand_is_not_retried_and_moves_no_slot() {
    let spec = backup(daily(60, "UTC"));
    let before = given::<JobActor>(ME, [defined(spec.clone())]);
    let wake = JobActor::next_wake(&before.state);
    let after = before.when(Command::Run).sent(&[("hq:session/nightly-1", begin(&spec, None))]);
    let after = after.from("hq:session/nightly-1").when(ended(SessionResult::Warning, &[])).accepted();
    assert_eq!(JobActor::next_wake(&after.state), wake);
}

#[test]
fn a_restore_runs_once_by_itself() {
    let after = given::<JobActor>(ME, []).when(Command::Define(restore()));
    let after = after.sent(&[("hq:session/nightly-1", begin(&restore(), None))]);
    let after = after.when(Command::Define(restore())).rejected("FS-JOB-RESTORE-ONCE");
    let after = after.from("hq:session/nightly-1").when(ended(SessionResult::Success, &[])).accepted();
    assert_eq!(JobActor::next_wake(&after.state), None);
    after.when(Command::Run).rejected("FS-JOB-RESTORE-ONCE");
}

#[test]
fn the_end_of_a_run_updates_what_is_protected() {
    let after = given::<JobActor>(ME, [defined(backup(Schedule::Manual)), running("nightly-1")]);
    let after = after.from("hq:session/nightly-1").when(ended(SessionResult::Failed, &["hq/esx/web"])).accepted();
    let State::Defined(job) = &after.state else { panic!("defined") };
    assert_eq!(job.last.as_ref().unwrap().result, SessionResult::Failed);
    assert_eq!(job.last_success.get(&vm_ref("hq/esx/web")), Some(&Timestamp(1_000_000)));
}

#[test]
fn a_session_that_will_not_begin_is_a_failed_run() {
    let after = given::<JobActor>(ME, [defined(backup(Schedule::Manual)), running("nightly-1")]);
    let after = after.from("hq:session/nightly-1").when_input(refused_begin()).accepted();
    let State::Defined(job) = &after.state else { panic!("defined") };
    assert_eq!((job.last.as_ref().unwrap().result, &job.running), (SessionResult::Failed, &None));
}

#[test]
fn run_numbers_go_on_after_a_removal() {
    let history = [defined(backup(Schedule::Manual)), running("nightly-1")];
    let after = given::<JobActor>(ME, history).from("hq:session/nightly-1").when(ended(SessionResult::Success, &[]));
    let after = after.accepted().when(Command::Remove).accepted();
    let after = after.when(Command::Define(backup(Schedule::Manual))).accepted().when(Command::Run).accepted();
    let State::Defined(job) = &after.state else { panic!("defined") };
    assert_eq!(job.running.as_ref().unwrap().session, name("nightly-2"));
}

#[test]
fn definitions_are_checked() {
    let refuse = |spec: JobSpec, code: &str| {
        given::<JobActor>(ME, []).when(Command::Define(spec)).rejected(code);
    };
    refuse(backup(daily(1440, "UTC")), "FS-JOB-BAD-SPEC");
    refuse(backup(daily(0, "Europe/Atlantis")), "FS-JOB-BAD-SPEC");
    refuse(backup(every(0, "UTC")), "FS-JOB-BAD-SPEC");
    refuse(backup(every(24 * 60 + 1, "UTC")), "FS-JOB-BAD-SPEC");
    refuse(JobSpec { keep: Keep::newest(0), ..backup(Schedule::Manual) }, "FS-JOB-BAD-SPEC");
    refuse(JobSpec { schedule: daily(0, "UTC"), ..restore() }, "FS-JOB-BAD-SPEC");
    let (fits, long) = ("a".repeat(40), "a".repeat(41));
    let define = || Command::Define(backup(Schedule::Manual));
    given::<JobActor>(&format!("hq:job/{fits}"), []).when(define()).accepted();
    given::<JobActor>(&format!("hq:job/{long}"), []).when(define()).rejected("FS-JOB-NAME-LONG");
}

#[test]
fn every_pair_of_state_and_input() {
    let spec = || backup(Schedule::Manual);
    let stopping = Event::StopRequested { session: name("nightly-1"), principal: "ops".into(), at: Timestamp(1) };
    let states: [(&str, Vec<Event>); 5] = [
        ("new", vec![]),
        ("idle", vec![defined(spec())]),
        ("running", vec![defined(spec()), running("nightly-1")]),
        ("stopping", vec![defined(spec()), running("nightly-1"), stopping]),
        ("removed", vec![defined(spec()), Event::Removed]),
    ];
    let inputs = [
        ("define", Input::Command(Command::Define(spec()))),
        ("remove", Input::Command(Command::Remove)),
        ("run", Input::Command(Command::Run)),
        ("stop", Input::Command(Command::Stop)),
        ("enable", Input::Command(Command::Enable { enabled: true })),
        ("disable", Input::Command(Command::Enable { enabled: false })),
        ("ended", Input::Command(ended(SessionResult::Success, &[]))),
        ("refused", refused_begin()),
        ("wake", Input::Wake),
    ];
    let table = [
        // define, remove, run, stop, enable, disable, ended, refused, wake
        ["ok", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "ok"],
        ["ok", "ok", "ok", "NOT-RUNNING", "ALREADY", "ok", "STALE", "STALE", "ok"],
        ["ok", "RUNNING", "RUNNING", "ok", "ALREADY", "ok", "ok", "ok", "ok"],
        ["ok", "RUNNING", "RUNNING", "STOPPING", "ALREADY", "ok", "ok", "ok", "ok"],
        ["ok", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", "ok"],
    ];
    for ((state, history), row) in states.iter().zip(table) {
        for ((input, body), want) in inputs.iter().zip(row) {
            let given = given::<JobActor>(ME, history.clone()).from("hq:session/nightly-1");
            let got = given.when_input(body.clone()).outcome().replace("FS-JOB-", "");
            assert_eq!(got, want, "{state} x {input}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn wakes_move_on_and_one_run_at_a_time(picks in prop::collection::vec((0u8..9, 0u64..200), 1..80)) {
        let mut given = given::<JobActor>(ME, []);
        given.context.now = ts("2026-03-28T20:00:00Z");
        let (mut began, mut over) = (0u64, 0u64);
        for (pick, minutes) in picks {
            given.context.now = given.context.now.after(Millis::from_mins(minutes));
            let session = session_of(&given.state);
            given.context.from = address(&session.as_ref().map_or(ME.to_owned(), |name| format!("hq:session/{name}")));
            let input = match pick {
                0 => Input::Command(Command::Define(backup(every(45, "Europe/Berlin")))),
                1 => Input::Command(Command::Run),
                2 => Input::Command(Command::Stop),
                3 => Input::Command(Command::Enable { enabled: minutes % 2 == 0 }),
                4 | 5 => Input::Command(Command::SessionEnded { session: session.unwrap_or(name("x-1")), result: SessionResult::Success, protected: vec![], ended: Timestamp(0) }),
                _ => Input::Wake,
            };
            let due = JobActor::next_wake(&given.state).is_some_and(|at| at <= given.context.now);
            let woken = input == Input::Wake && due;
            if let Ok(decision) = step::<JobActor>(&mut given.state, &input, &given.context) {
                prop_assert!(!woken || !decision.is_empty());
                began += decision.events.iter().filter(|event| matches!(event, Event::RunStarted { .. })).count() as u64;
                over += decision.events.iter().filter(|event| matches!(event, Event::RunEnded { .. })).count() as u64;
            }
            prop_assert!(began - over <= 1);
            if woken {
                prop_assert!(JobActor::next_wake(&given.state).is_none_or(|at| at > given.context.now));
            }
        }
    }
}

fn session_of(state: &State) -> Option<Name> {
    match state {
        State::Defined(job) => job.running.as_ref().map(|running| running.session.clone()),
        State::New | State::Removed { .. } => None,
    }
}
