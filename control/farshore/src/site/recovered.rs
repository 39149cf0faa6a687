//! What a data folder that was recovered from a repository says of itself: up to which frame its log is a copy. A start on just
//! that log takes a new lineage; once the log goes on, it has. It also says which lineage the repository's folder bore: when a
//! site that was recovered earlier took the folder and kept no frame there, the log does not know it.

use crate::failure::Failure;
use crate::site::data::DataFolder;
use farshore_log::ReadLog;
use farshore_schemas::ids::{Digest, Lineage, Seq};
use serde::{Deserialize, Serialize};

const FILE: &str = "recovered.json";

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recovered {
    /// The repository that it came from: the whole path.
    pub(crate) repository: String,
    /// The lineage of the last frame.
    pub(crate) lineage: Lineage,
    /// The last frame.
    pub(crate) seq: Seq,
    /// Its hash.
    pub(crate) hash: Digest,
    /// The lineage that owned the repository's folder, when it was one of this site.
    pub(crate) owned: Option<Lineage>,
}

impl Recovered {
    /// Writes it into a folder, durable.
    pub(crate) fn keep(&self, folder: &DataFolder) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(self).map_err(|error| Failure::defect(&error))?;
        folder.replace(FILE, &text, 0o600)
    }

    /// What a folder says of itself; nothing when it was not recovered.
    pub(crate) fn of(folder: &DataFolder) -> Result<Option<Recovered>, Failure> {
        let path = folder.path.join(FILE);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::io("read", &path, &error)),
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let text = format!("{} cannot be read: {error}", path.display());
            Failure::new("FS-DATA-RECOVERED", text, "recover the site again into an empty folder")
        })
    }

    /// Why a start on this log has to take a new lineage, if it has.
    pub(crate) fn renewal(folder: &DataFolder, log: &dyn ReadLog) -> Result<Option<String>, Failure> {
        let Some(recovered) = Recovered::of(folder)? else { return Ok(None) };
        // Later frames were decided here: the first of them began the new lineage.
        if log.tail().0 > recovered.seq {
            return Ok(None);
        }
        Ok(Some(format!(
            "FS-LOG-RECOVERED: the log was recovered from the repository {}: it is a copy up to frame {}, and what was decided \
             after it is not known here",
            recovered.repository, recovered.seq
        )))
    }
}
