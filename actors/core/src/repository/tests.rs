use super::{AccessStatus, Defined, RETRY_AFTER, Repository, State};
use crate::decider::{Decision, Input};
use crate::testing::*;
use farshore_schemas::ids::{PointId, TaskId};
use farshore_schemas::messages::agent::{self, DiskPoint, Failure, Order, Outcome, TaskSpec};
use farshore_schemas::messages::repository::{Command, Event, Purpose, RepositorySpec, RestorePoint, Work};
use farshore_schemas::messages::{Message, mover, session};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};

pub(super) const ME: &str = "hq:repository/r1";
pub(super) const MOVER: &str = "hq:mover/m1";
pub(super) const AGENT: &str = "hq:agent/m1";
pub(super) const OPS: &str = "hq:api/operator";
pub(super) const S1: &str = "hq:session/s1";
pub(super) const S2: &str = "dr:session/s2";

pub(super) fn define(path: &str) -> Command {
    Command::Define(RepositorySpec { mover: name("m1"), path: path.to_owned() })
}

pub(super) fn ready(incarnation: u8) -> Command {
    Command::AgentReady { incarnation: lineage(incarnation), endpoint: endpoint("hq/m1") }
}

pub(super) fn task(ordinal: u64) -> TaskId {
    TaskId { owner: address(ME), lineage: lineage(1), ordinal }
}

pub(super) fn ended(ordinal: u64, outcome: Outcome) -> Command {
    Command::TaskEnded { task: task(ordinal), outcome }
}

pub(super) fn open(purpose: Purpose, point_named: Option<&str>) -> Command {
    let point = point_named.map(point);
    Command::OpenAccess { purpose, peers: vec![digest(7)], vms: vec![vm_ref("hq/h1/web")], point }
}

pub(super) fn disks(byte: u8) -> Vec<DiskPoint> {
    let size = ByteCount(1 << 20);
    vec![DiskPoint { name: disk("a.img"), size, checksum: digest(byte), manifest: digest(1) }]
}

pub(super) fn commit(id: &str, taken: i64, keep: u32) -> Command {
    Command::CommitPoint {
        point: point(id),
        vm: vm_ref("hq/h1/web"),
        job: name("nightly"),
        taken: Timestamp(taken),
        keep,
        disks: disks(3),
    }
}

fn durable(byte: u8) -> Outcome {
    Outcome::PointDurable { stored: ByteCount(10), disks: disks(byte) }
}

pub(super) fn failed(code: &str) -> Outcome {
    let (message, advice) = ("no".to_owned(), "none".to_owned());
    Outcome::Failed(Failure { code: code.to_owned(), message, advice, transient: true })
}

fn run(ordinal: u64, spec: TaskSpec) -> Message {
    let order = Order { task: task(ordinal), fence: None, expires: None, spec };
    Message::Agent(agent::Command::Run(Box::new(order)))
}

fn open_spec() -> TaskSpec {
    TaskSpec::OpenAccess { repository: name("r1"), peers: vec![digest(7)] }
}

fn close_spec(access: u64) -> TaskSpec {
    TaskSpec::CloseAccess { repository: name("r1"), access: task(access) }
}

fn opened(access: u64, points: Vec<RestorePoint>) -> Message {
    let (mover, endpoint) = (name("m1"), endpoint("hq/m1"));
    Message::Session(session::Command::AccessOpened { mover, endpoint, access: task(access), points })
}

pub(super) fn state(given: &Given<Repository>) -> &Defined {
    match &given.state {
        State::Defined(repository) => repository,
        State::Undefined { .. } => panic!("undefined"),
    }
}

fn points(given: &Given<Repository>) -> Vec<String> {
    state(given).points.keys().map(ToString::to_string).collect()
}

/// The points that a decision orders to be pruned.
pub(super) fn pruned(decision: &Decision<Event>) -> Option<Vec<PointId>> {
    decision.events.iter().find_map(|event| match event {
        Event::Ordered { work: Work::Prune { points }, .. } => Some(points.clone()),
        _ => None,
    })
}

