//! What retention keeps, as operators write it: a number of points, or a map of rules. Their values are checked by the job.

use farshore_schemas::messages::keep::Keep;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, MapAccess, Unexpected, Visitor};
use std::fmt;

/// The `keep` of a job; the field's default is the newest 7.
pub(crate) struct KeepYaml(pub(crate) Keep);

impl Default for KeepYaml {
    fn default() -> Self {
        KeepYaml(Keep::newest(7))
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rules {
    points: Option<u32>,
    days: Option<u32>,
    weekly: Option<u32>,
    monthly: Option<u32>,
    yearly: Option<u32>,
    zone: Option<String>,
}

impl<'de> Deserialize<'de> for KeepYaml {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PointsOrRules)
    }
}

struct PointsOrRules;

impl<'de> Visitor<'de> for PointsOrRules {
    type Value = KeepYaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of points, or a map such as {points: 7, days: 30, weekly: 4, monthly: 12, yearly: 3}")
    }

    fn visit_u64<E: Error>(self, points: u64) -> Result<KeepYaml, E> {
        let wrong = |_| E::invalid_value(Unexpected::Unsigned(points), &self);
        Ok(KeepYaml(Keep::newest(u32::try_from(points).map_err(wrong)?)))
    }

    fn visit_i64<E: Error>(self, points: i64) -> Result<KeepYaml, E> {
        let wrong = |_| E::invalid_value(Unexpected::Signed(points), &PointsOrRules);
        self.visit_u64(u64::try_from(points).map_err(wrong)?)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<KeepYaml, A::Error> {
        let Rules { points, days, weekly, monthly, yearly, zone } =
            Rules::deserialize(MapAccessDeserializer::new(map))?;
        let zone = zone.unwrap_or_else(|| "UTC".to_owned());
        Ok(KeepYaml(Keep { points, days, weekly, monthly, yearly, zone }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::parse;
    use farshore_schemas::messages::{Message, job};

    fn keep(text: &str) -> Result<Keep, String> {
        let job =
            "apiVersion: farshore/v1\nkind: Job\nmetadata: {name: j}\nspec:\n  backup: {host: h, repository: r}\n";
        let parsed = parse(&format!("{job}{text}\n")).map_err(|error| error.message)?;
        let Message::Job(job::Command::Define(spec)) = &parsed[0].message else { panic!("not a job") };
        Ok(spec.keep.clone())
    }

    #[test]
    fn a_number_is_so_many_points_and_nothing_is_seven() {
        assert_eq!(keep(""), Ok(Keep::newest(7)));
        assert_eq!(keep("  keep: 3"), Ok(Keep::newest(3)));
    }

    #[test]
    fn a_map_has_the_rules_that_it_names() {
        let rules = keep("  keep: {days: 30, weekly: 4, monthly: 12, yearly: 3, zone: Europe/Vienna}").unwrap();
        assert_eq!((rules.points, rules.days, rules.yearly), (None, Some(30), Some(3)));
        assert_eq!(rules.zone, "Europe/Vienna");
    }

    #[test]
    fn anything_else_says_how_it_is_written() {
        for wrong in ["  keep: often", "  keep: -1", "  keep: 4294967296", "  keep: [1]"] {
            assert!(keep(wrong).unwrap_err().contains("weekly: 4"), "{wrong}");
        }
        assert!(keep("  keep: {hourly: 3}").unwrap_err().contains("hourly"));
    }
}
