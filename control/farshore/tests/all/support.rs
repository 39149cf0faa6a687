//! Runs the program and looks at what it did: exit codes, output, memory of its processes, hashes of files.

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The program.
pub(crate) const FARSHORE: &str = env!("CARGO_BIN_EXE_farshore");
/// Far beyond what anything here takes: a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Pause between looks.
const LOOK: Duration = Duration::from_millis(20);

/// What a run of the program said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    /// It ended well.
    #[track_caller]
    pub(crate) fn good(self) -> Said {
        assert_eq!(self.code, 0, "it should have ended well: {self:?}");
        self
    }

    /// It ended with this code and said each of these on standard error.
    #[track_caller]
    pub(crate) fn refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, code, "another exit code was expected: {self:?}");
        for word in words {
            assert!(self.err.contains(word), "it should have said {word:?}: {self:?}");
        }
        assert!(!self.err.contains("panicked"), "it panicked: {self:?}");
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }
}

/// A command of the program, without what the tester's environment would add.
pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(FARSHORE);
    command.args(args).stdin(Stdio::null());
    for name in ["FARSHORE_DATA", "FARSHORE_NATS", "RUST_LOG", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
        command.env_remove(name);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn farshore(args: &[&str]) -> Said {
    run(command(args))
}

/// Runs a command to its end; one that does not end is ended, and the test fails.
pub(crate) fn run(mut command: Command) -> Said {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
    let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    let ended = poll(|| child.try_wait().unwrap());
    let Some(status) = ended else {
        child.kill().unwrap();
        child.wait().unwrap();
        panic!("{command:?} did not end in {PATIENCE:?}: {}", err.join().unwrap());
    };
    Said { code: status.code().unwrap_or(-1), out: out.join().unwrap(), err: err.join().unwrap() }
}

fn drain(mut from: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Looks until there is something to see; none after a long time.
pub(crate) fn poll<T>(mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() > deadline {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Looks until there is something to see; the test fails if there never is.
#[track_caller]
pub(crate) fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    match poll(look) {
        Some(seen) => seen,
        None => panic!("{what}: not within {PATIENCE:?}"),
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test folders have plain names")
}

/// The tester's machine must have this tool; says how to get it otherwise.
pub(crate) fn tool(program: &str, package: &str) -> Command {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&places)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|path| path.is_file());
    Command::new(found.unwrap_or_else(|| {
        panic!("{program} is missing: run ops/test.sh, or install it with `apt-get install {package}`")
    }))
}

/// Runs a tool; its failure is the test's.
#[track_caller]
pub(crate) fn tool_runs(command: &mut Command) -> String {
    let output = command.output().expect("the tool starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    said
}

/// SHA-256 of a file.
pub(crate) fn sha256(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below a folder with its SHA-256.
pub(crate) fn tree(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for entry in fs::read_dir(&next).unwrap_or_else(|error| panic!("{}: {error}", next.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.is_file() {
                found.insert(path.strip_prefix(folder).unwrap().to_owned(), sha256(&path));
            }
        }
    }
    found
}

/// A process and what it was started with.
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) args: Vec<String>,
}

/// The processes of this program that were started with something of `folder`.
pub(crate) fn processes(folder: &Path) -> Vec<Process> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
        let args: Vec<String> =
            line.split(|byte| *byte == 0).map(|arg| String::from_utf8_lossy(arg).into_owned()).collect();
        let ours = args.first().is_some_and(|program| program.contains("farshore") || program == "/proc/self/exe");
        if ours && args.iter().any(|arg| arg.starts_with(text(folder))) {
            found.push(Process { pid, args });
        }
    }
    found
}

/// The most memory that a process ever held resident, in bytes; none when it has gone.
pub(crate) fn peak_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// Runs the demo to its end and looks at its processes while it runs. Returns what it said, how long it took, and the
/// most memory that its processes held together (the sum of each one's peak, so rather too much than too little).
pub(crate) fn demo(folder: &Path, args: &[&str], mut look: impl FnMut(&[Process])) -> (Said, Duration, u64) {
    let begun = Instant::now();
    let mut child = command(&[&["-o", "json", "demo", "--keep", text(folder)], args].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let (out, err) = (drain(child.stdout.take().unwrap()), drain(child.stderr.take().unwrap()));
    let mut most = 0;
    let ended = poll(|| {
        let running = processes(folder);
        most = most.max(running.iter().filter_map(|process| peak_memory(process.pid)).sum());
        look(&running);
        child.try_wait().unwrap()
    });
    let took = begun.elapsed();
    if ended.is_none() {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    let status = ended.unwrap_or_else(|| panic!("the demo did not end: {err}"));
    (Said { code: status.code().unwrap_or(-1), out, err }, took, most)
}

/// Nothing that a site's processes wrote speaks of a panic.
#[track_caller]
pub(crate) fn nothing_panicked(site: &Path) {
    for entry in fs::read_dir(site.join("run")).unwrap().flatten() {
        if entry.path().extension().is_some_and(|end| end == "log") {
            let said = fs::read_to_string(entry.path()).unwrap();
            assert!(!said.contains("panicked"), "{}: {said}", entry.path().display());
        }
    }
}

/// Steps of a demo's answer, by name.
pub(crate) fn steps(said: &Said) -> Vec<String> {
    said.json().as_array().unwrap().iter().map(|row| row["step"].as_str().unwrap().to_owned()).collect()
}

/// The steps that every demo goes through.
pub(crate) const STEPS: [&str; 21] = [
    "make VMs",
    "start sites",
    "discover",
    "full backup",
    "power on",
    "change in guests",
    "incremental backup",
    "replicate, full",
    "change in guests",
    "incremental backup",
    "replicate, changed",
    "lose hq",
    "failover by plan",
    "change at dr",
    "hq returns",
    "failback",
    "switch to hq",
    "commit",
    "replicate again",
    "restore old point",
    "stop and replay",
];
