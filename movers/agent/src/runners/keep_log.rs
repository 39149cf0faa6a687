//! Fetches the frames of the site's log that a repository does not hold from the site's control, and keeps them there.

use crate::engine::now;
use crate::link::Link;
use crate::proto::{Hello, LogAnswer, LogAsk, VERSION, Wants};
use crate::repository_client::persist;
use crate::task::{Task, TaskError, TaskResult, failure};
use farshore_repository::{LogKeeper, Repository, Shipped, SiteLog};
use farshore_schemas::frame::Header;
use farshore_schemas::ids::{Name, Seq};
use farshore_schemas::messages::agent::{Endpoint, MissingFrames, Outcome};
use farshore_schemas::units::ByteCount;

/// Begins anew from what is kept whenever the channel breaks.
pub(super) fn run(task: &Task, name: &Name, (source, least): (&Endpoint, Seq)) -> TaskResult<Outcome> {
    let repository = task.shared.repository(name)?;
    persist(task, || fetch(task, &repository, (source, least)))
}

fn fetch(task: &Task, repository: &Repository, (source, least): (&Endpoint, Seq)) -> TaskResult<Outcome> {
    let shared = &task.shared;
    let peer = (source.address.as_str(), source.fingerprint);
    let mut link = Link::connect(&shared.secrets, peer, &shared.metrics, &task.stop)?;
    link.send(&Hello { version: VERSION, wants: Wants::Log { task: task.order.task.clone() } })?;
    let log = match link.receive()? {
        LogAnswer::Log { site, keys, lineages, last } => SiteLog { site, keys, lineages, last },
        LogAnswer::Failed(failure) => return Err(failure.into()),
        LogAnswer::Frames { .. } => return Err(senseless()),
    };
    if log.site != shared.site || log.last < least {
        return Err(senseless());
    }
    let (last, mut fetched) = (log.last, 0);
    let mut keeper = repository.keep_log(log, now())?;
    while let Some((first, until)) = keeper.wanted() {
        link.send(&LogAsk::Frames { first, last: until })?;
        fetched += take(task, &mut link, (&mut keeper, last))?;
        if keeper.wanted().is_some_and(|(next, _)| next == first) {
            return Err(senseless());
        }
    }
    let Shipped { end, missing } = keeper.finish()?;
    let (lineage, seq, hash) = end.filter(|(_, seq, _)| *seq >= least).ok_or_else(senseless)?;
    let missing = MissingFrames::of(missing.iter().map(|gap| (gap.first, gap.last)));
    Ok(Outcome::LogKept { lineage, seq, hash, fetched: ByteCount(fetched), missing })
}

/// Takes the frames that were asked for; how many bytes they are.
fn take(task: &Task, link: &mut Link, (keeper, last): (&mut LogKeeper<'_>, Seq)) -> TaskResult<u64> {
    let mut fetched = 0;
    loop {
        task.go_on()?;
        let bytes = match link.receive()? {
            LogAnswer::Frames { bytes } => bytes,
            LogAnswer::Failed(failure) => return Err(failure.into()),
            LogAnswer::Log { .. } => return Err(senseless()),
        };
        if bytes.is_empty() {
            return Ok(fetched);
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let header = Header::decode(rest).map_err(|_| senseless())?;
            let (frame, others) = rest.split_at_checked(header.frame_len()).ok_or_else(senseless)?;
            keeper.push(frame)?;
            rest = others;
        }
        fetched += bytes.len() as u64;
        let next = keeper.wanted().map_or(last, |(next, _)| next);
        task.progress(next.0, last.0, "keeping the site's log");
    }
}

fn senseless() -> TaskError {
    let message = "the site's control answered something that does not fit when it was asked for its log";
    TaskError::Failed(failure("FS-AGENT-PROTOCOL", message, "bring control and agent to the same version", true))
}
