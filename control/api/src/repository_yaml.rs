//! A repository as operators write it.

use farshore_schemas::ids::Name;
use farshore_schemas::messages::repository::RepositorySpec;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RepositoryYaml {
    mover: Name,
    path: String,
    /// Without it what is stored is not encrypted.
    #[serde(default)]
    encryption: Option<EncryptionYaml>,
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
        RepositorySpec { mover: self.mover, path: self.path, passphrase_file }
    }
}
