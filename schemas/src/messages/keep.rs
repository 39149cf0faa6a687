//! What retention keeps, as an operator says it. How it is counted is `actors/core/src/repository/keep.rs`.

use serde::{Deserialize, Serialize};

/// Which points of a VM and job stay: those that any of the rules keeps. Without any rule the newest stays.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Keep {
    /// The newest so many.
    pub points: Option<u32>,
    /// Those of today and of so many days before.
    pub days: Option<u32>,
    /// The first of each of so many weeks (ISO 8601: they begin on Monday).
    pub weekly: Option<u32>,
    /// The first of each of so many months.
    pub monthly: Option<u32>,
    /// The first of each of so many years.
    pub yearly: Option<u32>,
    /// The IANA time zone in which days, weeks, months and years begin.
    pub zone: String,
}

impl Keep {
    /// The newest so many points and no others.
    pub fn newest(points: u32) -> Keep {
        Keep { points: Some(points), days: None, weekly: None, monthly: None, yearly: None, zone: "UTC".to_owned() }
    }

    /// Each rule by its name in a job's definition, with its number when it is given.
    pub fn rules(&self) -> [(&'static str, Option<u32>); 5] {
        [
            ("keep.points", self.points),
            ("keep.days", self.days),
            ("keep.weekly", self.weekly),
            ("keep.monthly", self.monthly),
            ("keep.yearly", self.yearly),
        ]
    }

    /// Whether the calendar decides, so that a point may go though none comes.
    pub fn is_dated(&self) -> bool {
        [self.days, self.weekly, self.monthly, self.yearly].iter().any(Option::is_some)
    }
}
