//! The rule of retention, by example and by property.

use super::keep::{Rule, kept};
use farshore_schemas::messages::keep::Keep;
use farshore_schemas::units::Timestamp;
use proptest::prelude::*;

const DAY: i64 = 24 * 60 * 60 * 1_000;

fn at(text: &str) -> Timestamp {
    Timestamp(text.parse::<jiff::Timestamp>().unwrap().as_millisecond())
}

/// No rule at all.
fn nothing() -> Keep {
    Keep { points: None, zone: "Europe/Vienna".to_owned(), ..Keep::newest(1) }
}

/// One letter per point: what keeps it.
fn letters(taken: &[&str], keep: &Keep, now: &str) -> String {
    let taken: Vec<Timestamp> = taken.iter().map(|taken| at(taken)).collect();
    let letter = |rule: Option<Rule>| match rule {
        None => '-',
        Some(Rule::Points) => 'P',
        Some(Rule::Least) => 'L',
        Some(Rule::Days) => 'D',
        Some(Rule::Weekly) => 'W',
        Some(Rule::Monthly) => 'M',
        Some(Rule::Yearly) => 'Y',
    };
    kept(&taken, keep, at(now)).into_iter().map(letter).collect()
}

/// Noon of these days of November 2026.
fn days(days: impl IntoIterator<Item = u32>) -> Vec<String> {
    days.into_iter().map(|day| format!("2026-11-{day:02}T12:00:00Z")).collect()
}

fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

#[test]
fn the_newest_stay_by_the_order_in_which_they_were_made() {
    let jumped = ["2026-11-01T00:00:00Z", "2099-01-01T00:00:00Z", "2026-11-02T00:00:00Z", "2026-11-03T00:00:00Z"];
    assert_eq!(letters(&jumped, &Keep::newest(2), "2026-11-03T00:00:00Z"), "--PP");
    assert_eq!(letters(&jumped, &Keep::newest(0), "2026-11-03T00:00:00Z"), "---P", "one point always stays");
    assert_eq!(letters(&jumped, &nothing(), "2026-11-03T00:00:00Z"), "---P");
}

#[test]
fn by_days_todays_points_are_not_counted_among_the_days() {
    let taken = days(1..=10);
    let keep = Keep { days: Some(4), ..nothing() };
    assert_eq!(letters(&borrowed(&taken), &keep, "2026-11-10T20:00:00Z"), "-----DDLLP");
}

#[test]
fn by_days_three_points_stay_of_a_vm_that_is_backed_up_no_more() {
    let taken = days(1..=5);
    let keep = Keep { days: Some(2), ..nothing() };
    assert_eq!(letters(&borrowed(&taken), &keep, "2027-06-01T00:00:00Z"), "--LLP");
}

#[test]
fn a_day_is_as_long_as_it_is_in_its_zone() {
    // Clocks went back on the 25th, which had 25 hours in Vienna: its last point is more than a day after its first.
    let taken = ["2026-10-24T21:59:00Z", "2026-10-24T22:00:00Z", "2026-10-25T22:59:00Z"];
    let five = ["2026-10-26T10:00:00Z", "2026-10-26T11:00:00Z", "2026-10-26T12:00:00Z"];
    let all = [&taken[..], &five[..]].concat();
    let keep = Keep { days: Some(1), ..nothing() };
    assert_eq!(letters(&all, &keep, "2026-10-26T12:00:00Z"), "-DDLLP");
    assert_eq!(letters(&all, &Keep { zone: "UTC".to_owned(), ..keep }, "2026-10-26T12:00:00Z"), "--DLLP");
}

#[test]
fn weekly_the_first_point_of_a_week_stays_and_weeks_begin_on_monday() {
    // The 2nd, 9th and 16th are Mondays; nothing was made on the 9th and 10th.
    let taken = days([1, 2, 3, 8, 11, 12, 16, 17, 18]);
    let keep = Keep { weekly: Some(2), ..nothing() };
    assert_eq!(letters(&borrowed(&taken), &keep, "2026-11-18T13:00:00Z"), "----W-W-P");
    let keep = Keep { weekly: Some(4), ..nothing() };
    assert_eq!(letters(&borrowed(&taken), &keep, "2026-11-18T13:00:00Z"), "WW--W-W-P");
}

#[test]
fn a_week_of_two_years_is_one_week() {
    let taken = ["2026-12-28T12:00:00Z", "2027-01-01T12:00:00Z", "2027-01-03T12:00:00Z", "2027-01-04T12:00:00Z"];
    let keep = Keep { weekly: Some(9), ..nothing() };
    assert_eq!(letters(&taken, &keep, "2027-01-04T13:00:00Z"), "W--P");
}

