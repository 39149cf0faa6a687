//! What the command line says when something fails: what happened, why and what to do, with a stable code and an exit code
//! that scripts know (ecosystem.md section 5).

use farshore_log::LogError;
use std::fmt;
use std::path::Path;

/// The program's exit codes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It failed.
    Failed = 1,
    /// Done, but not all of it.
    Incomplete = 3,
    /// What was named is not there.
    NotFound = 10,
    /// Somebody else holds it.
    Busy = 11,
    /// Not allowed.
    Auth = 12,
    /// Something is not what it should be: damage, or another hash.
    Mismatch = 21,
    /// A guard said no.
    Refused = 22,
    /// The user ended it.
    Interrupted = 130,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) advice: String,
    pub(crate) exit: Exit,
}

impl Failure {
    pub(crate) fn new(code: &str, message: impl Into<String>, advice: &str) -> Self {
        Failure { code: code.to_owned(), message: message.into(), advice: advice.to_owned(), exit: Exit::Failed }
    }

    pub(crate) fn with(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    pub(crate) fn not_found(self) -> Self {
        self.with(Exit::NotFound)
    }

    pub(crate) fn io(what: &str, path: &Path, error: &std::io::Error) -> Self {
        let advice = if error.kind() == std::io::ErrorKind::StorageFull {
            "free space there and try again"
        } else {
            "check the path and its owner"
        };
        Failure::new("FS-IO", format!("could not {what} {}: {error}", path.display()), advice)
    }

    /// From a text that bears its own code, like `FS-PART-WHAT: text`.
    pub(crate) fn coded(text: &str, advice: &str) -> Self {
        match text.split_once(": ") {
            Some((code, rest)) if code.starts_with("FS-") => Failure::new(code, rest, advice),
            Some(_) | None => Failure::new("FS-FAILED", text, advice),
        }
    }

    pub(crate) fn log(error: &LogError) -> Self {
        let text = error.to_string();
        let exit = match error {
            LogError::Locked { .. } => Exit::Busy,
            LogError::NotHere { .. } | LogError::NoLog { .. } => Exit::NotFound,
            LogError::Exists { .. } | LogError::OwnFolder { .. } | LogError::EmptyRange { .. } => Exit::Refused,
            LogError::Io { .. } => Exit::Failed,
            LogError::Damaged(_)
            | LogError::WrongSite { .. }
            | LogError::Newer { .. }
            | LogError::Gone { .. }
            | LogError::TwoLineages { .. } => Exit::Mismatch,
        };
        Failure::coded(&text, "see docs/guides/log.md for what to do").with(exit)
    }

    pub(crate) fn repository(error: &farshore_repository::Error) -> Self {
        let code = error.code();
        let exit = match code.strip_prefix("FS-REPO-").unwrap_or(&code) {
            "NOT-HERE" | "NO-POINT" | "NO-DISK" | "NO-SLOT" => Exit::NotFound,
            "LOCKED" => Exit::Busy,
            "KEY" => Exit::Auth,
            "DAMAGE" | "NO-CHUNK" | "BAD-CHUNK" | "INCOMPLETE" | "PROOF" | "LOG-INCOMPLETE" => Exit::Mismatch,
            "FOREIGN" | "OWNER" | "POSITION" | "POINT-DIFFERS" | "ALREADY" | "LAST-SLOT" | "NO-KEY" | "NOT-A-DISK"
            | "NOT-A-DEVICE" | "SMALL-DEVICE" | "DOMAIN" | "IMMUTABLE" => Exit::Refused,
            _ => Exit::Failed,
        };
        Failure::new(&code, error.to_string(), error.advice()).with(exit)
    }

    pub(crate) fn defect(error: &dyn fmt::Display) -> Self {
        Failure::new("FS-DEFECT", error.to_string(), "this is a defect of the program: please report it")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n  what to do: {}", self.code, self.message, self.advice)
    }
}

impl std::error::Error for Failure {}
