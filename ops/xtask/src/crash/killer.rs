//! Kills processes at random moments and starts them again at once: one after the other in turn, and now and then all
//! together. Between the death of a control and its next life it looks up what that one had acknowledged.

use super::Wrong;
use super::choices::Choices;
use super::finding::{count, read};
use super::world::{World, lock};
use std::time::Duration;

/// Acknowledged decisions that are looked up after each kill; all of them are at the end.
const SAMPLE: usize = 40;

/// Kills until so many processes were killed.
pub(crate) fn kill(world: &World, kills: u64, choices: &mut Choices) -> Result<(), Wrong> {
    let count_of = lock(&world.rig).count();
    let mut turn = 0;
    while read(&world.findings.kills) < kills && !world.enough() {
        // Most delays let something get under way; a fifth strike while processes are still starting.
        let delay = if choices.percent(20) { choices.millis(5..100) } else { choices.millis(100..1_500) };
        std::thread::sleep(delay);
        turn = (turn + 1) % (count_of + 1);
        let victims: Vec<usize> = if turn == count_of { (0..count_of).collect() } else { vec![turn] };
        strike(world, &victims)?;
    }
    Ok(())
}

fn strike(world: &World, victims: &[usize]) -> Result<(), Wrong> {
    let mut rig = lock(&world.rig);
    // A process that an operator's loss took away is not there to be killed, and not ours to start.
    let victims: Vec<usize> = victims.iter().copied().filter(|&index| rig.runs(index)).collect();
    for died in rig.kill(&victims) {
        world.findings.violation(&died);
    }
    for &index in &victims {
        count(&world.findings.kills);
        if let Some(site) = rig.logs_for(index) {
            let api = if site == 0 { &world.hq } else { &world.dr };
            for lost in api.missing(SAMPLE)? {
                world.findings.violation(&lost);
            }
        }
    }
    for index in victims {
        rig.start(index)?;
        count(&world.findings.restarts);
    }
    Ok(())
}

/// Looks for processes that end by themselves, until told to stop.
pub(crate) fn watch(world: &World, stopped: &dyn Fn() -> bool) {
    while !stopped() {
        let died = lock(&world.rig).died();
        died.iter().for_each(|died| world.findings.violation(died));
        std::thread::sleep(Duration::from_millis(100));
    }
}
