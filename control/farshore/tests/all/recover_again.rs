//! A site that is recovered more than once, from copies that are damaged, and folders that belong to somebody else.

use crate::recover::{World, kept, state_at};
use crate::site::Site;
use crate::support::{farshore, text, until};
use serde_json::Value;
use std::fs;
use std::path::Path;

#[test]
fn a_site_that_is_recovered_again_before_the_first_recovery_kept_anything_has_its_repository() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    drop(site); // Killed, and its disk is lost.
    let (_, first) = world.owner();
    world.recover("second", &[]).good();
    // Nobody reaches the log of this one: its agent takes the folder over, and nothing of the log comes there.
    let site = Site::up(&world.at("second"), &["--log-advertise", "127.0.0.1:1"]);
    let taken = until("the folder taken over", || Some(world.owner().1).filter(|owner| *owner != first));
    drop(site);
    assert_eq!(fs::read_dir(world.at("vault/log")).unwrap().count(), 1, "the log there does not know of it");

    world.recover("third", &[]).good();
    let site = Site::up(&world.at("third"), &[]);
    site.farshore(&["job", "run", "nightly"]).good();
    assert_ne!(kept(&site)["lineage"], taken.as_str());
    let log =
        farshore(&["-o", "json", "log", "ls", "--data", text(&world.at("third")), "--limit", "100000"]).good().out;
    assert!(log.contains("OwnedBefore"), "it is in the log");
    site.stop();
    farshore(&["log", "replay", "--check", "--data", text(&world.at("third"))]).good();
    farshore(&["repo", "verify", text(&world.at("vault"))]).good();
    // A part of the log, which knows neither of the lineages that came after it.
    let made = world.recover("part", &["--lineage", &first]).good().json();
    assert_eq!(made["lineage"], first.as_str());
    let site = Site::up(&world.at("part"), &[]);
    site.farshore(&["job", "run", "nightly"]).good();
}

#[test]
fn a_folder_is_taken_from_another_owner_by_an_operators_decision_and_the_other_is_shut_out() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    world.recover("new", &[]).good();
    let site = Site::up(&world.at("new"), &[]);
    kept_now(&site);
    let (owner, _) = world.owner();
    // It runs, and holds the folder's lock: nobody else gets it.
    let adopt = ["repo", "adopt", "vault"];
    farshore(&["repo", "adopt", text(&world.at("vault")), "--take-ownership"]).refused(11, &["FS-REPO-LOCKED"]);
    site.stop();

    let site = Site::up(&world.at("data"), &[]);
    assert!(site.farshore(&["job", "run", "nightly"]).code != 0, "the folder has passed on");
    let refused = site.farshore(&adopt);
    refused.refused(22, &["FS-REPO-ADOPT", "--reason"]);
    let (lineage, _) = owner.split_once('/').unwrap();
    let earlier = format!("{lineage}/1");
    let reason = ["--reason", "the recovered one was a rehearsal"];
    site.farshore(&[&adopt[..], &["--from", &earlier], &reason].concat())
        .refused(1, &["FS-REPO-NOT-ADOPTED", &owner.replace('/', ", epoch ")]);
    site.farshore(&[&adopt[..], &["--from", &owner], &reason].concat()).good();
    site.farshore(&["job", "run", "nightly"]).good();
    let adopted = site.state("repository", "vault")["Defined"]["log"]["adopted"].clone();
    assert_eq!(format!("{}/{}", adopted["lineage"].as_str().unwrap(), adopted["epoch"]), owner, "it is in the log");
    site.stop();

    let site = Site::up(&world.at("new"), &[]);
    assert!(site.farshore(&["job", "run", "nightly"]).code != 0, "it is shut out");
    site.stop();
    // Without any site, and back to one.
    let taken = farshore(&["-o", "json", "repo", "adopt", text(&world.at("vault")), "--take-ownership"]).good().json();
    let now = taken["now"].as_str().unwrap();
    assert_eq!(now, world.owner().0);
    let site = Site::up(&world.at("new"), &[]);
    site.farshore(&[&adopt[..], &["--from", now], &reason].concat()).good();
    site.farshore(&["job", "run", "nightly"]).good();
}

/// Waits until the log of a recovered site is in the repository, under the lineage that it has now.
fn kept_now(site: &Site) {
    let status = site.farshore(&["-o", "json", "status"]).good().json();
    until("the log of the recovered site", || (kept(site)["lineage"] == status["lineage"]).then_some(()));
}

#[test]
fn where_the_log_is_said_to_be_is_an_address() {
    let world = World::new();
    for nonsense in ["nonsense", ":1", "host:", "host:70000", "a b:1", "[::1:1", "http://host:1", "[::1]"] {
        let data = world.at("data");
        let said = farshore(&["control", "--data", text(&data), "--log-advertise", nonsense]);
        said.refused(2, &["HOST:PORT"]);
        assert!(!data.exists());
    }
}

/// Damages a file; what it held.
fn damage(path: &Path) -> Vec<u8> {
    let whole = fs::read(path).unwrap();
    let mut bytes = whole.clone();
    bytes[whole.len() / 2] ^= 1;
    fs::write(path, &bytes).unwrap();
    whole
}