/// Defined, with its agent there.
pub(super) fn served() -> Given<Repository> {
    given(ME, []).when(define("/r")).accepted().from(MOVER).when(ready(1)).accepted()
}

/// The ordinal that the next order gets.
fn next(given: &Given<Repository>) -> u64 {
    state(given).orders.next
}

/// The next order ends well, or as it must for what it is.
fn agent_ends(given: Given<Repository>, ordinal: u64, outcome: Outcome) -> Given<Repository> {
    given.from(AGENT).when(ended(ordinal, outcome)).accepted()
}

/// This session has an open access for writing.
fn writing(given: Given<Repository>, session: &str) -> Given<Repository> {
    let ordinal = next(&given);
    let asked = given.from(session).when(open(Purpose::Write, None)).accepted();
    agent_ends(asked, ordinal, Outcome::Done)
}

fn closed(given: Given<Repository>, session: &str) -> Given<Repository> {
    let ordinal = next(&given);
    agent_ends(given.from(session).when(Command::CloseAccess).accepted(), ordinal, Outcome::Done)
}

/// A session that writes makes a point.
fn made(given: Given<Repository>, session: &str, (id, taken, keep): (&str, i64, u32)) -> Given<Repository> {
    let ordinal = next(&given);
    agent_ends(given.from(session).when(commit(id, taken, keep)).accepted(), ordinal, durable(3))
}

/// Points p1 and p2, and `p1` forgotten when `keep` is 1; no access is open.
fn with_points(keep: u32) -> Given<Repository> {
    let given = made(writing(served(), S1), S1, ("p1", 1, keep));
    closed(made(given, S1, ("p2", 2, keep)), S1)
}

