//! `farshore repo hold` and `release`: an operator keeps a point from retention, by a decision in the site's log.

use crate::cli::{HeldPoint, RepoHoldArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{say, time};
use farshore_schemas::ids::{Kind, PointId};
use farshore_schemas::messages::Message;
use farshore_schemas::messages::repository::Command;
use farshore_schemas::units::Timestamp;

/// Reads a date, or an instant with its offset.
pub(crate) fn parse_until(text: &str) -> Result<Timestamp, String> {
    let instant = text.parse::<jiff::Timestamp>().ok();
    let midnight = |date: jiff::civil::Date| date.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp());
    let instant = instant.or_else(|| text.parse::<jiff::civil::Date>().ok().and_then(midnight));
    let instant = instant.ok_or("it is a date such as 2026-12-31, or an instant such as 2026-12-31T18:00:00+01:00")?;
    Ok(Timestamp(instant.as_millisecond()))
}

/// Holds a point.
pub(super) fn hold(args: &RepoHoldArgs) -> Result<(), Failure> {
    let point = PointId(args.held.point.clone());
    send(&args.held, Command::Hold { point, until: args.until, reason: args.reason.clone() })?;
    let until =
        args.until.map_or_else(|| "until it is released".to_owned(), |until| format!("until {}", time(until.0)));
    say(&format!("point {} of {} is held {until}", args.held.point, args.held.repository));
    Ok(())
}

/// Lets a point go.
pub(super) fn release(held: &HeldPoint) -> Result<(), Failure> {
    send(held, Command::Release { point: PointId(held.point.clone()) })?;
    say(&format!("point {} of {} is let go: retention may forget it with its next look", held.point, held.repository));
    Ok(())
}

fn send(held: &HeldPoint, command: Command) -> Result<(), Failure> {
    Client::of(&held.data)?.command(Kind::Repository, &held.repository, &Message::Repository(command)).map(drop)
}
