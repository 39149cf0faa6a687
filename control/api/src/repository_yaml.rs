//! A repository as operators write it.

use crate::resources::Span;
use farshore_schemas::ids::Name;
use farshore_schemas::messages::repository::{RepositorySpec, TRASH_HOLD};
use farshore_schemas::units::Millis;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RepositoryYaml {
    mover: Name,
    path: String,
    /// Without it what is stored is not encrypted.
    #[serde(default)]
    encryption: Option<EncryptionYaml>,
    /// How long what was pruned can still be read: `72h` unless it says otherwise.
    #[serde(default)]
    trash_hold: Option<Hold>,
    /// For how long a point must stay: `14d`. Without it, it may go at once.
    #[serde(default)]
    immutable: Option<Days>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct EncryptionYaml {
    /// On the mover's machine; the passphrase itself goes nowhere.
    passphrase_file: String,
}

impl RepositoryYaml {
    pub(crate) fn spec(self) -> RepositorySpec {
        let passphrase_file = self.encryption.map(|encryption| encryption.passphrase_file);
        let trash_hold = self.trash_hold.map_or(TRASH_HOLD, |hold| hold.0);
        let immutable = self.immutable.map(|days| days.0);
        RepositorySpec { mover: self.mover, path: self.path, passphrase_file, trash_hold, immutable }
    }
}

/// A number of days, written `14d`.
struct Days(Millis);

/// As many as the field has (field.md 1.7).
const MOST_DAYS: u64 = 9_999;

impl<'de> Deserialize<'de> for Days {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let days = text.strip_suffix('d').and_then(|days| days.parse().ok());
        match days.filter(|days: &u64| (1..=MOST_DAYS).contains(days)) {
            Some(days) => Ok(Days(Millis::from_mins(days * 24 * 60))),
            None => Err(D::Error::custom(format!("{text:?} is not a number of days from 1d to {MOST_DAYS}d"))),
        }
    }
}

/// A hold of the trash. None at all must be asked for: what a prune took away by mistake is then gone at once.
struct Hold(Millis);

/// Ten years: nobody means more, and a typing error may.
const LONGEST_HOLD: Millis = Millis::from_mins(10 * 366 * 24 * 60);

impl<'de> Deserialize<'de> for Hold {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Span(hold) = Span::deserialize(deserializer)?;
        if hold > LONGEST_HOLD {
            return Err(D::Error::custom("a trash is held for at most ten years"));
        }
        Ok(Hold(hold))
    }
}
