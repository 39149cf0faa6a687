//! A real nats-server for tests, here and (with the cargo feature `testing`) in other crates: on a loopback port that the
//! operating system chooses, with its files in a folder of its own, ended by its own process id.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long the server may take to say its port.
const START: Duration = Duration::from_secs(30);
/// Pause between looks at the ports file.
const LOOK: Duration = Duration::from_millis(5);

/// Why there is no test server.
#[derive(Debug, thiserror::Error)]
pub enum TestServerError {
    /// No program.
    #[error(
        "FS-TEST-NATS: no nats-server found ({tried}). Run ops/test.sh, which installs it, or set FARSHORE_NATS_SERVER"
    )]
    Missing {
        /// Where it was looked for.
        tried: String,
    },
    /// It did not come up.
    #[error("FS-TEST-NATS: {program} did not start: {why}; its last words: {log}")]
    Failed {
        /// The program.
        program: String,
        /// Why.
        why: String,
        /// The end of its log.
        log: String,
    },
}

/// A running nats-server. Dropping it ends it.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    arguments: Vec<String>,
    folder: TempDir,
    child: Child,
    port: u16,
}

impl NatsServer {
    /// Starts one.
    ///
    /// # Errors
    /// [`TestServerError`].
    pub fn start() -> Result<NatsServer, TestServerError> {
        Self::start_with(&[])
    }

    /// Starts one with more arguments, such as `-js`, or `-c FILE`.
    ///
    /// # Errors
    /// [`TestServerError`].
    pub fn start_with(arguments: &[&str]) -> Result<NatsServer, TestServerError> {
        Self::start_by(&find()?, arguments)
    }

    /// Starts one by a program of the caller's, which must become the server (`exec`): its process id stays.
    ///
    /// # Errors
    /// [`TestServerError`].
    pub fn start_by(program: &Path, arguments: &[&str]) -> Result<NatsServer, TestServerError> {
        let program = program.to_owned();
        let failed =
            |why: String| TestServerError::Failed { program: program.display().to_string(), why, log: String::new() };
        let folder = tempfile::Builder::new().prefix("nats-").tempdir().map_err(|error| failed(error.to_string()))?;
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let (child, port) = launch(&program, &arguments, folder.path(), None)?;
        Ok(NatsServer { program, arguments, folder, child, port })
    }

    /// `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A folder that goes away with the server; `js` in it is where JetStream belongs.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it, as a crash would, and waits until it is gone.
    pub fn stop(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it anew on the same port and folder.
    ///
    /// # Errors
    /// [`TestServerError::Failed`].
    pub fn start_again(&mut self) -> Result<(), TestServerError> {
        self.stop();
        (self.child, self.port) = launch(&self.program, &self.arguments, self.folder.path(), Some(self.port))?;
        Ok(())
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where nats-server is, for those who start it by a program of their own.
///
/// # Errors
/// [`TestServerError::Missing`].
pub fn program() -> Result<PathBuf, TestServerError> {
    find()
}

/// Where nats-server is: `FARSHORE_NATS_SERVER`, `.venv/bin` in the workspace, the search path.
fn find() -> Result<PathBuf, TestServerError> {
    let named = std::env::var_os("FARSHORE_NATS_SERVER").map(PathBuf::from);
    if let Some(program) = named {
        return if program.is_file() {
            Ok(program)
        } else {
            Err(TestServerError::Missing { tried: format!("FARSHORE_NATS_SERVER is {}", program.display()) })
        };
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/nats-server");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join("nats-server"));
    std::iter::once(workspace).chain(on_path).find(|candidate| candidate.is_file()).ok_or_else(|| {
        TestServerError::Missing { tried: "FARSHORE_NATS_SERVER, .venv/bin of the workspace, PATH".to_owned() }
    })
}

/// Starts the process and waits for the file in which it names its port.
fn launch(
    program: &Path,
    arguments: &[String],
    folder: &Path,
    port: Option<u16>,
) -> Result<(Child, u16), TestServerError> {
    let log = folder.join("server.log");
    let failed =
        |why: String| TestServerError::Failed { program: program.display().to_string(), why, log: last_words(&log) };
    let output = File::create(&log).map_err(|error| failed(error.to_string()))?;
    let mut child = Command::new(program)
        .args(["-a", "127.0.0.1", "-p", &port.map_or_else(|| "-1".to_owned(), |port| port.to_string())])
        .arg("--ports_file_dir")
        .arg(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(output)
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    let ports = folder.join(format!("nats-server_{}.ports", child.id()));
    let since = Instant::now();
    let why = loop {
        if let Some(port) = read_port(&ports) {
            return Ok((child, port));
        }
        match child.try_wait() {
            Ok(None) if since.elapsed() < START => std::thread::sleep(LOOK),
            Ok(None) => break format!("no ports file after {START:?}"),
            Ok(Some(status)) => break format!("it ended with {status}"),
            Err(error) => break error.to_string(),
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    Err(failed(why))
}

/// The port in a ports file; none while it is not there or only half written.
fn read_port(path: &Path) -> Option<u16> {
    let text = std::fs::read_to_string(path).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    ports["nats"][0].as_str()?.rsplit(':').next()?.parse().ok()
}

fn last_words(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().rev().take(5).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
