//! Bad input and bad circumstances: each is refused with a message that names what, why and what to do; nothing is lost.

use crate::site::{Site, refuses_to_start};
use crate::support::{FARSHORE, farshore, run, text, tool, tool_runs, until};
use farshore_hosts::{DemoVm, FolderHost};
use farshore_schemas::ids::VmName;
use farshore_schemas::units::ByteCount;
use reqwest::Method;
use serde_json::Value;
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// A small VM with a file system, on the site's own host.
pub(crate) fn make_vm(data: &Path, name: &str, seed: u64) {
    let host = data.join("hosts/local");
    fs::create_dir_all(&host).unwrap();
    let vm = VmName::parse(name).unwrap();
    let demo = DemoVm { vm: &vm, seed, size: ByteCount(40 << 20), disks: 1 };
    FolderHost::open(&host).unwrap().demo_vm(&demo).unwrap();
}

pub(crate) const BACKUP: &str = "apiVersion: farshore/v1\nkind: Job\nmetadata: {name: nightly}\n\
    spec: {backup: {host: local, repository: local}, retry: {attempts: 0, wait: 1s}, keep: 3}\n";

/// Waits until the site's host has listed a VM.
#[track_caller]
pub(crate) fn wait_for_vm(site: &Site, name: &str) {
    until(&format!("VM {name} in the inventory"), || {
        (!site.state("host", "local")["Defined"]["inventory"][name].is_null()).then_some(())
    });
}

#[test]
fn yaml_that_is_wrong_is_refused_with_line_and_column_and_nothing_is_applied() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::up(&folder.path().join("data"), &[]);
    let good = "apiVersion: farshore/v1\nkind: Job\nmetadata: {name: good}\nspec: {backup: {host: local, repository: local}}\n---\n";
    let head = "apiVersion: farshore/v1\nkind: Host\nmetadata: {name: lab}\n";
    let wrong = [
        (format!("{good}{head}spec: {{mover: local, foldr: /vms}}\n"), "line 9, column 22", "foldr"),
        (format!("{good}{head}spec: {{mover: [local], folder: /vms}}\n"), "line 9, column 15", "string"),
        (
            format!(
                "{good}{head}spec: {{mover: local, folder: /vms}}\n---\n{head}spec: {{mover: local, folder: /b}}\n"
            ),
            "line 13, column 18",
            "defined twice",
        ),
        (format!("{good}{head}spec: {{mover: local, folder: /a, folder: /b}}\n"), "line 9, column", "stands twice"),
    ];
    for (yaml, place, why) in wrong {
        let file = folder.path().join("wrong.yaml");
        fs::write(&file, &yaml).unwrap();
        let said = farshore(&["apply", "-f", text(&file), "--data", text(&site.folder)]);
        said.refused(1, &["FS-YAML-", place, why, "nothing was applied"]);
        let answer = site.request(Method::POST, "/api/v1/resources").body(yaml).send().unwrap();
        assert_eq!(answer.status(), 400, "the API trusts no client");
        let error: Value = answer.json().unwrap();
        assert!(error["code"].as_str().unwrap().starts_with("FS-YAML-"), "{error}");
        assert!(error["message"].as_str().unwrap().contains(place), "{error}");
        assert_eq!(site.state("job", "good"), Value::Null, "nothing of a wrong text is applied");
    }
    site.stop();
}

#[test]
fn an_image_that_changes_while_it_is_read_makes_no_point() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let disk = data.join("hosts/local/moving/system.raw");
    fs::create_dir_all(disk.parent().unwrap()).unwrap();
    fs::write(&disk, vec![7; 32 << 20]).unwrap();
    let site = Site::up(&data, &[]);
    wait_for_vm(&site, "moving");
    site.apply(BACKUP);
    let stop = AtomicBool::new(false);
    let said = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().write(true).open(&disk).unwrap();
            let mut count = 0u64;
            while !stop.load(Ordering::Relaxed) {
                file.seek(SeekFrom::Start((count * 4096) % (32 << 20))).unwrap();
                file.write_all(&count.to_le_bytes()).unwrap();
                count += 1;
            }
        });
        let said = site.farshore(&["job", "run", "nightly"]);
        stop.store(true, Ordering::Relaxed);
        said
    });
    said.refused(1, &["FS-SESSION-FAILED", "FS-HOST-DISK-CHANGED", "system.raw"]);
    assert_eq!(site.farshore(&["get", "points", "-o", "json"]).good().json(), serde_json::json!([]));
    site.farshore(&["job", "run", "nightly"]).good();
    site.stop();
}

#[test]
fn a_repository_of_a_newer_format_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &[]);
    wait_for_vm(&site, "web");
    site.apply(BACKUP);
    site.farshore(&["job", "run", "nightly"]).good();
    site.stop();
    let format = data.join("repository/format.json");
    let older = fs::read_to_string(&format).unwrap();
    fs::write(&format, older.replace("\"format\": 1", "\"format\": 7")).unwrap();
    let before = crate::support::tree(&data.join("repository"));
    let site = Site::up(&data, &[]);
    site.farshore(&["job", "run", "nightly"]).refused(1, &["FS-SESSION-FAILED", "FS-REPO-NEWER"]);
    site.stop();
    assert_eq!(crate::support::tree(&data.join("repository")), before, "nothing of a newer repository is touched");
    fs::write(&format, older).unwrap();
    let site = Site::up(&data, &[]);
    site.farshore(&["job", "run", "nightly"]).good();
    site.stop();
}

