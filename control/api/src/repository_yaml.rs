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
        RepositorySpec { mover: self.mover, path: self.path, passphrase_file, trash_hold }
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
