//! How a site ends: asked to, or because its log failed.

use super::*;
use crate::handle::NoAnswer;

#[tokio::test]
async fn a_failed_log_stops_everything() {
    let rig = Rig::new().await.with_mover().await;
    let mut sessions = rig.hear("fs1.dr.session.*").await;
    rig.log.fail();
    rig.say(&ask(1));
    let status = rig.until(|status| status.halted.is_some()).await;
    assert!(status.alarms.iter().any(|alarm| alarm.starts_with("FS-CONTROL-HALTED")), "{status:?}");
    let answer = rig.handle.command(&"mover/m1".parse().unwrap(), define(), "ops", None).await;
    assert!(matches!(answer, Err(NoAnswer::Stopped(_))));
    assert!(rig.handle.shutdown().await.unwrap_err().contains("no space"));
    assert!(sessions.try_next().is_none());
}

#[tokio::test]
async fn a_command_under_way_is_told_that_the_log_failed() {
    let rig = Rig::new().await;
    rig.log.fail();
    let answer = rig.handle.command(&"mover/m1".parse().unwrap(), define(), "ops", None).await;
    assert!(matches!(answer, Err(NoAnswer::Stopped(why)) if why.contains("no space")));
}

#[tokio::test]
async fn a_shutdown_does_not_wait_for_a_log_that_fails_meanwhile() {
    let rig = Rig::new().await;
    rig.log.hold();
    let (one, two) = (rig.handle.clone(), rig.handle.clone());
    let command = tokio::spawn(async move { one.command(&"mover/m1".parse().unwrap(), define(), "ops", None).await });
    rig.log.queued(1).await;
    let shutdown = tokio::spawn(async move { two.shutdown().await });
    rig.log.fail();
    rig.log.release();
    assert!(shutdown.await.unwrap().unwrap_err().contains("no space"));
    assert!(command.await.unwrap().is_err());
}

#[tokio::test]
async fn a_shutdown_says_what_folding_the_frames_gives_also_with_frames_under_way() {
    let rig = Rig::new().await.with_mover().await;
    rig.log.hold();
    let queued = 2;
    let (one, two) = (rig.handle.clone(), rig.handle.clone());
    let command = tokio::spawn(async move { one.command(&"mover/m2".parse().unwrap(), define(), "ops", None).await });
    rig.log.queued(queued).await;
    let shutdown = tokio::spawn(async move { two.shutdown().await });
    rig.log.release();
    let last = shutdown.await.unwrap().unwrap();
    assert!(command.await.unwrap().is_ok(), "what was decided is answered");
    let folded = rig.log.fold(Seq(u64::MAX));
    assert_eq!((folded.sequencer.tail(), folded.state_hash()), ((last.seq, last.frame), last.state));
    assert!(rig.log.closed(), "the log may be opened again");
}

#[tokio::test]
async fn a_site_starts_again_from_its_frames_and_takes_up_its_channels() {
    let rig = Rig::new().await.with_mover().await;
    let mut acks = rig.acks().await;
    rig.say(&ask(1));
    assert_eq!(acked(&mut acks).await, 1);
    let last = rig.handle.shutdown().await.unwrap();
    let again = Rig::with(TestLog::with(rig.log.frames()), Vec::new, || Box::new(NoView)).await;
    let mut acks = again.acks().await;
    let mut sessions = again.hear("fs1.dr.session.*").await;
    again.say(&ask(1));
    assert_eq!(acked(&mut acks).await, 1);
    again.say(&ask(2));
    assert_eq!(acked(&mut acks).await, 2);
    again.clock.forward(10_000);
    assert_eq!(delivered(&mut sessions).await.number, 1, "what was not acked is sent again");
    assert!(again.handle.status().await.unwrap().last > last.seq);
}
