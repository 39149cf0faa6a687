//! When a job is due, computed from its schedule and from the last slot that was dealt with. Slots are local times: each
//! has an id (local date, ordinal). A local time that is skipped when clocks go forward counts at the instant at which
//! they do; one that comes twice counts the first time. Time zone data is jiff's bundled one, whatever the machine has.

use farshore_schemas::messages::job::{Schedule, SlotId};
use farshore_schemas::units::{Millis, Timestamp};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, ToSpan};
use std::sync::LazyLock;

const DAY: u64 = 24 * 60 * 60 * 1_000;

static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// The zone of this name in the bundled data.
pub(crate) fn zone(name: &str) -> Option<TimeZone> {
    ZONES.get(name).ok()
}

/// A slot with the instant at which it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) id: SlotId,
    pub(crate) at: Timestamp,
}

/// The slots that are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// The newest.
    pub(crate) slot: Slot,
    /// How many were due before it. Slots that fall on one instant in a gap count one by one on days that are whole.
    pub(crate) missed: u64,
}

/// A schedule's grid: the same local times every day.
struct Grid {
    zone: TimeZone,
    first: u64,
    every: u64,
}

impl Grid {
    fn of(schedule: &Schedule) -> Option<Grid> {
        match schedule {
            Schedule::Manual => None,
            Schedule::Periodic { every, zone: name } => {
                Some(Grid { zone: zone(name)?, first: 0, every: every.0.clamp(1, DAY) })
            }
            Schedule::Daily { minute, zone: name } => {
                Some(Grid { zone: zone(name)?, first: u64::from(*minute).min(1439) * 60_000, every: DAY })
            }
        }
    }

    fn per_day(&self) -> u64 {
        (DAY - self.first).div_ceil(self.every)
    }

    /// Slot `ordinal` of a date; none past the end of the calendar.
    fn slot(&self, date: Date, ordinal: u64) -> Option<Slot> {
        let millis = i64::try_from(self.first + ordinal * self.every).ok()?;
        let local = date.to_datetime(Time::midnight()).checked_add(SignedDuration::from_millis(millis)).ok()?;
        let at = instant(&self.zone, local)?;
        let id = SlotId { date: date.to_string(), ordinal: u32::try_from(ordinal).ok()? };
        Some(Slot { id, at: Timestamp(at.as_millisecond()) })
    }

    fn date_of(&self, at: Timestamp) -> Option<Date> {
        let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
        Some(self.zone.to_datetime(at).date())
    }

    /// How many slots of a date count at or before an instant. Instants never fall along a day, so this is a search.
    fn through(&self, date: Date, at: Timestamp) -> u64 {
        let (mut low, mut high) = (0, self.per_day());
        while low < high {
            let middle = low + (high - low) / 2;
            match self.slot(date, middle) {
                Some(slot) if slot.at <= at => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        low
    }
}

/// The instant of a local time: the first of two, and for one that is skipped the instant at which clocks go forward.
fn instant(zone: &TimeZone, local: DateTime) -> Option<jiff::Timestamp> {
    match zone.to_ambiguous_timestamp(local).offset() {
        AmbiguousOffset::Unambiguous { offset } => offset.to_timestamp(local).ok(),
        AmbiguousOffset::Fold { before, .. } => before.to_timestamp(local).ok(),
        AmbiguousOffset::Gap { before, .. } => {
            let inside = before.to_timestamp(local).ok()?.checked_add(1.second()).ok()?;
            zone.preceding(inside).next().map(|transition| transition.timestamp())
        }
    }
}

/// The first slot that counts after `cursor`.
pub(crate) fn next(schedule: &Schedule, cursor: Timestamp) -> Option<Slot> {
    let grid = Grid::of(schedule)?;
    let mut date = grid.date_of(cursor)?.yesterday().ok()?;
    // The day before (its last slots may count today), today, tomorrow, and one for a day that a zone leaves out.
    for _ in 0..4 {
        let ordinal = grid.through(date, cursor);
        if ordinal < grid.per_day() {
            return grid.slot(date, ordinal);
        }
        date = date.tomorrow().ok()?;
    }
    None
}

/// What became due after `cursor` and not after `now`.
pub(crate) fn due(schedule: &Schedule, cursor: Timestamp, now: Timestamp) -> Option<Due> {
    let grid = Grid::of(schedule)?;
    let first = next(schedule, cursor).filter(|slot| slot.at <= now)?;
    let mut date = grid.date_of(now)?;
    for _ in 0..4 {
        let through = grid.through(date, now);
        if through > 0 {
            let slot = grid.slot(date, through - 1)?;
            let missed = distance(&grid, &first.id, date, through - 1);
            return Some(Due { slot, missed });
        }
        date = date.yesterday().ok()?;
    }
    None
}

/// Slots from `first` to slot `ordinal` of `date`, that one left out.
fn distance(grid: &Grid, first: &SlotId, date: Date, ordinal: u64) -> u64 {
    let days = first.date.parse::<Date>().ok().and_then(|from| date.since(from).ok()).map_or(0, |span| span.get_days());
    let days = u64::try_from(days).unwrap_or(0);
    (days * grid.per_day() + ordinal).saturating_sub(u64::from(first.ordinal))
}

/// The span that a periodic schedule may have.
pub(crate) const EVERY: std::ops::RangeInclusive<u64> = Millis::from_mins(1).0..=DAY;
