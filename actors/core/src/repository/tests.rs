//! Fixtures, the table of every state and input, definition and accesses. Points are beside this file.

pub(super) use super::points_tests::{commit, commit_by};
use super::{AccessStatus, Defined, Repository, State};
use crate::decider::{Decision, Input};
use crate::testing::*;
use farshore_schemas::ids::{PointId, TaskId};
use farshore_schemas::messages::agent::{self, DiskPoint, Failure, FolderOwner, Order, Outcome, TaskSpec};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::repository::{Command, Event, Purpose, RepositorySpec, RestorePoint, Work};
use farshore_schemas::messages::{Message, Override, mover, session};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};

pub(super) const ME: &str = "hq:repository/r1";
pub(super) const MOVER: &str = "hq:mover/m1";
pub(super) const AGENT: &str = "hq:agent/m1";
pub(super) const OPS: &str = "hq:api/operator";
pub(super) const S1: &str = "hq:session/s1";
pub(super) const S2: &str = "dr:session/s2";
pub(super) const HOLD: Millis = Millis::from_mins(60);

pub(super) fn define(path: &str) -> Command {
    Command::Define(RepositorySpec {
        mover: name("m1"),
        path: path.to_owned(),
        passphrase_file: None,
        trash_hold: HOLD,
        immutable: None,
    })
}

pub(super) fn ready(incarnation: u8) -> Command {
    Command::AgentReady { incarnation: lineage(incarnation), endpoint: endpoint("hq/m1") }
}