#[test]
fn a_damaged_piece_of_an_older_lineage_is_fetched_again_while_the_site_has_its_frames() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    let older = world.pieces();
    let site = Site::up(&world.at("data"), &["--renew-lineage", "a rehearsal"]);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    assert_eq!(world.pieces().len(), 2);
    damage(&older[0]);
    farshore(&["repo", "verify", text(&world.at("vault"))]).refused(21, &["FS-REPO-LOG-DAMAGE"]);
    let site = Site::up(&world.at("data"), &[]);
    site.farshore(&["job", "run", "nightly"]).good();
    let frame = kept(&site)["seq"].as_u64().unwrap();
    site.stop();
    farshore(&["repo", "verify", text(&world.at("vault"))]).good();
    let made = world.recover("new", &[]).good().json();
    assert_eq!((&made["frame"], &made["state"]), (&frame.into(), &state_at(&world.at("data"), frame)));
}

#[test]
fn damage_is_told_with_a_way_out_that_works_and_that_of_an_abandoned_log_stops_nothing() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    // Two logs that go on from the first: one that was given up, and the one that the site has.
    let piece_of = |made: &Value| world.at("vault/log").join(made["lineage"].as_str().unwrap());
    let mut lineages = vec![piece_of(&kept_of(&world))];
    for name in ["given-up", "site"] {
        world.recover(name, &["--lineage", lineages[0].file_name().unwrap().to_str().unwrap()]).good();
        let site = Site::up(&world.at(name), &[]);
        kept_now(&site);
        lineages.push(piece_of(&kept_of(&world)));
        site.stop();
    }
    let piece = |folder: &Path| fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    let [first, given_up, site] = &lineages[..] else { panic!("three") };
    let whole = damage(&piece(given_up));
    let made = world.recover("whole", &[]).good().json();
    assert_eq!(&piece_of(&made), site, "the newest is had, whatever became of the other");
    fs::write(piece(given_up), whole).unwrap();

    let whole = damage(&piece(site));
    let said = world.recover("deep/er/new", &[]);
    said.refused(21, &["FS-SITE-LOG-DAMAGED", text(&piece(site)), "--lineage", "--until"]);
    assert!(!world.at("deep").exists(), "what fails leaves nothing");
    let told: Value = serde_json::from_str(&said.err).unwrap();
    let advice = told["advice"].as_str().unwrap();
    let how: Vec<&str> = advice.split_whitespace().skip_while(|word| !word.starts_with("--")).collect();
    assert_eq!((how.len(), how[1]), (4, first.file_name().unwrap().to_str().unwrap()), "{advice}");
    let made = world.recover("deep/er/new", &how).good().json();
    assert_eq!(made["frame"].to_string(), how[3], "the advice works");
    fs::write(piece(site), whole).unwrap();

    let whole = damage(&piece(first));
    world.recover("none", &[]).refused(21, &["FS-SITE-LOG-DAMAGED", text(&piece(first)), "good up to frame 0"]);
    fs::write(piece(first), whole).unwrap();
    fs::remove_file(piece(first)).unwrap();
    world.recover("none", &[]).refused(21, &["FS-SITE-LOG-DAMAGED", "good up to frame 0"]);
}

/// The lineage that owns the folder.
fn kept_of(world: &World) -> Value {
    serde_json::json!({ "lineage": world.owner().1 })
}

#[test]
fn a_site_is_recovered_through_a_link_by_one_at_a_time_and_what_else_lies_in_the_log_stops_nothing() {
    let world = World::new();
    let site = world.begin(false);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    for stray in ["log/README", "packs/README", "points/READ ME"] {
        fs::write(world.at("vault").join(stray), "not yours").unwrap();
    }
    site.farshore(&["job", "run", "nightly"]).good();
    site.stop();
    let site = Site::up(&world.at("data"), &[]);
    site.farshore(&["job", "run", "nightly"]).good();
    kept(&site);
    site.stop();
    let verified = farshore(&["repo", "verify", text(&world.at("vault"))]).good().out;
    assert!(
        ["log/README", "packs/README", "points/READ ME"].iter().all(|stray| verified.contains(stray)),
        "{verified}"
    );

    // A link to an empty folder is followed; one to nothing is no place.
    fs::create_dir(world.at("empty")).unwrap();
    std::os::unix::fs::symlink("empty", world.at("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", world.at("dangling")).unwrap();
    world.recover("dangling", &[]).refused(22, &["FS-SITE-FOLDER"]);
    // Another recovery holds the folder beside it.
    let beside = world.at(".empty.recovering");
    fs::create_dir(&beside).unwrap();
    fs::write(beside.join("file"), "of the other one").unwrap();
    let other = fs::File::open(&beside).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    world.recover("link", &[]).refused(11, &["FS-SITE-BUSY"]);
    assert!(beside.join("file").exists(), "the other one goes on");
    drop(other);
    // Killed, it is in nobody's way. The repository may be named from where one stands.
    let to = world.at("link");
    let mut recover = crate::support::command(&["site", "recover", "--from-repository", "vault", "--data", text(&to)]);
    recover.current_dir(world.folder.path());
    crate::support::run(recover).good();
    assert!(!beside.exists() && world.at("empty/site").exists() && world.at("link").is_symlink());
    let noted: Value = serde_json::from_slice(&fs::read(world.at("empty/recovered.json")).unwrap()).unwrap();
    assert_eq!(noted["repository"], text(&world.at("vault")));
    let left = fs::read_dir(world.folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_string_lossy().ends_with(".recovering")), "nothing is left");
}