#[test]
fn every_state_answers_every_input() {
    let writing_now = writing(served(), S1);
    let opening = served().from(S1).when(open(Purpose::Write, None)).accepted();
    let committing = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    let closing = writing(served(), S1).when_from(S1, Command::CloseAccess);
    let kept = with_points(7);
    let pruning = with_points(1);
    let states = [given::<Repository>(ME, []), served(), opening, writing_now, committing, closing, kept, pruning];
    let verify = |id: &str| Command::Verify { point: point(id) };
    let hold = |hold| Command::Hold { point: point("p2"), hold };
    let register = Message::Mover(mover::Command::Register);
    let no_disks = Command::CommitPoint {
        point: point("p9"),
        vm: vm_ref("hq/h1/web"),
        job: name("nightly"),
        taken: Timestamp(1),
        keep: 7,
        disks: Vec::new(),
    };
    let inputs: Vec<Row<Repository>> = vec![
        ("define", OPS, Input::Command(define("/r"))),
        ("define-elsewhere", OPS, Input::Command(define("/other"))),
        ("remove", OPS, Input::Command(Command::Remove)),
        ("ready", MOVER, Input::Command(ready(1))),
        ("ready-of-another", "hq:mover/m2", Input::Command(ready(1))),
        ("open-write", S1, Input::Command(open(Purpose::Write, None))),
        ("open-read", S2, Input::Command(open(Purpose::Read, Some("p2")))),
        ("open-read-old", S2, Input::Command(open(Purpose::Read, Some("p1")))),
        ("open-read-unnamed", S2, Input::Command(open(Purpose::Read, None))),
        ("open-by-replica", "dr:replica/x", Input::Command(open(Purpose::Write, None))),
        ("close", S1, Input::Command(Command::CloseAccess)),
        ("commit", S1, Input::Command(commit("p1", 1, 7))),
        ("commit-nothing", S1, Input::Command(no_disks)),
        ("verify", OPS, Input::Command(verify("p2"))),
        ("verify-old", OPS, Input::Command(verify("p1"))),
        ("hold", OPS, Input::Command(hold(true))),
        ("let-go", OPS, Input::Command(hold(false))),
        ("break", OPS, Input::Command(Command::BreakAccess { holder: address(S1) })),
        ("ended-unknown", AGENT, Input::Command(ended(99, Outcome::Done))),
        ("ended-by-another", S1, Input::Command(ended(0, Outcome::Done))),
        ("register-refused", MOVER, refused_by(MOVER, register.clone(), "FS-MOVER-UNKNOWN")),
        ("answer-refused", S1, refused_by(S1, opened(0, Vec::new()), "FS-SESSION-UNKNOWN")),
        ("other-refused", S1, refused_by(S1, register, "FS-X")),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Repository>(&inputs, 10, |command| match command {
        Command::Define(_) => 0,
        Command::Remove => 1,
        Command::AgentReady { .. } => 2,
        Command::OpenAccess { .. } => 3,
        Command::CloseAccess => 4,
        Command::CommitPoint { .. } => 5,
        Command::Verify { .. } => 6,
        Command::Hold { .. } => 7,
        Command::TaskEnded { .. } => 8,
        Command::BreakAccess { .. } => 9,
    });
    // States: undefined, served, opening, writing, committing, closing, with points, pruning.
    let wanted = "\
define: ok ok ok ok ok ok ok ok
define-elsewhere: ok ok IN-USE IN-USE IN-USE IN-USE ok IN-USE
remove: UNKNOWN ok IN-USE IN-USE IN-USE IN-USE IN-USE IN-USE
ready: UNKNOWN ok ok ok ok ok ok ok
ready-of-another: UNKNOWN NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER
open-write: UNKNOWN ok ACCESS-OPEN ACCESS-OPEN ACCESS-OPEN ACCESS-OPEN ok ok
open-read: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN ok ok
open-read-old: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN ok POINT-FORGOTTEN
open-read-unnamed: UNKNOWN POINT-NOT-NAMED POINT-NOT-NAMED POINT-NOT-NAMED POINT-NOT-NAMED POINT-NOT-NAMED POINT-NOT-NAMED POINT-NOT-NAMED
open-by-replica: UNKNOWN HOLDER-KIND HOLDER-KIND HOLDER-KIND HOLDER-KIND HOLDER-KIND HOLDER-KIND HOLDER-KIND
close: ok ok ok ok ok ok ok ok
commit: UNKNOWN NO-ACCESS NO-ACCESS ok COMMITTING NO-ACCESS NO-ACCESS NO-ACCESS
commit-nothing: UNKNOWN NO-ACCESS NO-ACCESS NO-DISKS NO-DISKS NO-ACCESS NO-ACCESS NO-ACCESS
verify: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN ok ok
verify-old: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN ok POINT-FORGOTTEN
hold: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN ok ok
let-go: UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN POINT-UNKNOWN HOLD-UNCHANGED HOLD-UNCHANGED
break: UNKNOWN ACCESS-UNKNOWN ok ok ok ACCESS-CLOSING ACCESS-UNKNOWN ACCESS-UNKNOWN
ended-unknown: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN
ended-by-another: UNKNOWN NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
register-refused: REFUSAL-UNEXPECTED ok ok ok ok ok ok ok
answer-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED ok ok ok REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
other-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
wake: NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE
";
    assert_eq!(table(&states, &inputs), wanted);
}

#[test]
fn defining_registers_and_the_agents_coming_serves_the_folder() {
    let defined = given::<Repository>(ME, []).when(define("/r"));
    let defined = defined.sent(&[(MOVER, Message::Mover(mover::Command::Register))]);
    let serve = agent::Command::ServeRepository { repository: name("r1"), path: "/r".to_owned(), lineage: lineage(1) };
    defined.from(MOVER).when(ready(1)).sent(&[(AGENT, Message::Agent(serve))]);
}

#[test]
fn a_refused_registration_is_tried_again_ever_later() {
    let register = || refused_by(MOVER, Message::Mover(mover::Command::Register), "FS-MOVER-UNKNOWN");
    let mut now = given::<Repository>(ME, []).when(define("/r")).accepted();
    let mut waits = Vec::new();
    for _ in 0..8 {
        now = now.when_input(register()).accepted();
        waits.push(state(&now).link.again.unwrap().since(now.context.now).0 / 1000);
        now = wake_when_due(now);
    }
    assert_eq!(waits, [5, 10, 20, 40, 80, 160, 320, 320]);
}

#[test]
fn an_access_is_answered_once_the_agent_lets_the_movers_in_with_the_newest_point_of_each_vm() {
    let given = with_points(7);
    let (ordinal, newest) = (next(&given), state(&given).points[&point("p2")].facts.clone());
    let asked = given.from(S2).when(open(Purpose::Write, None)).sent(&[(AGENT, run(ordinal, open_spec()))]);
    asked.from(AGENT).when(ended(ordinal, Outcome::Done)).sent(&[(S2, opened(ordinal, vec![newest]))]);
}

#[test]
fn reading_is_answered_with_the_point_that_was_named() {
    let given = with_points(7);
    let (ordinal, old) = (next(&given), state(&given).points[&point("p1")].facts.clone());
    let asked = given.from(S2).when(open(Purpose::Read, Some("p1"))).accepted();
    asked.from(AGENT).when(ended(ordinal, Outcome::Done)).sent(&[(S2, opened(ordinal, vec![old]))]);
}

#[test]
fn an_access_that_cannot_be_opened_is_reported_and_holds_until_closed() {
    let asked = served().from(S1).when(open(Purpose::Write, None)).accepted();
    let Outcome::Failed(failure) = failed("FS-AGENT-X") else { panic!() };
    let told = session::Command::RepositoryFailed { vm: None, failure };
    let after = asked.from(AGENT).when(ended(0, failed("FS-AGENT-X"))).sent(&[(S1, Message::Session(told))]);
    assert_eq!(state(&after).accesses.len(), 1);
    assert!(state(&closed(after, S1)).accesses.is_empty());
}

#[test]
fn a_point_is_added_only_when_the_agent_has_it_durable_with_the_sessions_checksums() {
    let committing = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    assert!(points(&committing).is_empty());
    let told = session::Command::PointCommitted { point: point("p1"), stored: ByteCount(10) };
    let good = committing.clone().from(AGENT).when(ended(1, durable(3))).sent(&[(S1, Message::Session(told))]);
    assert_eq!(points(&good), ["p1"]);
    for outcome in [durable(4), failed("FS-AGENT-X"), Outcome::Done, Outcome::Cancelled] {
        let bad = committing.clone().from(AGENT).when(ended(1, outcome));
        let body = &bad.decision().sends[0].body;
        assert!(matches!(body, Message::Session(session::Command::RepositoryFailed { vm: Some(_), .. })), "{body:?}");
        assert!(points(&bad.accepted()).is_empty());
    }
}

#[test]
fn committing_the_same_again_is_answered_and_something_else_under_that_name_rejected() {
    let given = made(writing(served(), S1), S1, ("p1", 1, 7));
    let told = session::Command::PointCommitted { point: point("p1"), stored: ByteCount(10) };
    let given = given.from(S1).when(commit("p1", 1, 7)).then(&[], &[(S1, Message::Session(told))]);
    let Command::CommitPoint { point, vm, job, taken, keep, disks: _ } = commit("p1", 1, 7) else { panic!() };
    let other = Command::CommitPoint { point, vm, job, taken, keep, disks: disks(9) };
    given.when(other).rejected("FS-REPOSITORY-POINT-EXISTS");
}

#[test]
fn retention_keeps_the_newest_by_the_time_they_were_taken() {
    let given = writing(served(), S1);
    let given = ["p1", "p3", "p2", "p4"].into_iter().fold(given, |given, id| {
        let taken = id[1..].parse().unwrap();
        made(given, S1, (id, taken, 2))
    });
    assert_eq!(points(&given), ["p3", "p4"]);
    // One point always stays.
    assert_eq!(points(&made(given, S1, ("p5", 5, 0))), ["p5"]);
}

#[test]
fn retention_counts_each_vm_and_job_for_itself() {
    let given = made(writing(served(), S1), S1, ("p1", 1, 1));
    let Command::CommitPoint { point: _, vm, job: _, taken: _, keep, disks } = commit("p2", 2, 1) else { panic!() };
    let other = Command::CommitPoint { point: point("q1"), vm, job: name("weekly"), taken: Timestamp(2), keep, disks };
    let ordinal = next(&given);
    let given = agent_ends(given.from(S1).when(other).accepted(), ordinal, durable(3));
    assert_eq!(points(&given), ["p1", "q1"]);
}

#[test]
fn held_points_and_points_that_are_read_or_checked_stay() {
    let given = closed(made(writing(served(), S1), S1, ("p1", 1, 7)), S1);
    let held = given.clone().from(OPS).when(Command::Hold { point: point("p1"), hold: true }).accepted();
    let read = given.clone().from(S2).when(open(Purpose::Read, Some("p1"))).accepted();
    let checked = given.from(OPS).when(Command::Verify { point: point("p1") }).accepted();
    for given in [held, read, checked] {
        assert_eq!(points(&made(writing(given, S1), S1, ("p2", 2, 1))), ["p1", "p2"]);
    }
}

#[test]
fn a_prune_waits_until_the_last_access_is_shut_and_names_only_forgotten_points() {
    let given = writing(writing(served(), S1), S2);
    let given = made(made(given, S1, ("p1", 1, 1)), S1, ("p2", 2, 1));
    assert_eq!(state(&given).forgotten.len(), 1);
    let given = closed(given, S1);
    assert!(!state(&given).pruning(None), "another access holds");
    let given = given.from(S2).when(Command::CloseAccess).accepted();
    assert!(!state(&given).pruning(None), "it holds until the agent has shut it");
    let last = next(&given) - 1;
    let shut = given.from(AGENT).when(ended(last, Outcome::Done));
    assert_eq!(pruned(shut.decision()), Some(vec![point("p1")]));
    let given = shut.accepted();
    let gone = Outcome::Pruned { points: vec![point("p1")], freed: ByteCount(5) };
    let given = agent_ends(given, last + 1, gone);
    assert!(state(&given).forgotten.is_empty());
}

#[test]
fn an_access_asked_for_during_a_prune_waits_for_its_end() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let waiting = pruning.from(S1).when(open(Purpose::Write, None)).sent(&[]);
    let gone = Outcome::Pruned { points: vec![point("p1")], freed: ByteCount(5) };
    for outcome in [gone, failed("FS-AGENT-X")] {
        let then = waiting.clone().from(AGENT).when(ended(prune, outcome));
        then.sent(&[(AGENT, run(prune + 1, open_spec()))]);
    }
    // Closed before it was ever ordered, it is simply gone.
    let gone = waiting.from(S1).when(Command::CloseAccess).sent(&[]);
    assert!(state(&gone).accesses.is_empty());
}

