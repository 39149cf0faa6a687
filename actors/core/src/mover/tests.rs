use super::{Mover, State};
use crate::decider::Input;
use crate::testing::*;
use farshore_schemas::ids::TaskId;
use farshore_schemas::messages::agent::{self, DiskRef, DiskSink, Failure, Order, Outcome, TaskSpec};
use farshore_schemas::messages::mover::{Command, Event, MoverSpec, Role};
use farshore_schemas::messages::{Epoch, Message, broker, host, replica, repository, session};
use farshore_schemas::units::ByteCount;
use proptest::prelude::*;

const ME: &str = "hq:mover/m1";
const AGENT: &str = "hq:agent/m1";
const OPS: &str = "hq:api/operator";
const S1: &str = "dr:session/s1";
const R1: &str = "dr:replica/r1";
const HOST: &str = "hq:host/h1";
const REPOSITORY: &str = "hq:repository/r1";

fn spec() -> MoverSpec {
    MoverSpec { roles: vec![Role::Source], slots: 2 }
}

fn hello(incarnation: u8) -> Command {
    Command::Hello { incarnation: lineage(incarnation), endpoint: endpoint("hq/m1"), version: "1".to_owned(), cores: 4 }
}

fn task(owner: &str, ordinal: u64) -> TaskId {
    TaskId { owner: address(owner), lineage: lineage(9), ordinal }
}

fn receive() -> TaskSpec {
    let disk = DiskRef { host: name("h1"), vm: vm("web"), disk: disk("a.img") };
    TaskSpec::ReceiveDisk { peer: digest(1), sink: DiskSink::VmDisk(disk, ByteCount(1)) }
}

fn fence() -> Option<(farshore_schemas::ids::VmRef, Epoch)> {
    let epoch = Epoch { counter: 3, site: site("dr"), frame: farshore_schemas::ids::Seq(8) };
    Some((vm_ref("hq/h1/web"), epoch))
}

fn assign(owner: &str, ordinal: u64) -> Command {
    Command::Assign { task: task(owner, ordinal), fence: fence(), spec: Box::new(receive()) }
}

fn run(owner: &str, ordinal: u64) -> Message {
    let order = Order { task: task(owner, ordinal), fence: fence(), expires: None, spec: receive() };
    Message::Agent(agent::Command::Run(Box::new(order)))
}

fn ended(owner: &str, ordinal: u64) -> Command {
    Command::TaskEnded { task: task(owner, ordinal), outcome: Outcome::Done }
}

fn welcome(incarnation: u8) -> Message {
    Message::Agent(agent::Command::Welcome { incarnation: lineage(incarnation) })
}

fn mover_is(spec: Option<MoverSpec>, there: bool) -> Message {
    let endpoint = there.then(|| endpoint("hq/m1"));
    Message::Broker(broker::Command::MoverIs { mover: name("m1"), spec, endpoint })
}

fn host_ready(incarnation: u8) -> Message {
    Message::Host(host::Command::AgentReady { incarnation: lineage(incarnation), endpoint: endpoint("hq/m1") })
}

fn defined() -> Given<Mover> {
    given(ME, []).when(Command::Define(spec())).accepted()
}

/// With an agent that has said hello.
fn there() -> Given<Mover> {
    defined().from(AGENT).when(hello(1)).accepted()
}

/// With an open task of a session, and a host that names it.
fn busy() -> Given<Mover> {
    there().from(HOST).when(Command::Register).accepted().from(S1).when(assign(S1, 1)).accepted()
}