#[test]
fn months_and_years_begin_at_midnight_of_the_zone() {
    let taken = ["2026-12-31T22:30:00Z", "2026-12-31T23:30:00Z", "2027-01-15T00:00:00Z", "2027-02-01T00:00:00Z"];
    let keep = Keep { monthly: Some(2), ..nothing() };
    assert_eq!(letters(&taken, &keep, "2027-02-02T00:00:00Z"), "-M-P", "the second is of January in Vienna");
    let keep = Keep { yearly: Some(2), ..nothing() };
    assert_eq!(letters(&taken, &keep, "2027-02-02T00:00:00Z"), "YY-P");
}

#[test]
fn periods_without_a_point_are_not_counted() {
    let taken = ["2020-05-01T00:00:00Z", "2023-05-01T00:00:00Z", "2023-06-01T00:00:00Z", "2023-07-01T00:00:00Z"];
    let keep = Keep { yearly: Some(2), ..nothing() };
    assert_eq!(letters(&taken, &keep, "2026-11-22T00:00:00Z"), "YY-P");
}

#[test]
fn what_is_dated_later_than_now_takes_no_other_points_place() {
    let taken = ["2026-11-02T12:00:00Z", "2099-01-01T00:00:00Z", "2026-11-09T12:00:00Z", "2026-11-10T12:00:00Z"];
    let keep = Keep { weekly: Some(2), ..nothing() };
    assert_eq!(letters(&taken, &keep, "2026-11-10T13:00:00Z"), "WWWP");
}

fn points() -> impl Strategy<Value = Vec<Timestamp>> {
    // Mostly in order over some years, with clocks that jump.
    proptest::collection::vec((0..40 * DAY, prop_oneof![9 => Just(0), 1 => -4_000 * DAY..40_000 * DAY]), 0..40)
        .prop_map(|steps| {
            let mut now = at("2024-01-01T00:00:00Z").0;
            steps
                .into_iter()
                .map(|(step, jump)| {
                    now += step;
                    Timestamp(now + jump)
                })
                .collect()
        })
}

fn rule() -> impl Strategy<Value = Option<u32>> {
    proptest::option::of(1u32..9)
}

fn keeps() -> impl Strategy<Value = Keep> {
    let zones = prop_oneof![Just("UTC"), Just("Europe/Vienna"), Just("Pacific/Apia"), Just("America/Santiago")];
    (rule(), rule(), rule(), rule(), rule(), zones).prop_map(|(points, days, weekly, monthly, yearly, zone)| Keep {
        points,
        days,
        weekly,
        monthly,
        yearly,
        zone: zone.to_owned(),
    })
}

/// Any time that a clock may show.
fn clock() -> impl Strategy<Value = Timestamp> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), -DAY..4_000_000_000_000].prop_map(Timestamp)
}

fn staying(taken: &[Timestamp], keep: &Keep, now: Timestamp) -> Vec<bool> {
    kept(taken, keep, now).iter().map(Option::is_some).collect()
}

/// Everything of the first stays in the second.
fn within(less: &[bool], more: &[bool]) -> bool {
    less.iter().zip(more).all(|(less, more)| !less || *more)
}

proptest! {
    /// Whatever the clock shows: the newest stay as they are counted, and by days three of them.
    #[test]
    fn no_clock_takes_the_newest(taken in points(), keep in keeps(), now in clock()) {
        let least = if keep.days.is_some() { 3 } else { 1 };
        let count = keep.points.unwrap_or(1).max(least) as usize;
        let stays = staying(&taken, &keep, now);
        prop_assert!(stays.iter().rev().take(count).all(|stays| *stays));
    }

    /// One rule more, or a greater number, never forgets more.
    #[test]
    fn more_rules_forget_no_more(taken in points(), keep in keeps(), more in keeps(), now in clock()) {
        let most = |a: Option<u32>, b: Option<u32>| a.max(b);
        let both = Keep {
            points: most(keep.points, more.points),
            days: most(keep.days, more.days),
            weekly: most(keep.weekly, more.weekly),
            monthly: most(keep.monthly, more.monthly),
            yearly: most(keep.yearly, more.yearly),
            zone: keep.zone.clone(),
        };
        prop_assert!(within(&staying(&taken, &keep, now), &staying(&taken, &both, now)));
    }

    /// A clock that is set back forgets no more than it would have.
    #[test]
    fn an_earlier_clock_forgets_no_more(taken in points(), keep in keeps(), a in clock(), b in clock()) {
        prop_assert!(within(&staying(&taken, &keep, a.max(b)), &staying(&taken, &keep, a.min(b))));
    }

    /// What went would have gone, and what stays stays, when the same is looked at again.
    #[test]
    fn looking_again_forgets_no_more(taken in points(), keep in keeps(), now in clock()) {
        let stays = staying(&taken, &keep, now);
        let left: Vec<Timestamp> = taken.iter().zip(&stays).filter(|(_, stays)| **stays).map(|(taken, _)| *taken).collect();
        prop_assert!(staying(&left, &keep, now).iter().all(|stays| *stays));
    }
}
