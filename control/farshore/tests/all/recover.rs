//! A site whose data folder is gone comes back from the copy of its log that a repository keeps.

use crate::bad_input::BACKUP;
use crate::site::Site;
use crate::support::{farshore, sha256, text, until};
use farshore_hosts::{DemoVm, FolderHost};
use farshore_schemas::ids::VmName;
use farshore_schemas::units::ByteCount;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

/// A site with a VM on a host and a repository that lie outside its data folder, so that they outlive it.
pub(crate) struct World {
    pub(crate) folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> World {
        let world = World { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(world.at("vms")).unwrap();
        let vm = VmName::parse("web").unwrap();
        let demo = DemoVm { vm: &vm, seed: 1, size: ByteCount(24 << 20), disks: 1 };
        FolderHost::open(&world.at("vms")).unwrap().demo_vm(&demo).unwrap();
        fs::write(world.at("pass"), "correct horse\n").unwrap();
        world
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The site, new, with its job.
    pub(crate) fn begin(&self, encrypted: bool) -> Site {
        let site = Site::up(&self.at("data"), &["--site", "hq"]);
        let pass = format!(", encryption: {{passphraseFile: {}}}", text(&self.at("pass")));
        site.apply(&format!(
            "apiVersion: farshore/v1\nkind: Host\nmetadata: {{name: vms}}\nspec: {{mover: local, folder: {}}}\n---\n\
             apiVersion: farshore/v1\nkind: Repository\nmetadata: {{name: vault}}\nspec: {{mover: local, path: {}{}}}\n---\n{}",
            text(&self.at("vms")),
            text(&self.at("vault")),
            if encrypted { &pass } else { "" },
            BACKUP
                .replace("repository: local", "repository: vault")
                .replace("host: local", "host: vms")
                // A site that has just come up may not have heard yet where its agent listens now.
                .replace("attempts: 0", "attempts: 2"),
        ));
        until("the VM in the inventory", || {
            (!site.state("host", "vms")["Defined"]["inventory"]["web"].is_null()).then_some(())
        });
        site
    }

    pub(crate) fn recover(&self, to: &str, args: &[&str]) -> crate::support::Said {
        let (vault, to) = (self.at("vault"), self.at(to));
        let all = ["-o", "json", "site", "recover", "--from-repository", text(&vault), "--data", text(&to)];
        farshore(&[&all, args].concat())
    }

    /// Whose the repository's folder is, as `repo adopt` names it.
    pub(crate) fn owner(&self) -> (String, String) {
        let text = fs::read(self.at("vault/owner.json")).unwrap();
        let owner: Value = serde_json::from_slice(&text).unwrap();
        let lineage = owner["lineage"].as_str().unwrap().to_owned();
        (format!("{lineage}/{}", owner["epoch"]), lineage)
    }

    /// The files of the log's copy, in order.
    pub(crate) fn pieces(&self) -> Vec<PathBuf> {
        let lineages = fs::read_dir(self.at("vault/log")).unwrap().map(|entry| entry.unwrap().path());
        let mut pieces: Vec<PathBuf> =
            lineages.flat_map(|folder| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path())).collect();
        pieces.sort();
        pieces
    }
}

/// What the repository's actor knows of the copy, once nothing is under way any more.
pub(crate) fn kept(site: &Site) -> Value {
    until("the log in the repository", || {
        let vault = site.state("repository", "vault")["Defined"].clone();
        let quiet = vault["orders"]["open"].as_object().is_some_and(serde_json::Map::is_empty)
            && vault["log"]["owed"].is_null();
        (quiet && !vault["log"]["kept"].is_null()).then(|| vault["log"]["kept"].clone())
    })
}

/// The state of the log in a folder at a frame.
pub(crate) fn state_at(data: &Path, frame: u64) -> Value {
    let until = frame.to_string();
    farshore(&["-o", "json", "log", "replay", "--until", &until, "--data", text(data)]).good().json()["state"].clone()
}

/// All the points of the repository, by what a site knows of it.
fn points(site: &Site) -> Vec<String> {
    let vault = site.state("repository", "vault");
    vault["Defined"]["points"].as_object().unwrap().keys().cloned().collect()
}

#[test]
fn a_site_that_lost_its_data_folder_comes_back_from_its_repository() {
    let world = World::new();
    let pass = world.at("pass");
    let with = ["--passphrase-file", text(&pass)];
    let site = world.begin(true);
    site.farshore(&["job", "run", "nightly"]).good();
    let safe = kept(&site);
    let frame = safe["seq"].as_u64().unwrap();
    let status = site.farshore(&["status"]).good().out;
    assert!(status.contains(&format!("frame {frame} of it is safe in repository/vault")), "{status}");
    let before = points(&site);
    assert_eq!(before.len(), 1);
    drop(site); // Killed.
    let state = state_at(&world.at("data"), frame);
    fs::remove_dir_all(world.at("data")).unwrap();

    world.recover("new", &[]).refused(12, &["FS-REPO-KEY"]);
    assert!(!world.at("new").exists(), "what fails leaves nothing");
    let made = world.recover("new", &with).good().json();
    assert_eq!((&made["site"], &made["frame"], &made["state"]), (&"hq".into(), &frame.into(), &state), "{made}");
    let new = world.at("new");
    let hash = farshore(&["-o", "json", "log", "hash", "--data", text(&new)]).good().json();
    assert_eq!((&hash["state"], &hash["seq"]), (&state, &frame.into()), "the same log, the same state");
    farshore(&["log", "verify", "--data", text(&new)]).good();
    farshore(&["log", "replay", "--check", "--data", text(&new)]).good();
    world.recover("new", &with).refused(22, &["FS-SITE-NOT-EMPTY"]);

    let site = Site::up(&new, &[]);
    assert!(site.said().contains("FS-LOG-RECOVERED"), "{}", site.said());
    assert!(site.farshore(&["status"]).good().out.contains("FS-RUNTIME-RENEWED"), "the operator sees it");
    assert_eq!(points(&site), before, "its points are known");
    let restore = ["restore", "--repository", "vault", "--point", &before[0], "--host", "vms", "--vm", "back"];
    site.farshore(&restore).good();
    let disk = |vm: &str| {
        let folder = world.at("vms").join(vm);
        let disks = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        disks
            .filter(|path| path.extension().is_some_and(|end| end == "raw" || end == "img"))
            .map(|path| sha256(&path))
            .collect::<Vec<_>>()
    };
    assert!(!disk("web").is_empty());
    assert_eq!(disk("back"), disk("web"), "the point is restored with the recovered site");

    // It goes on, and its own log goes with the data, beside the one that was lost.
    site.farshore(&["job", "run", "nightly"]).good();
    let again = kept(&site);
    assert_ne!(again["lineage"], safe["lineage"]);
    assert_eq!(fs::read_dir(world.at("vault/log")).unwrap().count(), 2);
    let frame = again["seq"].as_u64().unwrap();
    site.stop();
    farshore(&[&["repo", "verify", text(&world.at("vault"))], &with[..]].concat()).good();
    let made = world.recover("third", &with).good().json();
    assert_eq!((&made["frame"], &made["state"]), (&frame.into(), &state_at(&new, frame)), "{made}");
    let listed = farshore(&["log", "ls", "--data", text(&new), "-o", "json", "--limit", "100000"]).good().out;
    assert_eq!(listed.matches("lineage renewed").count(), 1, "once is enough");
}

#[test]
fn a_site_that_is_killed_right_after_a_point_keeps_its_log_when_it_runs_again() {
    let world = World::new();
    let site = world.begin(false);
    for _ in 0..3 {
        site.farshore(&["job", "run", "nightly"]).good();
    }
    drop(site); // Killed, whatever the agent was doing with the log.
    let site = Site::up(&world.at("data"), &[]);
    let frame = kept(&site)["seq"].as_u64().unwrap();
    site.stop();
    let made = world.recover("new", &[]).good().json();
    assert_eq!((&made["frame"], &made["state"]), (&frame.into(), &state_at(&world.at("data"), frame)));
}

#[test]
fn a_damaged_copy_of_the_log_is_refused_with_its_place_and_how_far_it_is_good() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    let frame = kept(&site)["seq"].as_u64().unwrap();
    site.stop();
    let pieces = world.pieces();
    let whole = fs::read(&pieces[0]).unwrap();
    for at in [0, 9, 11, 20, 60, whole.len() / 2, whole.len() - 1] {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&pieces[0], &bytes).unwrap();
        let said = world.recover("new", &[]);
        said.refused(21, &["FS-SITE-LOG-DAMAGED", text(&pieces[0]), "at offset", "good up to frame 0"]);
        assert!(!world.at("new").exists(), "nothing is made of it");
        farshore(&["repo", "verify", text(&world.at("vault"))]).refused(21, &["FS-REPO-LOG-DAMAGE", "1 point can be"]);
    }
    fs::write(&pieces[0], &whole).unwrap();
    farshore(&["repo", "verify", text(&world.at("vault"))]).good();
    let part = (frame / 2).to_string();
    let made = world.recover("part", &["--until", &part]).good().json();
    assert_eq!(made["state"], state_at(&world.at("data"), frame / 2), "a part of it is the log up to there");
    world.recover("none", &["--until", &(frame + 1).to_string()]).refused(10, &["FS-SITE-FRAME"]);
}

#[test]
fn a_log_that_was_put_back_without_a_new_lineage_is_not_kept_and_the_operator_is_told() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    let copy = |from: &Path, to: &Path| {
        let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
        assert!(copied.success());
    };
    copy(&world.at("data"), &world.at("older"));
    let site = Site::up(&world.at("data"), &[]);
    site.farshore(&["job", "run", "nightly"]).good();
    let newest = kept(&site);
    site.stop();
    // The older copy takes the place of the site without a word.
    fs::rename(world.at("data"), world.at("newer")).unwrap();
    copy(&world.at("older"), &world.at("data"));
    let site = Site::up(&world.at("data"), &[]);
    let status = until("the warning", || {
        let _run = site.farshore(&["job", "run", "nightly"]);
        let out = site.farshore(&["status"]).good().out;
        (out.contains("FS-REPO-LOG-BEHIND") || out.contains("FS-REPO-LOG-FORK")).then_some(out)
    });
    assert!(status.contains("--renew-lineage"), "{status}");
    site.stop();
    let made = world.recover("new", &[]).good().json();
    assert_eq!(made["frame"], newest["seq"], "what was kept is not written over");
}
