//! The rule of retention: which points of one VM and job stay. Pure, and one for all: the repository actor, `farshore repo
//! prune` and the simulation ask it.
//!
//! A point stays if any rule keeps it, so that one rule more never forgets more. The newest stay by the order in which they
//! were made, whatever their dates say. By days those of today and of the days before stay, and never fewer than three points
//! (field.md 1.7). Weekly, monthly and yearly the first point of a period stands for it (every point is a full; where a period
//! began without one, the first that came), and it is periods with a point that are counted back from now: a VM that is
//! backed up no more keeps what it has. What is dated later than now stays by days, and stands for its period without being
//! counted, so that a clock that is set back costs nothing. Days, weeks (ISO 8601), months and years begin at midnight of the
//! rule's zone, by calendar dates, whatever clocks do in between.

use crate::job::schedule::zone;
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::units::Timestamp;
use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use std::collections::BTreeMap;

/// Retention by days leaves at least so many points.
pub const LEAST: u32 = 3;

/// The week, month or year of a date, as a number that grows.
type Period = fn(Date) -> i32;

/// What keeps a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// It is one of the newest.
    Points,
    /// Retention by days leaves it as one of the last three.
    Least,
    /// It is not old enough.
    Days,
    /// It is the first of its week.
    Weekly,
    /// It is the first of its month.
    Monthly,
    /// It is the first of its year.
    Yearly,
}

/// For each point of a VM and job, oldest first in the order in which they were made and by when they were taken: the first
/// rule that keeps it; none for one that goes. A zone that nobody knows counts as UTC.
pub fn kept(taken: &[Timestamp], keep: &Keep, now: Timestamp) -> Vec<Option<Rule>> {
    let zone = zone(&keep.zone).unwrap_or(TimeZone::UTC);
    let dates: Vec<Date> = taken.iter().map(|taken| date(&zone, *taken)).collect();
    let today = date(&zone, now);
    let mut stays = vec![None; taken.len()];
    newest(&mut stays, keep.points.unwrap_or(1).max(1), Rule::Points);
    if let Some(days) = keep.days {
        newest(&mut stays, LEAST, Rule::Least);
        by_days(&mut stays, &dates, (days, today));
    }
    let grandfathers = [
        (keep.weekly, Rule::Weekly, week as Period),
        (keep.monthly, Rule::Monthly, month),
        (keep.yearly, Rule::Yearly, year),
    ];
    for (count, rule, period) in grandfathers {
        let Some(count) = count else { continue };
        for point in firsts((taken, &dates), period, (count, today)) {
            stays[point].get_or_insert(rule);
        }
    }
    stays
}

/// Whether it names a time zone.
pub fn is_zone(name: &str) -> bool {
    zone(name).is_some()
}

fn newest(stays: &mut [Option<Rule>], count: u32, rule: Rule) {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    for stays in stays.iter_mut().rev().take(count) {
        stays.get_or_insert(rule);
    }
}

fn by_days(stays: &mut [Option<Rule>], dates: &[Date], (days, today): (u32, Date)) {
    let first = today.checked_sub(i64::from(days).days()).unwrap_or(Date::MIN);
    for (stays, _) in stays.iter_mut().zip(dates).filter(|(_, date)| **date >= first) {
        stays.get_or_insert(Rule::Days);
    }
}

/// The first points of the newest `count` periods that have one, and of each period later than today's.
fn firsts(
    (taken, dates): (&[Timestamp], &[Date]),
    period: Period,
    (count, today): (u32, Date),
) -> impl Iterator<Item = usize> {
    let mut first: BTreeMap<i32, usize> = BTreeMap::new();
    for (point, date) in dates.iter().enumerate() {
        let earliest = first.entry(period(*date)).or_insert(point);
        if taken[point] < taken[*earliest] {
            *earliest = point;
        }
    }
    let later = first.split_off(&(period(today) + 1));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    first.into_values().rev().take(count).chain(later.into_values())
}

/// An instant's date in a zone; one outside the calendar is at its end.
fn date(zone: &TimeZone, at: Timestamp) -> Date {
    let end = if at.0 < 0 { jiff::Timestamp::MIN } else { jiff::Timestamp::MAX };
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(end);
    zone.to_datetime(at).date()
}

fn week(date: Date) -> i32 {
    let week = date.iso_week_date();
    i32::from(week.year()) * 100 + i32::from(week.week())
}

fn month(date: Date) -> i32 {
    i32::from(date.year()) * 100 + i32::from(date.month())
}

fn year(date: Date) -> i32 {
    i32::from(date.year())
}