pub(super) fn adopt(reason: &str) -> Command {
    let owner = FolderOwner { lineage: lineage(8), epoch: 4 };
    Command::Adopt { owner, why: Override { by: "ann".to_owned(), reason: reason.to_owned() } }
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

pub(super) fn hold(id: &str) -> Command {
    Command::Hold { point: point(id), until: None, reason: "audit".to_owned() }
}

pub(super) fn durable(byte: u8) -> Outcome {
    Outcome::PointDurable { stored: ByteCount(10), disks: disks(byte), immutable: None }
}

pub(super) fn failed(code: &str) -> Outcome {
    let (message, advice) = ("no".to_owned(), "none".to_owned());
    Outcome::Failed(Failure { code: code.to_owned(), message, advice, transient: true })
}

pub(super) fn run(ordinal: u64, spec: TaskSpec) -> Message {
    let order = Order { task: task(ordinal), fence: None, expires: None, spec };
    Message::Agent(agent::Command::Run(Box::new(order)))
}

pub(super) fn open_spec() -> TaskSpec {
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

pub(super) fn points(given: &Given<Repository>) -> Vec<String> {
    state(given).points.keys().map(ToString::to_string).collect()
}

/// The points that a decision orders to be marked.
pub(super) fn marked(decision: &Decision<Event>) -> Option<Vec<PointId>> {
    decision.events.iter().find_map(|event| {
        let Event::Ordered { work: Work::Mark { points, .. }, .. } = event else { return None };
        Some(points.clone())
    })
}

/// The points that a decision orders to be swept.
pub(super) fn swept(decision: &Decision<Event>) -> Option<Vec<PointId>> {
    decision.events.iter().find_map(|event| {
        let Event::Ordered { work: Work::Sweep { points, .. }, .. } = event else { return None };
        Some(points.clone())
    })
}

/// What the agent answers to a sweep of these points.
pub(super) fn gone(ids: &[&str]) -> Outcome {
    Outcome::Pruned { points: ids.iter().map(|id| point(id)).collect(), bytes: ByteCount(5) }
}

/// Defined, with its agent there.
pub(super) fn served() -> Given<Repository> {
    given(ME, []).when(define("/r")).accepted().from(MOVER).when(ready(1)).accepted()
}

/// The ordinal that the next order gets.
pub(super) fn next(given: &Given<Repository>) -> u64 {
    state(given).orders.next
}

/// The next order ends well, or as it must for what it is.
pub(super) fn agent_ends(given: Given<Repository>, ordinal: u64, outcome: Outcome) -> Given<Repository> {
    given.from(AGENT).when(ended(ordinal, outcome)).accepted()
}

/// This session has an open access for writing.
pub(super) fn writing(given: Given<Repository>, session: &str) -> Given<Repository> {
    let ordinal = next(&given);
    let asked = given.from(session).when(open(Purpose::Write, None)).accepted();
    agent_ends(asked, ordinal, Outcome::Done)
}

pub(super) fn closed(given: Given<Repository>, session: &str) -> Given<Repository> {
    let ordinal = next(&given);
    agent_ends(given.from(session).when(Command::CloseAccess).accepted(), ordinal, Outcome::Done)
}

/// A session that writes makes a point.
pub(super) fn made(given: Given<Repository>, session: &str, (id, taken, keep): (&str, i64, u32)) -> Given<Repository> {
    let ordinal = next(&given);
    agent_ends(given.from(session).when(commit(id, taken, keep)).accepted(), ordinal, durable(3))
}

/// Points p1 and p2, and `p1` forgotten when `keep` is 1; no access is open.
pub(super) fn with_points(keep: u32) -> Given<Repository> {
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
    let register = Message::Mover(mover::Command::Register);
    let no_disks = Command::CommitPoint {
        point: point("p9"),
        vm: vm_ref("hq/h1/web"),
        job: name("nightly"),
        taken: Timestamp(1),
        keep: Keep::newest(7),
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
        ("hold", OPS, Input::Command(hold("p2"))),
        ("let-go", OPS, Input::Command(Command::Release { point: point("p2") })),
        ("break", OPS, Input::Command(Command::BreakAccess { holder: address(S1) })),
        ("log-served", OPS, Input::Command(Command::LogServed { source: endpoint("hq/c1") })),
        ("log-served-elsewhere", S2, Input::Command(Command::LogServed { source: endpoint("hq/c1") })),
        ("owned-before", OPS, Input::Command(Command::OwnedBefore { lineage: lineage(9) })),
        ("owned-before-elsewhere", S2, Input::Command(Command::OwnedBefore { lineage: lineage(9) })),
        ("adopt", OPS, Input::Command(adopt("it is gone"))),
        ("adopt-bare", OPS, Input::Command(adopt(" "))),
        ("ended-unknown", AGENT, Input::Command(ended(99, Outcome::Done))),
        ("ended-by-another", S1, Input::Command(ended(0, Outcome::Done))),
        ("register-refused", MOVER, refused_by(MOVER, register.clone(), "FS-MOVER-UNKNOWN")),
        ("answer-refused", S1, refused_by(S1, opened(0, Vec::new()), "FS-SESSION-UNKNOWN")),
        ("other-refused", S1, refused_by(S1, register, "FS-X")),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Repository>(&inputs, 14, |command| match command {
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
        Command::LogServed { .. } => 10,
        Command::OwnedBefore { .. } => 11,
        Command::Adopt { .. } => 12,
        Command::Release { .. } => 13,
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
log-served: UNKNOWN ok ok ok ok ok ok ok
log-served-elsewhere: UNKNOWN NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL
owned-before: UNKNOWN ok ok ok ok ok ok ok
owned-before-elsewhere: UNKNOWN NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL NOT-MY-CONTROL
adopt: UNKNOWN ok ok ok ok ok ok ok
adopt-bare: UNKNOWN OVERRIDE OVERRIDE OVERRIDE OVERRIDE OVERRIDE OVERRIDE OVERRIDE
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
    let serve = agent::Command::ServeRepository {
        repository: name("r1"),
        path: "/r".to_owned(),
        passphrase_file: None,
        lineage: lineage(1),
        formerly: Vec::new(),
        adopted: None,
    };
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
        .map(|send| {
            let Message::Agent(agent::Command::Run(order)) = &send.body else { panic!("{send:?}") };
            order.task.ordinal
        })
        .collect();
    assert_eq!(tasks, [0, 1], "the access under its id, then the commit under its own");
    let reopened = then.accepted().from(AGENT).when(ended(0, Outcome::Done)).sent(&[]);
    let access = &state(&reopened).accesses[&address(S1)];
    assert_eq!(access.status, AccessStatus::Open { access: task(0) });
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
    let moved = Command::Define(RepositorySpec {
        mover: name("m2"),
        path: "/r".to_owned(),
        passphrase_file: None,
        trash_hold: HOLD,
        immutable: None,
    });
    let given = served().later(Millis(1)).from(OPS).when(moved).sent(&[
        (MOVER, Message::Mover(mover::Command::Unregister)),
        ("hq:mover/m2", Message::Mover(mover::Command::Register)),
    ]);
    assert!(state(&given).link.agent.is_none());
}
