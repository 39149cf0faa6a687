//! A site that runs as a process, and its API.

use crate::support::{Said, command, text, until};
use farshore_hosts::FolderHost;
use reqwest::blocking::{Client, RequestBuilder};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running `farshore up`. Dropping it kills it, and the guests that it has started.
pub(crate) struct Site {
    pub(crate) folder: PathBuf,
    child: Child,
    http: Client,
    pub(crate) address: String,
    pub(crate) token: String,
}

/// Pulls the plug of every guest of a site: they outlive the agent on purpose.
fn stop_guests(folder: &Path) {
    let Ok(hosts) = fs::read_dir(folder.join("hosts")) else { return };
    for host in hosts.flatten() {
        let Ok(host) = FolderHost::open(&host.path()) else { continue };
        let Ok(listing) = host.list() else { continue };
        for facts in listing.vms {
            let _off = host.pull_the_plug(&facts.vm);
        }
    }
}

impl Site {
    /// Starts a site and waits until its API answers.
    pub(crate) fn up(folder: &Path, args: &[&str]) -> Site {
        Site::up_with(folder, args, &[])
    }

    /// The same, with environment variables.
    pub(crate) fn up_with(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Site {
        Site::try_up(folder, args, env).unwrap_or_else(|said| panic!("the site ended: {said:?}"))
    }

    /// Starts a site by a command that ends in the program's path.
    pub(crate) fn up_by(program: Command, folder: &Path, args: &[&str]) -> Site {
        Site::begin(program, folder, args).unwrap_or_else(|said| panic!("the site ended: {said:?}"))
    }

    /// Starts a site, and waits until its API answers or it ends by itself: then what it said.
    pub(crate) fn try_up(folder: &Path, args: &[&str], env: &[(&str, &str)]) -> Result<Site, Said> {
        let mut program = command(&[]);
        program.envs(env.iter().copied());
        Site::begin(program, folder, args)
    }

    fn begin(mut up: Command, folder: &Path, args: &[&str]) -> Result<Site, Said> {
        fs::create_dir_all(folder.join("run")).unwrap();
        let _stale = fs::remove_file(folder.join("run/api.json"));
        let log = File::options().create(true).append(true).open(folder.join("run/up.log")).unwrap();
        let before = log.metadata().unwrap().len() as usize;
        up.args(["up", "--data", text(folder)]).args(args).stdin(Stdio::null());
        let child = up.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        let http = Client::builder().timeout(Duration::from_secs(60)).no_proxy().build().unwrap();
        let mut site = Site { folder: folder.to_owned(), child, http, address: String::new(), token: String::new() };
        until("the site's API", || match site.child.try_wait().unwrap() {
            Some(status) => Some(Err(status)),
            None => site.answers().map(Ok),
        })
        .map_err(|status| Said {
            code: status.code().unwrap_or(-1),
            out: String::new(),
            err: site.said().split_off(before),
        })?;
        Ok(site)
    }

    fn answers(&mut self) -> Option<()> {
        let place: Value = serde_json::from_slice(&fs::read(self.folder.join("run/api.json")).ok()?).ok()?;
        self.address = place["address"].as_str()?.to_owned();
        self.token = fs::read_to_string(self.folder.join("secrets/api-token")).ok()?.trim().to_owned();
        self.request(reqwest::Method::GET, "/api/v1/status").send().ok()?.status().is_success().then_some(())
    }

    /// What it wrote so far.
    pub(crate) fn said(&self) -> String {
        fs::read_to_string(self.folder.join("run/up.log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A request with the token.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.token)
    }

    /// A request without one.
    pub(crate) fn bare(&self, method: reqwest::Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.address))
    }

    /// Reads something as text.
    pub(crate) fn text(&self, path: &str) -> String {
        self.bare(reqwest::Method::GET, path).send().unwrap().text().unwrap()
    }

    /// One actor's state.
    pub(crate) fn state(&self, kind: &str, name: &str) -> Value {
        let path = format!("/api/v1/resources/{kind}/{name}");
        let answer: Value = self.request(reqwest::Method::GET, &path).send().unwrap().json().unwrap();
        answer["state"].clone()
    }

    /// Runs a verb on this site.
    pub(crate) fn farshore(&self, args: &[&str]) -> Said {
        crate::support::farshore(&[args, &["--data", text(&self.folder)]].concat())
    }

    /// Defines things; everything must be taken.
    #[track_caller]
    pub(crate) fn apply(&self, yaml: &str) {
        let file = self.folder.join("run/apply.yaml");
        fs::write(&file, yaml).unwrap();
        self.farshore(&["apply", "-f", text(&file)]).good();
    }

    /// Gives a command through the API; it must be taken.
    #[track_caller]
    pub(crate) fn command(&self, kind: &str, name: &str, message: &Value) -> Value {
        let path = format!("/api/v1/commands/{kind}/{name}");
        let answer = self.request(reqwest::Method::POST, &path).json(message).send().unwrap();
        let status = answer.status();
        let answer: Value = answer.json().unwrap();
        assert!(status.is_success() && answer["refused"].is_null(), "{kind}/{name} {message}: {status} {answer}");
        answer
    }

    /// Stops it as an operator does; it must end well, and nothing may have panicked.
    #[track_caller]
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let status = until("the site's end", || self.child.try_wait().unwrap());
        assert!(status.success(), "{status}: {}", self.said());
        crate::support::nothing_panicked(&self.folder);
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        stop_guests(&self.folder);
    }
}

/// Starts a site that should end by itself, and returns what it said; one that goes on is stopped, and the test fails.
#[track_caller]
pub(crate) fn refuses_to_start(folder: &Path, args: &[&str]) -> Said {
    let said = crate::support::farshore(&[&["up", "--data", text(folder)], args].concat());
    assert!(!folder.join("run/api.json").exists(), "a site that does not run is not announced: {said:?}");
    said
}
