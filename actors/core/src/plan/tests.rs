use super::*;
use crate::decider::step;
use crate::testing::{Given, address, given, name};
use farshore_schemas::messages::{Refusal, Refused, replica};
use farshore_schemas::units::Millis;
use proptest::prelude::*;

const ME: &str = "dr:plan/all";

fn spec(replicas: &[(&str, u64)], concurrency: u32) -> PlanSpec {
    let steps =
        replicas.iter().map(|(replica, delay)| Step { replica: name(replica), delay: Millis::from_secs(*delay) });
    PlanSpec { steps: steps.collect(), concurrency }
}

fn two() -> PlanSpec {
    spec(&[("a", 0), ("b", 0)], 10)
}

fn run(action: Action) -> Command {
    Command::Run { action, point: PointChoice::Newest, forced: None }
}

fn forced(by: &str, reason: &str) -> Command {
    let forced = Some(Override { by: by.into(), reason: reason.into() });
    Command::Run { action: Action::Failover, point: PointChoice::Newest, forced }
}

fn failure() -> Failure {
    Failure { code: "FS-X".into(), message: "m".into(), advice: "a".into(), transient: true }
}

fn ended(replica: &str, action: Action, failure: Option<Failure>) -> Command {
    Command::StepEnded { replica: name(replica), action, failure }
}

fn failover() -> Message {
    Message::Replica(replica::Command::Failover { point: PointChoice::Newest, forced: None })
}

fn refused(replica: &str) -> Input<Command> {
    Input::Refused(Refused {
        by: address(&format!("dr:replica/{replica}")),
        message: failover(),
        refusal: Refusal { code: "FS-REPLICA-BUSY".into(), message: "m".into(), advice: "a".into() },
    })
}

fn defined(spec: PlanSpec) -> Given<PlanActor> {
    given::<PlanActor>(ME, [Event::Defined { spec }])
}

fn told(then: &crate::testing::Then<PlanActor>) -> Vec<String> {
    then.decision().sends.iter().map(|send| send.to.entity.name.to_string()).collect()
}

fn report(given: &Given<PlanActor>) -> Report {
    match &given.state {
        State::Idle { last: Some(last), .. } => last.clone(),
        other => panic!("no report: {other:?}"),
    }
}

#[test]
fn replicas_start_in_order_with_delay_and_cap() {
    let then = defined(spec(&[("a", 60), ("b", 0), ("c", 0), ("d", 0)], 2)).when(run(Action::Failover));
    assert_eq!(told(&then), ["a"], "b waits for a's delay");
    let given = then.accepted();
    assert_eq!(PlanActor::next_wake(&given.state), Some(Timestamp(1_060_000)));
    let then = given.from(ME).when_input(Input::Wake);
    assert!(then.decision().is_empty(), "a wake before its time yields nothing");
    let then = then.accepted().later(Millis::from_secs(60)).when_input(Input::Wake);
    assert_eq!(told(&then), ["b"], "the cap is two");
    let given = then.accepted();
    assert_eq!(PlanActor::next_wake(&given.state), None);
    let then = given.from("dr:replica/b").when(ended("b", Action::Failover, None));
    assert_eq!(told(&then), ["c"]);
    let then = then.accepted().from("dr:replica/a").when(ended("a", Action::Failover, Some(failure())));
    assert_eq!(told(&then), ["d"]);
    let given = then.accepted().from("dr:replica/c").when(ended("c", Action::Failover, None)).accepted();
    let given = given.from("dr:replica/d").when(ended("d", Action::Failover, None)).accepted();
    assert_eq!(report(&given).result, SessionResult::Failed, "a plan's result is its worst step");
    assert_eq!(report(&given).steps.values().filter(|step| step.is_none()).count(), 3);
}

#[test]
fn undo_goes_in_reverse() {
    assert_eq!(told(&defined(spec(&[("a", 0), ("b", 0)], 1)).when(run(Action::Undo))), ["b"]);
    assert_eq!(told(&defined(two()).when(run(Action::Undo))), ["b", "a"]);
}

#[test]
fn a_replica_that_refuses_has_answered() {
    let given = defined(two()).when(run(Action::Failover)).accepted();
    let given = given.from("dr:replica/a").when_input(refused("a")).accepted();
    let given = given.from("dr:replica/b").when(ended("b", Action::Failover, None)).accepted();
    assert_eq!(report(&given).steps[&name("a")].as_ref().unwrap().code, "FS-REPLICA-BUSY");
    let then = given.when(run(Action::Failover));
    assert_eq!(told(&then), ["a", "b"], "run again it goes on with what is left: b answers at once that it is done");
}