#[test]
fn a_prune_that_fails_or_leaves_points_is_ordered_again_later() {
    for outcome in [failed("FS-AGENT-X"), Outcome::Pruned { points: Vec::new(), freed: ByteCount(0) }] {
        let pruning = with_points(1);
        let prune = next(&pruning) - 1;
        let given = agent_ends(pruning, prune, outcome);
        assert_eq!(state(&given).prune_again, Some(given.context.now.after(RETRY_AFTER)));
        let given = wake_when_due(given);
        assert!(state(&given).pruning(None) && state(&given).prune_again.is_none());
    }
}

#[test]
fn a_prune_that_is_due_while_something_is_open_is_put_off() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let given = writing(agent_ends(pruning, prune, failed("FS-AGENT-X")), S1);
    let given = wake_when_due(wake_when_due(given));
    assert!(!state(&given).pruning(None) && state(&given).prune_again.is_some());
}

#[test]
fn points_that_the_agent_lost_without_an_order_are_an_alarm() {
    let pruning = with_points(1);
    let prune = next(&pruning) - 1;
    let gone = Outcome::Pruned { points: vec![point("p1"), point("p2")], freed: ByteCount(5) };
    let then = pruning.from(AGENT).when(ended(prune, gone));
    assert!(then.decision().events.contains(&Event::PointsLost { points: vec![point("p2")] }));
    assert_eq!(points(&then.accepted()), ["p2"]);
}