#[test]
fn every_state_answers_every_input() {
    let cancelling = busy().from(S1).when(Command::Cancel { task: task(S1, 1) }).accepted();
    let states = [given::<Mover>(ME, []), defined(), there(), busy(), cancelling];
    let foreign = Command::Assign { task: task(S1, 2), fence: None, spec: Box::new(receive()) };
    let power = TaskSpec::PowerOn { host: name("h1"), vm: vm("web") };
    let power = Command::Assign { task: task(S1, 3), fence: None, spec: Box::new(power) };
    let unwanted = Message::Session(session::Command::TaskEnded { task: task(S1, 1), outcome: Outcome::Done });
    let describe = Command::Describe { broker: address("hq:broker/broker"), request: name("q") };
    let inputs: Vec<Row<Mover>> = vec![
        ("define", OPS, Input::Command(Command::Define(spec()))),
        ("define-useless", OPS, Input::Command(Command::Define(MoverSpec { roles: Vec::new(), slots: 1 }))),
        ("remove", OPS, Input::Command(Command::Remove)),
        ("hello", AGENT, Input::Command(hello(1))),
        ("hello-new", AGENT, Input::Command(hello(2))),
        ("hello-of-another", "hq:agent/m2", Input::Command(hello(1))),
        ("register", HOST, Input::Command(Command::Register)),
        ("register-from-afar", "dr:host/h1", Input::Command(Command::Register)),
        ("unregister", HOST, Input::Command(Command::Unregister)),
        ("assign", S1, Input::Command(assign(S1, 1))),
        ("assign-foreign", R1, Input::Command(foreign)),
        ("assign-by-host", HOST, Input::Command(assign(HOST, 1))),
        ("assign-power", S1, Input::Command(power)),
        ("cancel", S1, Input::Command(Command::Cancel { task: task(S1, 1) })),
        ("cancel-foreign", R1, Input::Command(Command::Cancel { task: task(S1, 1) })),
        ("ended", AGENT, Input::Command(ended(S1, 1))),
        ("ended-unknown", AGENT, Input::Command(ended(S1, 7))),
        ("ended-by-another", S1, Input::Command(ended(S1, 1))),
        ("describe", "hq:broker/broker", Input::Command(describe.clone())),
        ("describe-for-another", S1, Input::Command(describe)),
        ("run-refused", AGENT, refused_by(AGENT, run(S1, 1), "FS-AGENT-X")),
        ("outcome-refused", S1, refused_by(S1, unwanted, "FS-SESSION-UNKNOWN")),
        ("ready-refused", HOST, refused_by(HOST, host_ready(1), "FS-HOST-UNKNOWN")),
        ("other-refused", S1, refused_by(S1, welcome(1), "FS-X")),
        ("wake", ME, Input::Wake),
    ];
    lists_all::<Mover>(&inputs, 9, |command| match command {
        Command::Define(_) => 0,
        Command::Remove => 1,
        Command::Hello { .. } => 2,
        Command::Register => 3,
        Command::Unregister => 4,
        Command::Assign { .. } => 5,
        Command::Cancel { .. } => 6,
        Command::TaskEnded { .. } => 7,
        Command::Describe { .. } => 8,
    });
    let wanted = "\
define: ok ok ok ok ok
define-useless: USELESS USELESS USELESS USELESS USELESS
remove: UNKNOWN ok ok IN-USE IN-USE
hello: ok ok ok ok ok
hello-new: ok ok ok ok ok
hello-of-another: NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
register: UNKNOWN ok ok ok ok
register-from-afar: UNKNOWN REGISTRANT-KIND REGISTRANT-KIND REGISTRANT-KIND REGISTRANT-KIND
unregister: UNKNOWN NOT-REGISTERED NOT-REGISTERED ok ok
assign: UNKNOWN ok ok TASK-OPEN TASK-OPEN
assign-foreign: UNKNOWN FOREIGN-TASK FOREIGN-TASK FOREIGN-TASK FOREIGN-TASK
assign-by-host: UNKNOWN OWNER-KIND OWNER-KIND OWNER-KIND OWNER-KIND
assign-power: UNKNOWN WRONG-TASK WRONG-TASK WRONG-TASK WRONG-TASK
cancel: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN ok CANCELLING
cancel-foreign: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN FOREIGN-TASK FOREIGN-TASK
ended: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN ok ok
ended-unknown: UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN TASK-UNKNOWN
ended-by-another: UNKNOWN NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT NOT-MY-AGENT
describe: UNKNOWN ok ok ok ok
describe-for-another: UNKNOWN NOT-THE-BROKER NOT-THE-BROKER NOT-THE-BROKER NOT-THE-BROKER
run-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED ok ok
outcome-refused: REFUSAL-UNEXPECTED ok ok ok ok
ready-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED ok ok
other-refused: REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED REFUSAL-UNEXPECTED
wake: NOT-DUE NOT-DUE NOT-DUE NOT-DUE NOT-DUE
";
    assert_eq!(table(&states, &inputs), wanted);
}

