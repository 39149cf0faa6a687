//! How a message comes out that is not simply decided, and who is told.

use super::*;
use crate::draft::Receipt;
use farshore_schemas::codec;
use farshore_schemas::frame::{Input, Verdict};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::messages::{Refusal, Refused, job};
use farshore_schemas::units::Millis;

/// What a frame sends, without numbers.
fn sends(step: &Step) -> Vec<(String, Message)> {
    match step {
        Step::Append { draft, .. } => draft.sends.iter().map(|s| (s.to.to_string(), s.body.clone())).collect(),
        Step::Idle | Step::Ack { .. } | Step::Fork { .. } | Step::NoActor => panic!("no frame came of it: {step:?}"),
    }
}

fn refusal_sent(step: &Step) -> String {
    match sends(step).as_slice() {
        [(to, Message::Refused(refused))] => format!("{to} {}", refused.refusal.code),
        other => panic!("not one refusal: {other:?}"),
    }
}

#[test]
fn what_comes_after_its_time_is_recorded_and_its_sender_told() {
    let mut hq = Live::with_mover("hq", 1);
    let late = Envelope { expires: Some(Timestamp(hq.now.0 - 1)), ..ask(1) };
    let step = hq.deliver(&late);
    assert_eq!(verdict(&step), &Verdict::Expired);
    assert_eq!(refusal_sent(&step), "dr:session/s1 FS-KERNEL-EXPIRED");
    let in_time = Envelope { expires: Some(hq.now), ..ask(2) };
    assert_eq!(verdict(&hq.deliver(&in_time)), &Verdict::Accepted, "the channel moved on");
}

#[test]
fn a_message_for_another_kind_is_unsupported() {
    let mut hq = Live::with_mover("hq", 1);
    let step = hq.deliver(&Envelope { body: Some(Message::Job(job::Command::Run)), ..ask(1) });
    assert_eq!(verdict(&step), &Verdict::Unsupported);
    assert_eq!(refusal_sent(&step), "dr:session/s1 FS-KERNEL-UNSUPPORTED");
}

#[test]
fn a_rejection_goes_back_to_an_actor_but_not_to_an_agent_or_the_api() {
    let mut hq = Live::new("hq", 1);
    let from_actor = Envelope { to: address("hq:mover/m1"), body: Some(hello("hq")), ..ask(1) };
    assert!(refusal_sent(&hq.deliver(&from_actor)).starts_with("dr:session/s1 FS-MOVER-"));
    let step = hq.deliver(&agent_says("hq:agent/other", "hq:mover/m1", 1, hello("hq")));
    assert!(matches!(verdict(&step), Verdict::Rejected(_)));
    assert_eq!(sends(&step), []);
    let step = hq.api("api/operator", "hq:mover/m1", Message::Mover(mover::Command::Remove));
    assert!(matches!(verdict(&step), Verdict::Rejected(_)));
    assert_eq!(sends(&step), []);
}

#[test]
fn a_refusal_is_never_answered() {
    let mut hq = Live::with_mover("hq", 1);
    let refusal = Refusal { code: "FS-X".into(), message: "no".into(), advice: "none".into() };
    let refused = Refused { by: address("dr:session/s1"), message: request("never-asked"), refusal };
    let step = hq.deliver(&Envelope { body: Some(Message::Refused(Box::new(refused))), ..ask(1) });
    assert!(matches!(verdict(&step), Verdict::Rejected(_)), "the broker expected no such refusal");
    assert_eq!(sends(&step), []);
}

#[test]
fn a_poisoned_message_moves_its_channel_and_changes_nothing_else() {
    let mut hq = Live::with_mover("hq", 1);
    let around = hq.site.around(hq.now);
    let entity = hq.site.entity(&address("hq:broker/broker").entity).unwrap();
    let state = entity.memory().state;
    let Receipt::Decided(draft) = entity.poison(&ask(1), &"x".repeat(10_000), &around) else { panic!("a draft") };
    assert_eq!(draft.verdict, Verdict::Poisoned);
    assert!(matches!(&draft.input, Input::Poisoned { panic, .. } if panic.len() == 500));
    let prepared = hq.site.sequencer.prepare(&draft).unwrap();
    hq.site.entity_mut(&draft.actor).unwrap().apply(&draft).unwrap();
    let stamped = hq.site.sequencer.stamp(prepared, None);
    hq.frames.push((stamped.bytes, stamped.hash));
    assert_eq!(hq.site.entity(&draft.actor).unwrap().memory().state, state);
    assert_eq!(acked(&hq.deliver(&ask(1))), Some(1));
    assert_eq!(verdict(&hq.deliver(&ask(2))), &Verdict::Accepted);
    hq.folds_and_redecides(lineage(1));
}

#[test]
fn a_decision_that_does_not_fit_a_frame_is_recorded_as_a_refusal() {
    let mut hq = Live::with_mover("hq", 1);
    let mut spec = job_spec();
    let job::Work::Backup { vms, .. } = &mut spec.work else { panic!("a backup") };
    *vms = (0..12_000).map(|at| format!("a-virtual-machine-with-a-name-{at}").parse().unwrap()).collect();
    let step = hq.api("api/operator", "hq:job/wide", Message::Job(job::Command::Define(spec)));
    let Verdict::Rejected(refusal) = verdict(&step) else { panic!("{step:?}") };
    assert_eq!(refusal.code, "FS-KERNEL-TOO-LARGE");
    assert!(hq.frames.last().unwrap().0.len() < farshore_schemas::frame::MAX_FRAME);
    let step = hq.api("api/operator", "hq:job/wide", Message::Job(job::Command::Define(job_spec())));
    assert_eq!(verdict(&step), &Verdict::Accepted);
    hq.folds_and_redecides(lineage(1));
}

fn job_spec() -> job::JobSpec {
    job::JobSpec {
        work: job::Work::Backup {
            host: "h".parse().unwrap(),
            vms: vec!["web".parse().unwrap()],
            repository: "r".parse().unwrap(),
        },
        schedule: job::Schedule::Manual,
        retry: job::Retry { attempts: 0, wait: Millis(0) },
        keep: Keep::newest(7),
    }
}

#[test]
fn a_wake_that_is_not_due_gives_nothing_and_one_that_is_due_is_recorded() {
    let mut hq = Live::new("hq", 1);
    let spec = job::JobSpec {
        schedule: job::Schedule::Periodic { every: Millis::from_mins(60), zone: "UTC".to_owned() },
        ..job_spec()
    };
    hq.api("api/operator", "hq:job/hourly", Message::Job(job::Command::Define(spec)));
    let id = address("hq:job/hourly").entity;
    assert_eq!(hq.site.wake(&id, hq.now), Step::Idle);
    hq.now = hq.site.entity(&id).unwrap().next_wake().unwrap();
    let step = hq.site.wake(&id, hq.now);
    hq.keep(&step);
    assert_eq!(verdict(&step), &Verdict::Accepted);
    assert!(hq.site.entity(&id).unwrap().next_wake().is_none_or(|next| next > hq.now));
    hq.folds_and_redecides(lineage(1));
}

#[test]
fn equal_memories_have_equal_bytes() {
    let (one, two) = (Live::with_mover("hq", 1), Live::with_mover("hq", 1));
    let memories = |live: &Live| live.site.entities().map(|e| codec::encode(&e.memory())).collect::<Vec<_>>();
    assert_eq!(memories(&one), memories(&two));
    assert_eq!(one.frames, two.frames);
}