#[test]
fn ports_and_folders_in_use_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let address = format!("127.0.0.1:{port}");
    let fresh = folder.path().join("a");
    refuses_to_start(&fresh, &["--api-port", &port]).refused(11, &["FS-API-PORT-IN-USE", &address, "--api-port"]);
    assert!(!fresh.exists(), "a site that could not start leaves no folder behind");
    refuses_to_start(&fresh, &["--listen", &address]).refused(11, &["FS-AGENT-PORT-IN-USE", &address]);
    let data = folder.path().join("data");
    let site = Site::up(&data, &[]);
    let place = fs::read(data.join("run/api.json")).unwrap();
    let second = farshore(&["up", "--data", text(&data)]);
    second.refused(11, &["FS-LOG-LOCKED", text(&data), "in use"]);
    let agent = farshore(&["agent", "--data", text(&data), "--site", "main", "--name", "local"]);
    agent.refused(11, &["FS-AGENT-LOCKED", "another process uses"]);
    let other = farshore(&["control", "--data", text(&data), "--site", "elsewhere"]);
    other.refused(22, &["FS-DATA-OTHER-SITE", "main"]);
    assert_eq!(fs::read(data.join("run/api.json")).unwrap(), place, "the site that runs is still the one to talk to");
    site.farshore(&["status"]).good();
    site.stop();
    farshore(&["status", "--data", text(&data)]).refused(10, &["FS-DATA-NOT-RUNNING", "farshore up"]);
}

/// The repository lies on a small disk, in a mount namespace of the site's own.
#[test]
fn a_full_repository_disk_fails_the_session_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "small", 1);
    let repository = data.join("repository");
    fs::create_dir_all(&repository).unwrap();
    let script = "mount -t tmpfs -o size=24m none \"$0\" && exec \"$@\"";
    let mut wrapped = tool("unshare", "util-linux");
    wrapped.args(["--mount", "--map-root-user", "sh", "-c", script, text(&repository), FARSHORE]);
    let site = Site::up_by(wrapped, &data, &[]);
    wait_for_vm(&site, "small");
    site.apply(BACKUP);
    site.farshore(&["job", "run", "nightly"]).good();
    let large = data.join("hosts/local/large");
    fs::create_dir_all(&large).unwrap();
    let noise: Vec<u8> = (0..(32u32 << 20) / 4)
        .flat_map(|number| number.wrapping_mul(2_654_435_761).rotate_left(number % 31).to_le_bytes())
        .collect();
    fs::write(large.join("system.raw"), noise).unwrap();
    site.command("host", "local", &serde_json::json!({"Host": "Discover"}));
    wait_for_vm(&site, "large");
    site.farshore(&["job", "run", "nightly"]).refused(1, &["FS-SESSION-FAILED", "large", "FS-REPO-FULL"]);
    let points = site.farshore(&["get", "points", "-o", "json"]).good().json();
    let points: Vec<_> = points
        .as_array()
        .unwrap()
        .iter()
        .map(|point| (point["vm"].to_string(), point["point"].as_str().unwrap().to_owned()))
        .collect();
    assert!(points.iter().all(|(vm, _)| vm.contains("small")), "{points:?}");
    let first = &points[0].1;
    let restore = ["restore", "--repository", "local", "--point", first, "--host", "local", "--vm", "small-again"];
    site.farshore(&restore).good();
    let hosts = data.join("hosts/local");
    let hash = |vm: &str| crate::support::sha256(&hosts.join(vm).join("system.raw"));
    assert_eq!(hash("small-again"), hash("small"));
    let mut grow = tool("nsenter", "util-linux");
    grow.args(["--target", &site.pid().to_string(), "--user", "--mount", "--preserve-credentials"]);
    tool_runs(grow.args(["mount", "-o", "remount,size=200m", text(&repository)]));
    site.farshore(&["job", "run", "nightly"]).good();
    site.stop();
}

#[test]
fn the_program_says_what_it_does_not_know() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = text(folder.path());
    farshore(&["log", "verify", "--data", nothing]).refused(10, &["FS-DATA-NO-SITE", nothing]);
    farshore(&["status", "--data", nothing]).refused(10, &["FS-DATA-NOT-RUNNING", nothing]);
    let mut unknown = crate::support::command(&["apply", "-f", "/no/such/file.yaml", "--data", nothing]);
    unknown.env("LC_ALL", "C");
    run(unknown).refused(1, &["FS-IO", "/no/such/file.yaml"]);
    let said = farshore(&["-o", "json", "status", "--data", nothing]);
    let error: Value = serde_json::from_str(&said.err).unwrap();
    assert_eq!(error["code"], "FS-DATA-NOT-RUNNING");
}