#[test]
fn a_first_hello_welcomes_the_agent_and_tells_broker_host_and_repository() {
    let named = defined().from(HOST).when(Command::Register).accepted();
    let named = named.from(REPOSITORY).when(Command::Register).accepted();
    let told =
        Message::Repository(repository::Command::AgentReady { incarnation: lineage(1), endpoint: endpoint("hq/m1") });
    named.from(AGENT).when(hello(1)).sent(&[
        (AGENT, welcome(1)),
        ("hq:broker/broker", mover_is(Some(spec()), true)),
        (HOST, host_ready(1)),
        (REPOSITORY, told),
    ]);
}

#[test]
fn an_agent_that_comes_before_its_mover_is_defined_is_known_to_it_afterwards() {
    given::<Mover>(ME, [])
        .from(AGENT)
        .when(hello(1))
        .sent(&[(AGENT, welcome(1))])
        .from(OPS)
        .when(Command::Define(spec()))
        .sent(&[("hq:broker/broker", mover_is(Some(spec()), true))])
        .from(HOST)
        .when(Command::Register)
        .sent(&[(HOST, host_ready(1))]);
}

#[test]
fn who_registers_later_is_told_that_the_agent_is_there() {
    there()
        .from(HOST)
        .when(Command::Register)
        .then(&[Event::Registered { who: address(HOST) }], &[(HOST, host_ready(1))]);
    defined().from(HOST).when(Command::Register).sent(&[]);
}

#[test]
fn an_order_goes_to_the_agent_with_its_fence_and_its_owners_id() {
    there().from(S1).when(assign(S1, 1)).sent(&[(AGENT, run(S1, 1))]);
}

#[test]
fn the_same_incarnation_is_told_nothing_again() {
    let broker = ("hq:broker/broker", mover_is(Some(spec()), true));
    busy().from(AGENT).when(hello(1)).sent(&[(AGENT, welcome(1)), broker, (HOST, host_ready(1))]);
}

#[test]
fn a_new_incarnation_gets_open_orders_again_after_its_welcome() {
    let broker = || ("hq:broker/broker", mover_is(Some(spec()), true));
    let sends = [(AGENT, welcome(2)), broker(), (HOST, host_ready(2)), (AGENT, run(S1, 1))];
    busy().from(AGENT).when(hello(2)).sent(&sends);
    let cancel = Message::Agent(agent::Command::Cancel { task: task(S1, 1) });
    let cancelling = busy().from(S1).when(Command::Cancel { task: task(S1, 1) }).sent(&[(AGENT, cancel.clone())]);
    cancelling.from(AGENT).when(hello(2)).sent(&[
        (AGENT, welcome(2)),
        broker(),
        (HOST, host_ready(2)),
        (AGENT, run(S1, 1)),
        (AGENT, cancel),
    ]);
}

#[test]
fn an_order_from_before_the_first_hello_is_sent_with_it() {
    let waiting = defined().from(S1).when(assign(S1, 1)).sent(&[]);
    let then = waiting.from(AGENT).when(hello(1));
    assert_eq!(then.decision().sends.last().map(|send| send.body.clone()), Some(run(S1, 1)));
}

#[test]
fn a_task_that_was_never_sent_is_cancelled_at_once() {
    let waiting = defined().from(S1).when(assign(S1, 1)).accepted();
    let told = session::Command::TaskEnded { task: task(S1, 1), outcome: Outcome::Cancelled };
    let after = waiting.when(Command::Cancel { task: task(S1, 1) }).sent(&[(S1, Message::Session(told))]);
    after.from(AGENT).when(ended(S1, 1)).rejected("FS-MOVER-TASK-UNKNOWN");
}

#[test]
fn the_outcome_goes_to_the_owner_once() {
    let told = session::Command::TaskEnded { task: task(S1, 1), outcome: Outcome::Done };
    let ended_event = Event::TaskEnded { task: task(S1, 1), failure: None };
    let after = busy().from(AGENT).when(ended(S1, 1)).then(&[ended_event], &[(S1, Message::Session(told))]);
    after.when(ended(S1, 1)).rejected("FS-MOVER-TASK-UNKNOWN");
    let replica = there().from(R1).when(assign(R1, 1)).accepted();
    let told = replica::Command::TaskEnded { task: task(R1, 1), outcome: Outcome::Done };
    replica.from(AGENT).when(ended(R1, 1)).sent(&[(R1, Message::Replica(told))]);
}

