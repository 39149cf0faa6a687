//! A site's data folder: `log/`, `view/`, `agents/`, `repository/`, `hosts/`, `secrets/`, and small files that say how to
//! reach what runs there (`run/api.json`) and what was in memory when it ended (`run/final-state.json`).

use crate::failure::Failure;
use farshore_log::LogReader;
use farshore_runtime::handle::FinalState;
use farshore_schemas::ids::SiteName;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DataFolder {
    /// The folder.
    pub(crate) path: PathBuf,
}

/// How to reach the API of the process that runs the site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ApiPlace {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    /// The process.
    pub(crate) pid: u32,
}

impl DataFolder {
    /// Names a folder; nothing is made yet.
    pub(crate) fn at(path: &Path) -> Self {
        DataFolder { path: path.to_owned() }
    }

    /// Makes the folder and its parts, for their owner's eyes only.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        for part in ["", "secrets", "run", "agents", "hosts", "repository"] {
            let path = self.path.join(part);
            let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&path);
            made.map_err(|error| {
                Failure::new(
                    "FS-DATA-FOLDER",
                    format!("{} cannot be made: {error}", path.display()),
                    "check the path and its owner",
                )
            })?;
        }
        Ok(())
    }

    /// The site whose log is here, if there is a log.
    pub(crate) fn site(&self) -> Result<Option<SiteName>, Failure> {
        let path = self.path.join("site");
        match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().map(Some).map_err(|bad: farshore_schemas::ids::BadId| {
                Failure::new(
                    "FS-DATA-SITE",
                    format!("{} does not name a site: {bad}", path.display()),
                    "restore the file, it holds the site's name",
                )
            }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Failure::io("read", &path, &error)),
        }
    }

    /// Remembers the site's name.
    pub(crate) fn remember_site(&self, site: &SiteName) -> Result<(), Failure> {
        self.replace("site", format!("{site}\n").as_bytes(), 0o644)
    }

    /// The site whose data this is.
    pub(crate) fn known_site(&self) -> Result<SiteName, Failure> {
        self.site()?.ok_or_else(|| {
            let text = format!("{} holds no site", self.path.display());
            Failure::new(
                "FS-DATA-NO-SITE",
                text,
                "give --data the folder of a site, or make one with `farshore up --data DIR`",
            )
            .not_found()
        })
    }

    /// A reader of the log, which need not be stopped for it.
    pub(crate) fn reader(&self) -> Result<LogReader, Failure> {
        self.known_site()?;
        LogReader::open(&self.path).map_err(|error| Failure::log(&error))
    }

    /// The API's token: made at random the first time, mode 0600.
    pub(crate) fn token(&self) -> Result<String, Failure> {
        let path = self.path.join("secrets/api-token");
        match fs::read_to_string(&path) {
            Ok(token) if token.trim().len() >= 32 => Ok(token.trim().to_owned()),
            Ok(_) => Err(Failure::new(
                "FS-DATA-TOKEN",
                format!("{} holds no token", path.display()),
                "delete the file and start the site again",
            )),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let token: String = rand::random::<[u8; 32]>().iter().map(|byte| format!("{byte:02x}")).collect();
                self.replace("secrets/api-token", token.as_bytes(), 0o600)?;
                Ok(token)
            }
            Err(error) => Err(Failure::io("read", &path, &error)),
        }
    }

    /// Says where the API listens.
    pub(crate) fn announce_api(&self, place: &ApiPlace) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(place).map_err(|error| Failure::defect(&error))?;
        self.replace("run/api.json", &text, 0o600)
    }

    /// Where the API listens.
    pub(crate) fn api(&self) -> Result<ApiPlace, Failure> {
        let path = self.path.join("run/api.json");
        let advice = "start the site with `farshore up --data DIR` or `farshore control --data DIR`";
        let text = fs::read(&path).map_err(|_| {
            Failure::new("FS-DATA-NOT-RUNNING", format!("no site runs on {}", self.path.display()), advice).not_found()
        })?;
        serde_json::from_slice(&text)
            .map_err(|error| Failure::new("FS-DATA-API", format!("{} cannot be read: {error}", path.display()), advice))
    }

    /// Nobody listens any more.
    pub(crate) fn withdraw_api(&self) {
        let _gone = fs::remove_file(self.path.join("run/api.json"));
    }

    /// Keeps what was in memory when the site ended.
    pub(crate) fn keep_final_state(&self, state: &FinalState) -> Result<(), Failure> {
        let text = serde_json::to_vec_pretty(state).map_err(|error| Failure::defect(&error))?;
        self.replace("run/final-state.json", &text, 0o644)
    }

    /// Writes a small file whole: a new one beside it, made durable, then renamed over it.
    pub(crate) fn replace(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), Failure> {
        let path = self.path.join(name);
        let new = path.with_extension("new");
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, &path)?;
            fs::File::open(path.parent().unwrap_or(&self.path))?.sync_all()
        };
        write().map_err(|error| Failure::io("write", &path, &error))
    }
}
