//! Hosts whose folder is not what it should be, and hosts whose mover is not there: the user is told, and nothing is taken for
//! known that is not.

use crate::bad_input::{make_vm, wait_for_vm};
use crate::site::Site;
use crate::support::{farshore, text, until};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn host(name: &str, folder: &Path) -> String {
    let head = format!("apiVersion: farshore/v1\nkind: Host\nmetadata: {{name: {name}}}\n");
    format!("{head}spec: {{mover: local, folder: {}}}\n", text(folder))
}

fn repository(name: &str, folder: &Path) -> String {
    let head = format!("apiVersion: farshore/v1\nkind: Repository\nmetadata: {{name: {name}}}\n");
    format!("{head}spec: {{mover: local, path: {}}}\n", text(folder))
}

/// Waits until a mover's agent is there.
fn connected(site: &Site, mover: &str) {
    until("the mover", || {
        let status = site.farshore(&["status", "-o", "json"]).good().json();
        let movers = status["movers"].as_array()?.clone();
        movers.iter().any(|one| one["mover"] == mover && one["connected"] == true).then_some(())
    });
}

#[test]
fn a_host_whose_folder_is_missing_says_so_until_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("no/such/folder");
    let site = Site::up(&folder.path().join("data"), &[]);
    site.apply(&host("lab", &missing));
    connected(&site, "local");
    let words = ["FS-HOST-FOLDER-MISSING", text(&missing)];
    site.farshore(&["discover", "lab"]).refused(1, &[&words[..], &["host lab", "what to do"]].concat());
    let has_all = |said: &str| words.iter().all(|word| said.contains(word));
    for verb in [&["get", "hosts"][..], &["describe", "host", "lab"], &["get", "host", "lab"], &["status"]] {
        let said = site.farshore(verb).good();
        assert!(has_all(&said.out), "{verb:?}: {said:?}");
    }
    let status = site.farshore(&["status", "-o", "json"]).good().json();
    assert_eq!(status["troubles"][0]["with"], "host/lab", "{status}");
    assert_eq!(status["troubles"][0]["code"], "FS-HOST-FOLDER-MISSING", "{status}");
    fs::create_dir_all(missing.join("web")).unwrap();
    fs::write(missing.join("web/system.raw"), vec![7; 1 << 20]).unwrap();
    let found = site.farshore(&["discover", "lab", "-o", "json"]).good().json();
    assert_eq!((&found["host"], &found["vms"]), (&"lab".into(), &1.into()), "{found}");
    for verb in [&["get", "hosts"][..], &["describe", "host", "lab"], &["status"]] {
        let said = site.farshore(verb).good();
        assert!(!said.out.contains(words[0]), "what is mended is not told any more: {verb:?}: {said:?}");
    }
    site.stop();
}

#[test]
fn a_mistake_in_one_vm_takes_none_out_of_protection_in_silence() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    make_vm(&data, "db", 2);
    let site = Site::up(&data, &[]);
    wait_for_vm(&site, "db");
    let yaml = data.join("hosts/local/db/vm.yaml");
    fs::write(&yaml, "disks: [nope").unwrap();
    site.farshore(&["discover", "local"]).refused(1, &["FS-HOST-VM-YAML", "db", "what to do"]);
    let status = site.farshore(&["status"]).good().out;
    assert!(status.contains("FS-HOST-VM-YAML"), "{status}");
    // What was known stays known: the VM is still there for whoever stops or protects it.
    let vms = site.farshore(&["get", "vms"]).good().out;
    assert!(vms.contains("db") && vms.contains("web"), "{vms}");
    fs::remove_file(&yaml).unwrap();
    let found = site.farshore(&["discover", "local", "-o", "json"]).good().json();
    assert_eq!(found["vms"], 2, "{found}");
    // A host of a mover that nobody has defined is told at once.
    site.apply(&host("lab", &folder.path().join("vms")).replace("mover: local", "mover: nobody"));
    site.farshore(&["discover", "lab"]).refused(3, &["FS-CLI-MOVER-AWAY", "mover nobody is not defined"]);
    site.stop();
}

