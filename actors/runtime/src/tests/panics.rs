//! A panic in a decider stops its actor, which is folded anew from the log; the second one poisons the message.

use super::*;
use crate::handle::Answer;
use farshore_kernel::draft::{Draft, Receipt};
use farshore_kernel::entity::{Memory, Surroundings};
use farshore_schemas::codec::CodecError;
use farshore_schemas::envelope::Mark;
use farshore_schemas::frame::EventsSection;
use farshore_schemas::messages::Refusal;
use std::sync::atomic::AtomicU32;

/// A broker that panics so many times in `decide`, and in `apply` after its events.
struct Flaky {
    inner: Box<dyn Entity>,
    decides: Arc<AtomicU32>,
    applies: Arc<AtomicU32>,
}

fn maybe_panic(left: &AtomicU32) {
    if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
        panic!("on purpose");
    }
}

impl Entity for Flaky {
    fn id(&self) -> &EntityId {
        self.inner.id()
    }
    fn decide(&self, envelope: &Envelope, around: &Surroundings) -> Receipt {
        if envelope.channel.site != hq() {
            maybe_panic(&self.decides);
        }
        self.inner.decide(envelope, around)
    }
    fn wake(&self, around: &Surroundings) -> Receipt {
        self.inner.wake(around)
    }
    fn resume(&self, around: &Surroundings) -> Receipt {
        self.inner.resume(around)
    }
    fn poison(&self, envelope: &Envelope, panic: &str, around: &Surroundings) -> Receipt {
        self.inner.poison(envelope, panic, around)
    }
    fn refuse(&self, envelope: &Envelope, refusal: Refusal, around: &Surroundings) -> Receipt {
        self.inner.refuse(envelope, refusal, around)
    }
    fn apply(&mut self, draft: &Draft) -> Result<(), CodecError> {
        self.inner.apply(draft)?;
        if draft.mark.as_ref().is_some_and(|(channel, _)| channel.site != hq()) {
            maybe_panic(&self.applies);
        }
        Ok(())
    }
    fn fold(&mut self, section: &EventsSection) -> Result<(), CodecError> {
        self.inner.fold(section)
    }
    fn next_wake(&self) -> Option<Timestamp> {
        self.inner.next_wake()
    }
    fn memory(&self) -> Memory {
        self.inner.memory()
    }
    fn mark(&self, channel: &Channel) -> Option<Mark> {
        self.inner.mark(channel)
    }
    fn load(&mut self, memory: &Memory) -> Result<(), CodecError> {
        self.inner.load(memory)
    }
}

async fn rig(decides: u32, applies: u32) -> Rig {
    let place = move || {
        let inner = new_entity(&"broker/broker".parse().unwrap()).unwrap();
        let flaky = Flaky { inner, decides: Arc::new(decides.into()), applies: Arc::new(applies.into()) };
        vec![Box::new(flaky) as Box<dyn Entity>]
    };
    Rig::with(TestLog::default(), place, || Box::new(NoView)).await.with_mover().await
}

/// Three messages; says how many were poisoned, and that the site in memory is what its frames say.
async fn three_messages(rig: Rig, panics: u64) -> usize {
    let mut acks = rig.acks().await;
    (1..=3).for_each(|number| rig.say(&ask(number)));
    while acked(&mut acks).await < 3 {}
    let status = rig.handle.status().await.unwrap();
    assert_eq!(status.counters.panics, panics);
    assert_eq!(status.counters.gaps, 0, "what came meanwhile kept its order");
    assert!(status.alarms.iter().any(|alarm| alarm.starts_with("FS-RUNTIME-PANIC")), "{status:?}");
    let define = rig.handle.command(&"mover/m1".parse().unwrap(), define(), "ops", None).await;
    assert!(matches!(define, Ok(Answer::Accepted { .. })), "others flow");
    let last = rig.handle.shutdown().await.unwrap();
    assert_eq!(rig.log.fold(last.seq).state_hash(), last.state);
    status.alarms.iter().filter(|alarm| alarm.starts_with("FS-RUNTIME-POISONED")).count()
}

#[tokio::test]
async fn one_panic_in_a_decision_is_survived() {
    assert_eq!(three_messages(rig(1, 0).await, 1).await, 0);
}

#[tokio::test]
async fn one_panic_while_folding_is_survived() {
    assert_eq!(three_messages(rig(0, 1).await, 1).await, 0);
}

#[tokio::test]
async fn two_panics_in_a_decision_poison_the_message() {
    assert_eq!(three_messages(rig(2, 0).await, 2).await, 1);
}

#[tokio::test]
async fn two_panics_while_folding_poison_the_message() {
    assert_eq!(three_messages(rig(0, 2).await, 2).await, 1);
}