#[test]
fn closing_while_opening_is_ordered_once_the_opening_has_ended() {
    let asked = served().from(S1).when(open(Purpose::Write, None)).accepted();
    let closing = asked.from(S1).when(Command::CloseAccess).sent(&[]);
    let given = closing.from(AGENT).when(ended(0, Outcome::Done)).sent(&[(AGENT, run(1, close_spec(0)))]);
    assert!(state(&agent_ends(given, 1, Outcome::Done)).accesses.is_empty());
}

#[test]
fn a_closing_that_fails_keeps_the_hold_and_is_ordered_again() {
    let given = writing(served(), S1).from(S1).when(Command::CloseAccess).accepted();
    let given = agent_ends(given, 1, failed("FS-AGENT-X"));
    assert_eq!(state(&given).accesses.len(), 1);
    let given = wake_when_due(given);
    assert!(state(&agent_ends(given, 2, Outcome::Done)).accesses.is_empty());
}

#[test]
fn an_operator_breaks_an_access_by_name() {
    let broken = Command::BreakAccess { holder: address(S1) };
    let then = writing(served(), S1).from(OPS).when(broken);
    let event = Event::AccessClosing { holder: address(S1), broken_by: Some("ops".to_owned()) };
    assert_eq!(then.decision().events[0], event);
    then.sent(&[(AGENT, run(1, close_spec(0)))]);
}

