//! Nothing is answered, acked, sent or shown in the view before it is durable.

use super::*;
use crate::handle::{Answer, NoAnswer};
use crate::ports::{SEQUENCER_KEY, ViewBatch};
use farshore_kernel::entity::Memory;
use farshore_kernel::sequencer::SequencerMemory;
use farshore_schemas::codec;

#[tokio::test]
async fn a_command_is_answered_when_its_frame_is_durable() {
    let rig = Rig::new().await;
    rig.log.hold();
    let handle = rig.handle.clone();
    let task = tokio::spawn(async move { handle.command(&"mover/m1".parse().unwrap(), define(), "ops", None).await });
    rig.log.queued(1).await;
    let status = rig.handle.status().await.unwrap();
    assert!(status.last >= Seq(1) && status.durable == Seq(0));
    assert!(!task.is_finished());
    rig.log.release();
    assert_eq!(task.await.unwrap(), Ok(Answer::Accepted { seq: Seq(1) }));
}

#[tokio::test]
async fn a_rejection_is_an_answer_and_a_frame() {
    let rig = Rig::new().await;
    let remove = Message::Mover(mover::Command::Remove);
    let answer = rig.handle.command(&"mover/m1".parse().unwrap(), remove, "ops", None).await.unwrap();
    assert!(matches!(answer, Answer::Rejected { seq: Seq(1), refusal } if refusal.code == "FS-MOVER-UNKNOWN"));
    assert_eq!(rig.handle.status().await.unwrap().counters.rejections, 1);
    let agent = "agent/m1".parse().unwrap();
    let none = rig.handle.command(&agent, define(), "ops", None).await;
    assert_eq!(none, Err(NoAnswer::NoActor(agent)));
}

#[tokio::test]
async fn a_command_too_large_for_a_frame_is_refused_in_a_frame() {
    let rig = Rig::new().await;
    let Message::Mover(mover::Command::Hello { incarnation, endpoint, cores, .. }) = hello(1).body.unwrap() else {
        panic!("a hello")
    };
    let version = "v".repeat(400 * 1024);
    let wide = Message::Mover(mover::Command::Hello { incarnation, endpoint, version, cores });
    let answer = rig.handle.command(&"mover/m1".parse().unwrap(), wide, "ops", None).await.unwrap();
    assert!(matches!(answer, Answer::Rejected { refusal, .. } if refusal.code == "FS-KERNEL-TOO-LARGE"));
}

#[tokio::test]
async fn a_message_leaves_when_its_frame_is_durable_and_again_until_it_is_acked() {
    let rig = Rig::new().await;
    let mut agent = rig.hear("fs1.hq.agent.m1").await;
    rig.accepted("mover/m1", define()).await;
    rig.log.hold();
    rig.say(&hello(1));
    rig.log.queued(1).await;
    nothing_delivered(&mut agent);
    rig.log.release();
    let welcome = delivered(&mut agent).await;
    assert_eq!(welcome.number, 1);
    rig.clock.forward(10_000);
    assert_eq!(delivered(&mut agent).await, welcome, "its ack was lost");
    let ack = Wire::Ack { channel: welcome.channel.clone(), receiver: welcome.to.clone(), number: 1 };
    send_wire(&rig.bus, &subjects::acks(&hq(), &Sender::Control), &ack).unwrap();
    rig.until(|status| status.waiting.is_empty()).await;
}

struct CheckedView {
    log: TestLog,
    batches: Arc<Mutex<Vec<ViewBatch>>>,
}

impl ViewSink for CheckedView {
    fn apply(&self, batch: ViewBatch) {
        assert!(self.log.frames().last().is_some_and(|frame| frame.seq >= batch.seq), "the batch is durable");
        self.batches.lock().unwrap().push(batch);
    }

    fn flush(&self) {}
}

#[tokio::test]
async fn a_view_batch_is_what_the_log_says_at_its_seq() {
    let (log, batches) = (TestLog::default(), Arc::new(Mutex::new(Vec::new())));
    let view = CheckedView { log: log.clone(), batches: batches.clone() };
    let rig = Rig::with(log, Vec::new, move || Box::new(view)).await.with_mover().await;
    let mut acks = rig.acks().await;
    (1..=200).for_each(|number| rig.say(&ask(number)));
    while acked(&mut acks).await < 200 {}
    let last = rig.handle.shutdown().await.unwrap();
    let batches = batches.lock().unwrap();
    assert_eq!(batches.last().unwrap().seq, last.seq);
    for batch in batches.iter() {
        let folded = rig.log.fold(batch.seq);
        assert_eq!(folded.sequencer.tail(), (batch.seq, batch.hash));
        for (key, value) in &batch.changes {
            if key == SEQUENCER_KEY {
                let memory: SequencerMemory = codec::decode_checked(value).unwrap();
                assert_eq!(memory, folded.sequencer.memory());
            } else {
                let memory: Memory = codec::decode_checked(value).unwrap();
                assert_eq!(memory, folded.entity(&memory.actor).unwrap().memory());
            }
        }
    }
}
