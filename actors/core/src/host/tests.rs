//! Fixtures, the table of every state and input, definition, discovery. Reads, rights and power are beside this file.

use super::rights_tests::agent_epochs;
use super::{Defined, Host, State};
use crate::decider::Input;
use crate::testing::*;
use farshore_schemas::ids::{Seq, TaskId, VmRef};
use farshore_schemas::messages::agent::{self, DiskFacts, Failure, Order, Outcome, TaskSpec};
use farshore_schemas::messages::host::{Command, Driver, HostSpec, VmFacts};
use farshore_schemas::messages::{Epoch, Message, Override, mover, replica, session};
use farshore_schemas::units::{ByteCount, Millis, Timestamp};

pub(super) const ME: &str = "hq:host/h1";
pub(super) const MOVER: &str = "hq:mover/m1";
pub(super) const AGENT: &str = "hq:agent/m1";
pub(super) const OPS: &str = "hq:api/operator";
pub(super) const S1: &str = "dr:session/s1";
pub(super) const S2: &str = "hq:session/s2";
pub(super) const R1: &str = "dr:replica/r1";

pub(super) fn spec(path: &str) -> HostSpec {
    HostSpec { mover: name("m1"), driver: Driver::Folder { path: path.to_owned() }, discovery_every: Millis(0) }
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

pub(super) fn failed() -> Outcome {
    Outcome::Failed(failure())
}

pub(super) fn failure() -> Failure {
    let (code, message, advice) = ("FS-AGENT-X".to_owned(), "no".to_owned(), "none".to_owned());
    Failure { code, message, advice, transient: true }
}

pub(super) fn disks() -> Vec<DiskFacts> {
    vec![DiskFacts { name: disk("a.img"), size: ByteCount(1 << 20) }]
}

pub(super) fn facts(name: &str, running: bool) -> VmFacts {
    VmFacts { vm: vm(name), disks: disks(), running, origin: None }
}

pub(super) fn inventory(vms: &[VmFacts], last: bool) -> Outcome {
    Outcome::Inventory { vms: vms.to_vec(), last }
}

pub(super) fn web() -> VmRef {
    vm_ref("hq/h1/web")
}

pub(super) fn epoch(counter: u64, site_name: &str) -> Epoch {
    Epoch { counter, site: site(site_name), frame: Seq(if counter == 0 { 0 } else { 4 }) }
}

pub(super) fn run(ordinal: u64, fence: Option<(VmRef, Epoch)>, spec: TaskSpec) -> Message {
    // A guest is not started later than this.
    let starts = matches!(spec, TaskSpec::PowerOn { .. });
    let expires = starts.then(|| Timestamp(1_000_000).after(crate::limits::START));
    let order = Order { task: task(ordinal), fence, expires, spec };
    Message::Agent(agent::Command::Run(Box::new(order)))
}

pub(super) fn power_on(ordinal: u64, epoch: Epoch) -> Message {
    run(ordinal, Some((web(), epoch)), TaskSpec::PowerOn { host: name("h1"), vm: vm("web") })
}

pub(super) fn power_off(ordinal: u64, epoch: Epoch) -> Message {
    run(ordinal, Some((web(), epoch)), TaskSpec::PowerOff { host: name("h1"), vm: vm("web") })
}

fn discover(ordinal: u64) -> Message {
    run(ordinal, None, TaskSpec::Discover { host: name("h1") })
}

fn serve(epochs: Vec<(VmRef, Epoch)>) -> Message {
    let driver = Driver::Folder { path: "/vms".to_owned() };
    Message::Agent(agent::Command::ServeHost { host: name("h1"), driver, epochs })
}

pub(super) fn state(given: &Given<Host>) -> &Defined {
    match &given.state {
        State::Defined(host) => host,
        State::Undefined { .. } => panic!("undefined"),
    }
}

pub(super) fn next(given: &Given<Host>) -> u64 {
    state(given).orders.next
}

pub(super) fn defined() -> Given<Host> {
    given(ME, []).when(Command::Define(spec("/vms"))).accepted()
}

/// Its agent is there, and the first listing under way as task 0.
pub(super) fn served() -> Given<Host> {
    defined().when_from(MOVER, ready(1))
}

/// `web` runs, `db` is off.
pub(super) fn listed() -> Given<Host> {
    served().when_from(AGENT, ended(0, inventory(&[facts("web", true), facts("db", false)], true)))
}

/// The same, `web` protected by a replica.
pub(super) fn protected() -> Given<Host> {
    listed().when_from(R1, Command::Protect { vm: vm("web"), replica: address(R1) })
}

pub(super) fn release(counter: u64) -> Command {
    Command::Release { vm: vm("web"), epoch: epoch(counter, "dr") }
}

pub(super) fn grant(counter: u64, power_on: bool) -> Command {
    Command::Grant { vm: vm("web"), origin: web(), epoch: epoch(counter, "dr"), power_on }
}

pub(super) fn stop_guest(counter: u64) -> Command {
    Command::StopGuest { vm: vm("web"), origin: web(), epoch: epoch(counter, "dr") }
}

pub(super) fn epoch_is(epoch: Epoch, yours: bool) -> Command {
    Command::EpochIs { vm: vm("web"), epoch, yours }
}

pub(super) fn start(name: &str) -> Command {
    Command::PowerOn { vm: vm(name), forced: None }
}

pub(super) fn forced() -> Option<Override> {
    Some(Override { by: "ann".to_owned(), reason: "dr is lost".to_owned() })
}

/// After the host's return `web` was found down, and its replica asked.
pub(super) fn asking() -> Given<Host> {
    let back = protected().when_from(MOVER, ready(1));
    let ordinal = next(&back) - 1;
    back.when_from(AGENT, ended(ordinal, inventory(&[facts("web", false), facts("db", false)], true)))
}

/// An operator wants `web`, which is off, to run, and its replica is asked.
pub(super) fn wanted() -> Given<Host> {
    switched_off().when_from(OPS, start("web"))
}

/// `web` is protected and was switched off by an operator.
pub(super) fn switched_off() -> Given<Host> {
    let given = protected().when_from(OPS, Command::PowerOff { vm: vm("web") });
    let ordinal = next(&given) - 1;
    given.when_from(AGENT, ended(ordinal, Outcome::Done))
}

/// The right to run `web` was given up for epoch 2, and its guest is off.
pub(super) fn released() -> Given<Host> {
    let given = protected().when_from(R1, release(2));
    let ordinal = next(&given) - 1;
    given.when_from(AGENT, ended(ordinal, Outcome::Done))
}

#[test]
fn every_state_answers_every_input() {
    let reading = listed().when_from(S1, Command::PrepareRead { vm: vm("web") });
    let stopping = protected().when_from(R1, release(2));
    let states = [given::<Host>(ME, []), served(), reading, protected(), stopping, released(), asking(), wanted()];
    let prepared = || {
        let taken = Timestamp(1);
        let (vm, snapshot) = (vm("web"), name("snap-1"));
        Message::Session(session::Command::ReadPrepared { vm, snapshot, disks: disks(), taken })
    };
    let who = Message::Replica(replica::Command::WhoRuns { vm: vm("web"), host: address(ME) });
    let register = || Message::Mover(mover::Command::Register);
    let create = |name: &str| Command::CreateVm { vm: vm(name), disks: disks(), origin: web() };
    let observed = Command::Observed { vm: vm("web"), running: true, at: Timestamp(1) };
    let off = |name: &str| Command::PowerOff { vm: vm(name) };
    let write = |name: &str| Command::GuestWrite { vm: vm(name), seed: 1 };
    let read = |name: &str| Command::PrepareRead { vm: vm(name) };
    let inputs: Vec<Row<Host>> = vec![
        ("define", OPS, Input::Command(Command::Define(spec("/vms")))),
        ("define-elsewhere", OPS, Input::Command(Command::Define(spec("/other")))),
        ("remove", OPS, Input::Command(Command::Remove)),
        ("discover", OPS, Input::Command(Command::Discover)),
        ("ready", MOVER, Input::Command(ready(1))),
        ("ready-of-another", "hq:mover/m2", Input::Command(ready(1))),
        ("list", S1, Input::Command(Command::ListVms { vms: Vec::new() })),
        ("list-for-plan", "dr:plan/p", Input::Command(Command::ListVms { vms: Vec::new() })),
        ("read", S1, Input::Command(read("web"))),
        ("read-unknown", S1, Input::Command(read("gone"))),
        ("read-by-job", "hq:job/j", Input::Command(read("web"))),
        ("end-read", S1, Input::Command(Command::EndRead { vm: vm("web") })),
        ("create", S2, Input::Command(create("new"))),
        ("create-there", S2, Input::Command(create("web"))),
        ("create-there-for-replica", R1, Input::Command(create("web"))),
        ("create-by-job", "hq:job/j", Input::Command(create("new"))),
        ("protect", R1, Input::Command(Command::Protect { vm: vm("web"), replica: address(R1) })),
        (
            "protect-for-another",
            "dr:replica/r2",
            Input::Command(Command::Protect { vm: vm("web"), replica: address(R1) }),
        ),
        ("unprotect", R1, Input::Command(Command::Unprotect { vm: vm("web") })),
        ("release", R1, Input::Command(release(2))),
        ("release-by-session", S1, Input::Command(release(2))),
        ("grant", R1, Input::Command(grant(3, true))),
        ("grant-old", R1, Input::Command(grant(1, true))),
        ("stop-guest", R1, Input::Command(stop_guest(3))),
        ("stop-guest-old", R1, Input::Command(stop_guest(1))),
        ("epoch-is-yours", R1, Input::Command(epoch_is(epoch(0, "hq"), true))),
        ("epoch-is-not-yours", R1, Input::Command(epoch_is(epoch(2, "dr"), false))),
        ("power-on", OPS, Input::Command(start("web"))),
        ("power-on-db", OPS, Input::Command(start("db"))),
        ("power-on-forced", OPS, Input::Command(Command::PowerOn { vm: vm("web"), forced: forced() })),
        ("power-off", OPS, Input::Command(off("web"))),
        ("power-off-db", OPS, Input::Command(off("db"))),
        ("write", OPS, Input::Command(write("web"))),
        ("ended-unknown", AGENT, Input::Command(ended(99, Outcome::Done))),
        ("ended-by-another", S1, Input::Command(ended(0, Outcome::Done))),
        ("observed", AGENT, Input::Command(observed.clone())),
        ("observed-by-another", S1, Input::Command(observed)),
        ("agent-epochs", AGENT, Input::Command(agent_epochs(2))),
        ("agent-epochs-by-another", S1, Input::Command(agent_epochs(2))),
        ("register-refused", MOVER, refused_by(MOVER, register(), "FS-MOVER-UNKNOWN")),
        ("read-refused", S1, refused_by(S1, prepared(), "FS-SESSION-UNKNOWN")),
        ("question-refused", R1, refused_by(R1, who, "FS-REPLICA-UNKNOWN")),
        ("other-refused", S1, refused_by(S1, register(), "FS-X")),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Host>(&inputs, 20, |command| match command {
        Command::Define(_) => 0,
        Command::Remove => 1,
        Command::Discover => 2,
        Command::AgentReady { .. } => 3,
        Command::ListVms { .. } => 4,
        Command::PrepareRead { .. } => 5,
        Command::EndRead { .. } => 6,
        Command::CreateVm { .. } => 7,
        Command::Protect { .. } => 8,
        Command::Unprotect { .. } => 9,
        Command::Release { .. } => 10,
        Command::Grant { .. } => 11,
        Command::StopGuest { .. } => 12,
        Command::EpochIs { .. } => 13,
        Command::PowerOn { .. } => 14,
        Command::PowerOff { .. } => 15,
        Command::GuestWrite { .. } => 16,
        Command::TaskEnded { .. } => 17,
        Command::Observed { .. } => 18,
        Command::AgentEpochs { .. } => 19,
    });
    // States: undefined, served (nothing listed), reading, protected, stopping, released, asking, wanted.
    let table_wanted = "\
define: ok ok ok ok ok ok ok ok
define-elsewhere: ok IN-USE IN-USE ok IN-USE ok ok ok
remove: UNKNOWN IN-USE IN-USE IN-USE IN-USE IN-USE IN-USE IN-USE
discover: UNKNOWN DISCOVERING ok ok ok ok ok ok
ready: UNKNOWN ok ok ok ok ok ok ok
ready-of-another: UNKNOWN NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER NOT-MY-MOVER
list: UNKNOWN NOT-DISCOVERED ok ok ok ok ok ok
list-for-plan: UNKNOWN ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND
read: UNKNOWN NO-VM READING ok ok ok ok ok
read-unknown: UNKNOWN NO-VM NO-VM NO-VM NO-VM NO-VM NO-VM NO-VM
read-by-job: UNKNOWN ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND
end-read: ok ok ok ok ok ok ok ok
create: UNKNOWN ok ok ok ok ok ok ok
create-there: UNKNOWN ok VM-EXISTS VM-EXISTS VM-EXISTS VM-EXISTS VM-EXISTS VM-EXISTS
create-there-for-replica: UNKNOWN ok ok ok ok ok ok ok
create-by-job: UNKNOWN ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND
protect: UNKNOWN NO-VM ok ok ok ok ok ok
protect-for-another: UNKNOWN NOT-THE-REPLICA NOT-THE-REPLICA NOT-THE-REPLICA NOT-THE-REPLICA NOT-THE-REPLICA NOT-THE-REPLICA NOT-THE-REPLICA
unprotect: UNKNOWN NOT-PROTECTED NOT-PROTECTED ok ok ok ok ok
release: UNKNOWN ok ok ok ok ok ok ok
release-by-session: UNKNOWN ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND ASKER-KIND
grant: UNKNOWN ok ok ok ok ok ok ok
grant-old: UNKNOWN ok ok ok EPOCH-OLD EPOCH-OLD ok ok
stop-guest: UNKNOWN ok ok ok ok ok ok ok
stop-guest-old: UNKNOWN ok ok ok EPOCH-OLD EPOCH-OLD ok ok
epoch-is-yours: UNKNOWN NOT-ASKED NOT-ASKED NOT-ASKED NOT-ASKED NOT-ASKED ok ok
epoch-is-not-yours: UNKNOWN ok ok ok ok ok ok ok
power-on: UNKNOWN NO-VM ALREADY-ON ALREADY-ON BUSY NOT-YOURS ASKING ASKING
power-on-db: UNKNOWN NO-VM ok ok ok ok ok ok
power-on-forced: UNKNOWN NO-VM ALREADY-ON ALREADY-ON BUSY ok ok ok
power-off: UNKNOWN NO-VM ok ok BUSY ALREADY-OFF ok ok
power-off-db: UNKNOWN NO-VM ALREADY-OFF ALREADY-OFF ALREADY-OFF ALREADY-OFF ALREADY-OFF ALREADY-OFF
write: UNKNOWN NO-VM ok ok ok GUEST-OFF GUEST-OFF GUEST-OFF
ended-unknown: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN
ended-by-another: UNKNOWN NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
observed: UNKNOWN NO-VM ok ok ok ok ok ok
observed-by-another: UNKNOWN NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
agent-epochs: UNKNOWN ok ok ok ok ok ok ok
agent-epochs-by-another: UNKNOWN NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
register-refused: REFUSAL-UNEXPECTED ok ok ok ok ok ok ok
read-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED ok REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
question-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED ok ok
other-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
wake: NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE
";
    assert_eq!(table(&states, &inputs), table_wanted);
}

#[test]
fn the_agents_coming_serves_the_host_with_its_epochs_before_any_order() {
    let register = Message::Mover(mover::Command::Register);
    let defined = given::<Host>(ME, []).when(Command::Define(spec("/vms"))).sent(&[(MOVER, register)]);
    defined.from(MOVER).when(ready(1)).sent(&[(AGENT, serve(Vec::new())), (AGENT, discover(0))]);
    let epochs = vec![(web(), epoch(2, "dr"))];
    let again = released().from(MOVER).when(ready(1));
    assert_eq!(again.decision().sends[0].body, serve(epochs));
}

#[test]
fn a_new_incarnation_gets_open_orders_again_after_the_epochs_and_the_same_one_nothing() {
    let given = protected().when_from(R1, release(2));
    let ordinal = next(&given) - 1;
    let epochs = || vec![(web(), epoch(2, "dr"))];
    given.clone().from(MOVER).when(ready(1)).sent(&[(AGENT, serve(epochs())), (AGENT, discover(ordinal + 1))]);
    given.from(MOVER).when(ready(2)).sent(&[
        (AGENT, serve(epochs())),
        (AGENT, power_off(ordinal, epoch(2, "dr"))),
        (AGENT, discover(ordinal + 1)),
    ]);
}

#[test]
fn an_order_from_before_the_agents_coming_is_sent_with_it() {
    let given = defined().from(OPS).when(Command::Discover).sent(&[]);
    given.from(MOVER).when(ready(1)).sent(&[(AGENT, serve(Vec::new())), (AGENT, discover(0))]);
}

#[test]
fn a_session_is_told_the_vms_that_it_asked_for_and_that_are_there() {
    let told = session::Command::VmsListed { mover: name("m1"), vms: vec![facts("db", false)] };
    let asked = Command::ListVms { vms: vec![vm("db"), vm("gone")] };
    listed().from(S1).when(asked).then(&[], &[(S1, Message::Session(told))]);
}