#[test]
fn a_session_that_refuses_its_access_holds_nothing_for_long() {
    let then = writing(served(), S1).when_input(refused_by(S1, opened(0, Vec::new()), "FS-SESSION-UNKNOWN"));
    then.sent(&[(AGENT, run(1, close_spec(0)))]);
}

#[test]
fn the_same_incarnation_is_told_no_order_again() {
    let then = writing(served(), S1).when_from(S1, commit("p1", 1, 7)).from(MOVER).when(ready(1));
    assert_eq!(then.decision().sends.len(), 1, "only the folder");
}

#[test]
fn a_new_incarnation_opens_again_what_was_open_and_gets_open_orders_again() {
    let committing = writing(served(), S1).when_from(S1, commit("p1", 1, 7));
    let then = committing.from(MOVER).when(ready(2));
    let tasks: Vec<u64> = then.decision().sends[1..]
        .iter()
        .map(|send| match &send.body {
            Message::Agent(agent::Command::Run(order)) => order.task.ordinal,
            body => panic!("{body:?}"),
        })
        .collect();
    assert_eq!(tasks, [0, 1], "the access under its id, then the commit under its own");
    let reopened = then.accepted().from(AGENT).when(ended(0, Outcome::Done)).sent(&[]);
    let access = &state(&reopened).accesses[&address(S1)];
    assert_eq!(access.status, AccessStatus::Open { access: task(0) });
}

#[test]
fn a_check_is_recorded_on_the_point() {
    let given = with_points(7).from(OPS).when(Command::Verify { point: point("p1") }).accepted();
    let ordinal = next(&given) - 1;
    given.clone().when(Command::Verify { point: point("p1") }).rejected("FS-REPOSITORY-VERIFYING");
    let damage: Vec<String> = (0..9).map(|line| format!("chunk {line} is gone")).collect();
    let given = agent_ends(given, ordinal, Outcome::Verified { chunks: 4, damage, damaged: 9 });
    let verified = state(&given).points[&point("p1")].verified.clone().unwrap();
    assert_eq!((verified.chunks, verified.damage.len(), verified.damaged), (4, 5, 9));
    assert_eq!(verified.at, given.context.now);
}

#[test]
fn task_ids_are_never_used_twice_although_the_repository_was_removed() {
    let given = closed(writing(served(), S1), S1).from(OPS).when(Command::Remove);
    let unregister = Message::Mover(mover::Command::Unregister);
    let given = given.then(&[Event::Removed], &[(MOVER, unregister)]).when(define("/r")).accepted();
    assert_eq!(next(&given), 2);
}

#[test]
fn a_change_of_mover_says_farewell_to_the_one_before() {
    let moved = Command::Define(RepositorySpec { mover: name("m2"), path: "/r".to_owned() });
    let given = served().later(Millis(1)).from(OPS).when(moved).sent(&[
        (MOVER, Message::Mover(mover::Command::Unregister)),
        ("hq:mover/m2", Message::Mover(mover::Command::Register)),
    ]);
    assert!(state(&given).link.agent.is_none());
}