#[test]
fn an_answer_counts_once_and_only_from_the_replica_itself() {
    let given = defined(two()).when(run(Action::Failover)).accepted();
    let given = given.from("dr:replica/b").when(ended("a", Action::Failover, None)).rejected("FS-PLAN-STALE");
    let given = given.from("dr:replica/a").when(ended("a", Action::Undo, None)).rejected("FS-PLAN-STALE");
    let given = given.when(ended("a", Action::Failover, None)).accepted();
    given.when(ended("a", Action::Failover, None)).rejected("FS-PLAN-STALE");
}

#[test]
fn definitions_and_overrides_are_checked() {
    let refuse = |spec: PlanSpec, code: &str| {
        given::<PlanActor>(ME, []).when(Command::Define(spec)).rejected(code);
    };
    refuse(spec(&[], 1), "FS-PLAN-EMPTY");
    refuse(spec(&[("a", 0), ("a", 1)], 1), "FS-PLAN-TWICE");
    refuse(spec(&[("a", 0)], 0), "FS-PLAN-CONCURRENCY");
    defined(two()).when(forced(" ", "fire")).rejected("FS-PLAN-OVERRIDE");
    defined(two()).when(forced("ann", "")).rejected("FS-PLAN-OVERRIDE");
    defined(two()).when(forced("ann", "fire")).accepted();
    let forced = Some(Override { by: "ann".into(), reason: "fire".into() });
    let run = Command::Run { action: Action::Undo, point: PointChoice::Newest, forced };
    defined(two()).when(run).rejected("FS-PLAN-OVERRIDE-MISPLACED");
}

#[test]
fn every_pair_of_state_and_input() {
    let inputs = [
        ("define", Input::Command(Command::Define(two()))),
        ("remove", Input::Command(Command::Remove)),
        ("run", Input::Command(run(Action::Failover))),
        ("ended", Input::Command(ended("a", Action::Failover, None))),
        ("refused", refused("a")),
        ("wake", Input::Wake),
    ];
    let table = [
        ("new", ["ok", "UNKNOWN", "UNKNOWN", "STALE", "STALE", "ok"]),
        ("idle", ["ok", "ok", "ok", "STALE", "STALE", "ok"]),
        ("running", ["RUNNING", "RUNNING", "RUNNING", "ok", "ok", "ok"]),
    ];
    for (state, row) in table {
        for ((input, body), want) in inputs.iter().zip(row) {
            let given = match state {
                "new" => given::<PlanActor>(ME, []),
                "idle" => defined(two()),
                _ => defined(two()).when(run(Action::Failover)).accepted(),
            };
            let got = given.from("dr:replica/a").when_input(body.clone()).outcome().replace("FS-PLAN-", "");
            assert_eq!(got, want, "{state} x {input}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_run_always_ends_and_keeps_to_its_cap(
        delays in prop::collection::vec(0u64..100, 1..8), cap in 1u32..4, picks in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 20)
    ) {
        let names: Vec<String> = (0..delays.len()).map(|n| format!("r{n}")).collect();
        let steps: Vec<(&str, u64)> = names.iter().map(String::as_str).zip(delays).collect();
        let mut given = defined(spec(&steps, cap)).when(run(Action::Switch)).accepted();
        for (pick, fails) in picks {
            let State::Running { run, .. } = &given.state else { break };
            prop_assert!(run.under_way.len() <= cap as usize);
            let under_way: Vec<Name> = run.under_way.iter().cloned().collect();
            let input = match (PlanActor::next_wake(&given.state), under_way.is_empty()) {
                (Some(at), true) => {
                    given.context.now = given.context.now.max(at);
                    Input::Wake
                }
                (_, true) => { prop_assert!(false, "nothing under way and no wake: it hangs"); break }
                (_, false) => {
                    let replica = pick.get(&under_way).clone();
                    given.context.from = address(&format!("dr:replica/{replica}"));
                    Input::Command(ended(replica.as_str(), Action::Switch, fails.then(failure)))
                }
            };
            let decision = step::<PlanActor>(&mut given.state, &input, &given.context).unwrap();
            prop_assert!(!decision.is_empty());
        }
        let over = matches!(given.state, State::Idle { last: Some(_), .. });
        prop_assert!(over);
    }
}