#[test]
fn no_folder_is_had_twice_and_none_lies_within_another_or_around_the_data_of_the_site() {
    let folder = tempfile::tempdir().unwrap();
    let site = Site::up(&folder.path().join("data"), &[]);
    let job = "apiVersion: farshore/v1\nkind: Job\nmetadata: {name: good}\nspec: {backup: {host: local, repository: local}}\n---\n";
    until("the site's own host", || site.state("host", "local")["Defined"].is_object().then_some(()));
    let data = site.folder.clone();
    let vms = folder.path().join("vms");
    site.apply(&host("first", &vms));
    let wrong = [
        (host("lab", &data.join("hosts/local")), "FS-HOST-FOLDER-TAKEN", "host/local"),
        (host("lab", &data.join("hosts/../hosts/local/")), "FS-HOST-FOLDER-TAKEN", "host/local"),
        (host("lab", &data.join("hosts/local/deeper")), "FS-HOST-FOLDER-TAKEN", "host/local"),
        (host("lab", &vms.join("inner")), "FS-HOST-FOLDER-TAKEN", "host/first"),
        (repository("lab", &vms.join("inner")), "FS-REPOSITORY-FOLDER-TAKEN", "host/first"),
        (repository("lab", &data.join("repository")), "FS-REPOSITORY-FOLDER-TAKEN", "repository/local"),
        (host("lab", &data), "FS-HOST-FOLDER-OURS", "its own data"),
        (host("lab", &data.join("log")), "FS-HOST-FOLDER-OURS", "its own data"),
        (host("lab", folder.path()), "FS-HOST-FOLDER-OURS", "its own data"),
        (host("lab", Path::new("/")), "FS-HOST-FOLDER-OURS", "beside the data folder"),
        (repository("lab", folder.path()), "FS-REPOSITORY-FOLDER-OURS", "its own data"),
        (host("lab", Path::new("vms")), "FS-HOST-FOLDER-RELATIVE", "the whole path"),
    ];
    for (wanted, code, why) in wrong {
        let file = folder.path().join("wrong.yaml");
        fs::write(&file, format!("{job}{wanted}")).unwrap();
        let said = farshore(&["apply", "-f", text(&file), "--data", text(&site.folder)]);
        said.refused(22, &[code, "/lab", why, "nothing was applied"]);
        assert_eq!(site.state("host", "lab"), Value::Null);
        assert_eq!(site.state("repository", "lab"), Value::Null);
        assert_eq!(site.state("job", "good"), Value::Null, "nothing of a refused text is applied");
    }
    site.stop();
}

fn web(site: &Site) -> Value {
    let vms = site.farshore(&["get", "vms", "-o", "json"]).good().json();
    vms.as_array().unwrap().iter().find(|vm| vm["vm"] == "web").unwrap().clone()
}

#[test]
fn what_a_mover_that_is_not_there_serves_is_unknown_and_how_to_run_it_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &["--agent", "one"]);
    wait_for_vm(&site, "web");
    site.farshore(&["vm", "power-on", "web"]).good();
    until("the guest's power", || (web(&site)["power"] == "on").then_some(()));
    assert!(!site.said().contains("does not run in this process"), "{}", site.said());
    site.stop();
    let site = Site::up(&data, &[]);
    let command = format!("farshore up --data {} --agent one", text(&data));
    until("what it says at its start", || site.said().contains(&command).then_some(()));
    assert!(site.said().contains("mover one does not run in this process"), "{}", site.said());
    let vm = web(&site);
    assert_eq!((&vm["power"], &vm["last_known"]["power"]), (&"unknown".into(), &"on".into()), "{vm}");
    assert!(vm["last_known"]["age_s"].is_u64() && vm["last_known"]["at"].is_i64(), "{vm}");
    assert!(vm["last_known"]["why"].as_str().unwrap().contains("mover one is not connected"), "{vm}");
    let table = site.farshore(&["get", "vms"]).good().out;
    assert!(table.contains("unknown") && !table.contains(" on "), "{table}");
    for verb in [&["status"][..], &["get", "movers"], &["get", "hosts"], &["describe", "vm", "web"]] {
        let said = site.farshore(verb).good();
        assert!(said.out.contains("not connected"), "{verb:?}: {said:?}");
    }
    site.farshore(&["discover", "local"]).refused(3, &["FS-CLI-MOVER-AWAY", "mover one is not connected"]);
    site.stop();
    let site = Site::up(&data, &["--agent", "one"]);
    // The guest went down when its site was stopped: the last known value would have been wrong.
    until("the guest's power", || (web(&site)["power"] == "off").then_some(()));
    assert_eq!(web(&site)["last_known"], Value::Null);
    site.farshore(&["vm", "power-on", "web"]).good();
    site.farshore(&["vm", "power-off", "web", "--host", "local"]).good();
    assert_eq!(web(&site)["power"], "off");
    site.stop();
}
