//! The sites' processes: `farshore up` per site over a socket that this process serves, or control and agent apart over
//! NATS. They are killed with SIGKILL and started again; one that ends by itself is a violation.

use super::Wrong;
use farshore_bus::testing::NatsServer;
use farshore_bus::{LocalBus, SocketHub};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The sites and their agents.
pub(crate) const SITES: [(&str, &str); 2] = [("hq", "hq-mover"), ("dr", "dr-mover")];
/// How long a process may take to stop when asked.
const PATIENCE: Duration = Duration::from_secs(60);

enum Joined {
    Socket { path: PathBuf, _hub: SocketHub, _runtime: tokio::runtime::Runtime },
    Nats(NatsServer),
}

/// One process: what it is started with, and itself while it runs.
struct Process {
    site: usize,
    part: &'static str,
    child: Option<Child>,
}

/// All processes.
pub(crate) struct Rig {
    folder: PathBuf,
    program: PathBuf,
    joined: Joined,
    processes: Vec<Process>,
}

impl Rig {
    /// Readies the bus; nothing runs yet.
    pub(crate) fn new(folder: &Path, program: &Path, nats: bool) -> Result<Rig, Wrong> {
        let joined = if nats {
            Joined::Nats(NatsServer::start()?)
        } else {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let path = folder.join("bus");
            let hub = runtime.block_on(async { SocketHub::serve(LocalBus::new(), &path) })?;
            Joined::Socket { path, _hub: hub, _runtime: runtime }
        };
        let parts: &[&'static str] = if nats { &["control", "agent"] } else { &["up"] };
        let each = |site: usize| parts.iter().map(move |&part| Process { site, part, child: None });
        let processes = (0..SITES.len()).flat_map(each).collect();
        Ok(Rig { folder: folder.to_owned(), program: program.to_owned(), joined, processes })
    }

    /// How many processes there are.
    pub(crate) fn count(&self) -> usize {
        self.processes.len()
    }

    /// The processes of a site.
    pub(crate) fn of_site(&self, site: usize) -> Vec<usize> {
        (0..self.processes.len()).filter(|&index| self.processes[index].site == site).collect()
    }

    /// The site of a process, and whether it writes that site's log.
    pub(crate) fn logs_for(&self, index: usize) -> Option<usize> {
        let process = &self.processes[index];
        (process.part != "agent").then_some(process.site)
    }

    /// Whether it runs.
    pub(crate) fn runs(&self, index: usize) -> bool {
        self.processes[index].child.is_some()
    }

    /// Its name for messages.
    pub(crate) fn name(&self, index: usize) -> String {
        format!("{} {}", SITES[self.processes[index].site].0, self.processes[index].part)
    }

    /// Starts a process that does not run.
    pub(crate) fn start(&mut self, index: usize) -> Result<(), Wrong> {
        let (site, agent) = SITES[self.processes[index].site];
        let data = self.folder.join(site);
        std::fs::create_dir_all(data.join("run"))?;
        let part = self.processes[index].part;
        if part != "agent" {
            let _stale = std::fs::remove_file(data.join("run/api.json"));
        }
        let mut command = Command::new(&self.program);
        command.arg(part).arg("--data").arg(&data).args(["--site", site]);
        match (&self.joined, part) {
            (Joined::Socket { path, .. }, _) => command.args(["--bare", "--agent", agent, "--join"]).arg(path),
            (Joined::Nats(server), "agent") => command.args(["--name", agent, "--nats", &server.url()]),
            (Joined::Nats(server), _) => command.args(["--nats", &server.url()]),
        };
        let log = File::options().create(true).append(true).open(self.log(index))?;
        let both = log.try_clone()?;
        let child = command.env("RUST_BACKTRACE", "1").stdin(Stdio::null()).stdout(both).stderr(log).spawn()?;
        self.processes[index].child = Some(child);
        Ok(())
    }

    fn log(&self, index: usize) -> PathBuf {
        let process = &self.processes[index];
        self.folder.join(SITES[process.site].0).join(format!("run/{}.log", process.part))
    }

    /// Kills processes at once and waits until they are gone. Gives what is to be said of those that were gone already.
    pub(crate) fn kill(&mut self, victims: &[usize]) -> Vec<String> {
        let died = self.died();
        for &index in victims {
            if let Some(child) = &mut self.processes[index].child {
                let _gone = child.kill();
            }
        }
        for &index in victims {
            if let Some(mut child) = self.processes[index].child.take() {
                let _reaped = child.wait();
            }
        }
        died
    }

    /// Processes that ended although nobody killed them, and their last words.
    pub(crate) fn died(&mut self) -> Vec<String> {
        let mut died = Vec::new();
        for index in 0..self.processes.len() {
            let Some(child) = &mut self.processes[index].child else { continue };
            if let Ok(Some(status)) = child.try_wait() {
                self.processes[index].child = None;
                died.push(format!("{} ended by itself ({status}): {}", self.name(index), self.last_words(index)));
            }
        }
        died
    }

    fn last_words(&self, index: usize) -> String {
        let text = std::fs::read_to_string(self.log(index)).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(4)..].join(" | ")
    }

    /// Asks all to stop, agents first, and waits for them. Gives what went wrong.
    pub(crate) fn stop(&mut self) -> Vec<String> {
        let mut wrong = self.died();
        for index in (0..self.processes.len()).rev() {
            let Some(mut child) = self.processes[index].child.take() else { continue };
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                let _gone = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            let deadline = Instant::now() + PATIENCE;
            let ended = loop {
                match child.try_wait() {
                    Ok(Some(status)) => break Some(status),
                    Ok(None) if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(10)),
                    Ok(None) | Err(_) => break None,
                }
            };
            match ended {
                Some(status) if status.success() => {}
                Some(status) => {
                    wrong.push(format!("{} stopped with {status}: {}", self.name(index), self.last_words(index)));
                }
                None => {
                    wrong.push(format!("{} does not stop", self.name(index)));
                    let _gone = child.kill();
                    let _reaped = child.wait();
                }
            }
        }
        wrong
    }

    /// Lines of the processes' logs that tell of a panic.
    pub(crate) fn panics(&self) -> Vec<String> {
        let mut panics = Vec::new();
        for index in 0..self.processes.len() {
            let text = std::fs::read_to_string(self.log(index)).unwrap_or_default();
            let told = text.lines().filter(|line| line.contains("panicked at"));
            panics.extend(told.map(|line| format!("{}: {line}", self.name(index))));
        }
        panics
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        let all: Vec<usize> = (0..self.processes.len()).collect();
        self.kill(&all);
    }
}