#[test]
fn an_order_that_the_agent_refuses_has_failed() {
    let then = busy().when_input(refused_by(AGENT, run(S1, 1), "FS-AGENT-X"));
    let failure = Failure {
        code: "FS-AGENT-X".to_owned(),
        message: "no".to_owned(),
        advice: "none".to_owned(),
        transient: false,
    };
    let told = session::Command::TaskEnded { task: task(S1, 1), outcome: Outcome::Failed(failure) };
    then.sent(&[(S1, Message::Session(told))]);
}

#[test]
fn a_mover_that_is_removed_and_defined_again_still_knows_its_agent() {
    let removed = there().from(OPS).when(Command::Remove);
    let removed = removed.then(&[Event::Removed], &[("hq:broker/broker", mover_is(None, false))]);
    assert!(matches!(removed.state, State::Undefined { agent: Some(_) }));
    removed.when(Command::Define(spec())).sent(&[("hq:broker/broker", mover_is(Some(spec()), true))]);
}

#[test]
fn a_host_that_no_longer_names_it_is_forgotten() {
    let gone = busy().when_input(refused_by(HOST, host_ready(1), "FS-HOST-NOT-MY-MOVER"));
    gone.then(&[Event::Unregistered { who: address(HOST) }], &[]);
    // A refusal for another reason is no farewell.
    busy().when_input(refused_by(HOST, host_ready(1), "FS-KERNEL-EXPIRED")).rejected("FS-MOVER-REFUSAL-UNEXPECTED");
}

proptest! {
    /// Whatever comes: no panic, the fold holds, and each task that was taken on is answered exactly once.
    #[test]
    fn random_commands(ops in proptest::collection::vec((0u8..9, 0u64..4), 0..60)) {
        let mut now = given::<Mover>(ME, []);
        let mut open = std::collections::BTreeSet::new();
        for (op, ordinal) in ops {
            let (from, command) = match op {
                0 => (OPS, Command::Define(spec())),
                1 => (OPS, Command::Remove),
                2 => (AGENT, hello(u8::try_from(ordinal).unwrap())),
                3 => (HOST, if ordinal > 1 { Command::Register } else { Command::Unregister }),
                4 | 5 => (S1, assign(S1, ordinal)),
                6 => (S1, Command::Cancel { task: task(S1, ordinal) }),
                _ => (AGENT, ended(S1, ordinal)),
            };
            let then = now.from(from).when(command);
            for event in then.decided.iter().flat_map(|decision| &decision.events) {
                if let Event::Assigned { order } = event {
                    prop_assert!(open.insert(order.task.clone()));
                }
                if let Event::TaskEnded { task, .. } = event {
                    prop_assert!(open.remove(task));
                    let told = then.decision().sends.iter().filter(|send| send.to == task.owner).count();
                    prop_assert_eq!(told, 1);
                }
            }
            now = then.whatever();
        }
    }
}

#[test]
fn a_restart_welcomes_the_agent_again_so_that_it_hears_a_renewed_lineage_at_once() {
    use crate::decider::Decider;
    let now = busy();
    let resumed = Mover::resume(&now.state, &now.context);
    assert_eq!(resumed.events, []);
    assert_eq!(
        resumed.sends.iter().map(|send| (send.to.to_string(), &send.body)).collect::<Vec<_>>(),
        [(AGENT.to_owned(), &Message::Agent(agent::Command::Welcome { incarnation: lineage(1) }))]
    );
    assert!(Mover::resume(&given::<Mover>(ME, []).state, &now.context).is_empty());
}

#[test]
fn under_a_renewed_lineage_an_agent_counts_once_it_has_come_again() {
    use crate::decider::Decider;
    let mut now = busy();
    now.context.lineage = lineage(9);
    let resumed = Mover::resume(&now.state, &now.context);
    assert_eq!(resumed.events, [Event::AgentAwaited]);
    let told: Vec<_> = resumed.sends.iter().map(|send| &send.body).collect();
    assert_eq!(told, [&welcome(1), &mover_is(Some(spec()), false)]);
    resumed.events.iter().for_each(|event| Mover::evolve(&mut now.state, event));
    assert!(Mover::resume(&now.state, &now.context).is_empty(), "nobody is there to be welcomed");
    // Orders wait for it, whether it has lost its memory or not.
    let came = now.from(AGENT).when(hello(1));
    let runs = |body: &Message| matches!(body, Message::Agent(agent::Command::Run(_)));
    assert!(came.decision().sends.iter().any(|send| runs(&send.body)));
    let came = came.accepted();
    assert_eq!(Mover::resume(&came.state, &came.context).events, []);
}
