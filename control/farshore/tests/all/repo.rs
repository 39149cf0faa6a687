//! `farshore repo` on a folder alone: what goes in comes out, damage is told, nothing is overwritten.

use crate::support::{Said, command, farshore, run, text};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Bytes that do not compress, the same for the same seed.
pub(crate) fn noise(seed: u32, length: u32) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2_654_435_761) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    };
    (0..length / 4).flat_map(|_| next().to_le_bytes()).collect()
}

/// A disk with holes, of a size that is no multiple of a block.
pub(crate) fn image(path: &Path, seed: u32) {
    let file = File::create(path).unwrap();
    file.set_len((40 << 20) + 123).unwrap();
    for (part, offset) in [(0, 0), (1, 5 << 20), (2, 21 << 20)] {
        file.write_all_at(&noise(seed + part, 1 << 20), offset).unwrap();
    }
}

/// A folder with a disk and a repository.
pub(crate) struct Place {
    folder: tempfile::TempDir,
    passphrase: Option<&'static str>,
}

impl Place {
    pub(crate) fn new(passphrase: Option<&'static str>) -> Place {
        let place = Place { folder: tempfile::tempdir().unwrap(), passphrase };
        image(&place.disk(), 1);
        place.repo(&["init"], &["--name", "r"]).good();
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.path("disk.raw")
    }

    pub(crate) fn repository(&self) -> PathBuf {
        self.path("r")
    }

    /// `farshore -o json repo VERB PATH ARGS`, with the passphrase in the environment.
    pub(crate) fn repo(&self, verb: &[&str], args: &[&str]) -> Said {
        self.with(self.passphrase, verb, args)
    }

    pub(crate) fn with(&self, passphrase: Option<&str>, verb: &[&str], args: &[&str]) -> Said {
        let repository = self.repository();
        let mut command = command(&[&["-o", "json", "repo"], verb, &[text(&repository)], args].concat());
        command.env_remove("FARSHORE_PASSPHRASE").env_remove("FARSHORE_NEW_PASSPHRASE");
        if let Some(passphrase) = passphrase {
            command.env("FARSHORE_PASSPHRASE", passphrase);
        }
        run(command)
    }

    pub(crate) fn back_up(&self, point: &str) -> Said {
        self.repo(&["backup"], &[text(&self.disk()), "--vm", "web", "--point", point]).good()
    }

    pub(crate) fn restore(&self, point: &str, to: &str) -> Said {
        self.repo(&["restore"], &[point, "--to", text(&self.path(to))])
    }

    pub(crate) fn points(&self) -> Vec<String> {
        let listed = self.repo(&["points"], &[]).good().json();
        listed.as_array().unwrap().iter().map(|point| point["point"].as_str().unwrap().to_owned()).collect()
    }

    pub(crate) fn packs(&self) -> Vec<PathBuf> {
        let folders = fs::read_dir(self.repository().join("packs")).unwrap();
        folders
            .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
            .map(|pack| pack.unwrap().path())
            .collect()
    }
}

#[track_caller]
pub(crate) fn same(one: &Path, other: &Path) {
    assert!(fs::read(one).unwrap() == fs::read(other).unwrap(), "{} and {} differ", one.display(), other.display());
}

fn contains(path: &Path, wanted: &[u8]) -> bool {
    fs::read(path).unwrap().windows(wanted.len()).any(|window| window == wanted)
}

#[test]
fn what_was_backed_up_is_restored_byte_for_byte_encrypted_or_not() {
    for passphrase in [None, Some("correct horse")] {
        let place = Place::new(passphrase);
        let said = place.back_up("one").json();
        assert_eq!((&said["read"], &said["new"]), (&(3u64 << 20).into(), &(3u64 << 20).into()), "{said}");
        assert!(said["busy"]["proxy"].as_f64().unwrap() <= 1.0 && said["bottleneck"].is_string(), "{said}");
        let again = place.back_up("two").json();
        assert_eq!(again["new"], 0, "nothing is stored twice: {again}");
        assert_eq!(place.points(), ["one", "two"]);
        place.restore("one", "out").good();
        same(&place.path("out/disk.raw"), &place.disk());
        assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1, "nothing else is left there");
        let verified = place.repo(&["verify"], &[]).good().json();
        assert_eq!((&verified["points"], &verified["damage"]), (&2.into(), &serde_json::json!([])), "{verified}");
        let stats = place.repo(&["stats"], &[]).good().json();
        assert_eq!(stats["encrypted"], passphrase.is_some(), "{stats}");
        assert_eq!((&stats["points"], &stats["domain"]), (&2.into(), &"r".into()), "{stats}");
        let part = &noise(1, 1 << 20)[..4096];
        let readable = place.packs().iter().any(|pack| contains(pack, part));
        assert_eq!(readable, passphrase.is_none(), "an encrypted repository shows nothing of a disk");
    }
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_is_never_an_argument() {
    let place = Place::new(Some("right"));
    place.back_up("one");
    for given in [None, Some("wrong")] {
        for (verb, args) in [("points", &[][..]), ("verify", &[]), ("prune", &["--keep", "1", "--apply"])] {
            place.with(given, &[verb], args).refused(12, &["FS-REPO-KEY"]);
        }
    }
    place.with(Some(""), &["points"], &[]).refused(1, &["FS-REPO-PASSPHRASE"]);
    let file = place.path("passphrase");
    fs::write(&file, "right\nwrong\n").unwrap();
    place.with(None, &["points"], &["--passphrase-file", text(&file)]).refused(1, &["FS-REPO-PASSPHRASE", "one line"]);
    fs::write(&file, "right\n").unwrap();
    place.with(Some("wrong"), &["points"], &["--passphrase-file", text(&file)]).good();
    place.with(None, &["points"], &["--passphrase", "right"]).refused(2, &["--passphrase"]);
}

#[test]
fn passphrases_come_and_go_but_never_the_last() {
    let place = Place::new(Some("first"));
    place.back_up("one");
    let new = place.path("new");
    fs::write(&new, "second\n").unwrap();
    let added = place.repo(&["key", "add"], &["--new-passphrase-file", text(&new)]).good().json();
    assert_eq!(added["slot"], "1");
    assert_eq!(place.with(None, &["key", "list"], &[]).good().json(), serde_json::json!(["0", "1"]));
    slots_of_somebody_else_keep_none_waiting(&place);
    place.repo(&["key", "remove"], &["0"]).refused(22, &["FS-REPO-LAST-SLOT", "none of the key slots that would stay"]);
    place.repo(&["key", "remove"], &["7"]).refused(10, &["FS-REPO-NO-SLOT", "farshore repo key list"]);
    place.with(Some("second"), &["key", "remove"], &["0"]).good();
    place.repo(&["points"], &[]).refused(12, &["FS-REPO-KEY"]);
    place.with(Some("second"), &["key", "remove"], &["1"]).refused(22, &["last key slot", "farshore repo key add"]);
    place.with(Some("second"), &["verify"], &[]).good();
}

/// A slot that costs more is tried after those that cost less, wherever its name sorts, and one that costs too much never.
fn slots_of_somebody_else_keep_none_waiting(place: &Place) {
    let (good, put) = (place.repository().join("keys/0.json"), place.repository().join("keys/!.json"));
    let mut slot: serde_json::Value = serde_json::from_slice(&fs::read(good).unwrap()).unwrap();
    for (memory, why) in [(50_000, "does not open it"), (256 * 1024 + 1, "more than is granted")] {
        slot["memory"] = memory.into();
        fs::write(&put, slot.to_string()).unwrap();
        place.repo(&["points"], &[]).good();
        place.with(Some("wrong"), &["points"], &[]).refused(12, &["FS-REPO-KEY", "!.json", why]);
    }
    fs::remove_file(put).unwrap();
}

#[test]
fn damage_is_told_and_never_restored_as_if_it_were_whole() {
    let place = Place::new(Some("x"));
    place.back_up("one");
    let pack = place.packs().into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
    let (file, middle) = (File::options().read(true).write(true).open(&pack).unwrap(), 1 << 20);
    let mut byte = [0];
    file.read_exact_at(&mut byte, middle).unwrap();
    file.write_all_at(&[byte[0] ^ 1], middle).unwrap();
    let said = place.repo(&["verify"], &[]);
    said.refused(21, &["FS-REPO-DAMAGE"]);
    let found = said.json();
    assert_eq!(found["hurt"][0]["point"], "one", "{found}");
    assert!(
        found["damage"][0]["what"].as_str().unwrap().ends_with(text(Path::new(pack.file_name().unwrap()))),
        "{found}"
    );
    place.restore("one", "out").refused(21, &["FS-REPO-"]);
    let left: Vec<_> = fs::read_dir(place.path("out")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(left.is_empty(), "nothing that looks like a disk: {left:?}");
    let repository = place.repository();
    let mut table = command(&["repo", "restore", text(&repository), "one", "--to", text(&place.path("out"))]);
    table.env("FARSHORE_PASSPHRASE", "x");
    let said = run(table);
    assert!(said.out.contains("failed: disk disk.raw") && !said.out.contains("restored"), "{}", said.out);
}

#[test]
fn what_verify_found_is_stored_anew_by_the_next_backup() {
    for passphrase in [None, Some("x")] {
        let place = Place::new(passphrase);
        place.back_up("one");
        let pack = place.packs().into_iter().max_by_key(|pack| fs::metadata(pack).unwrap().len()).unwrap();
        let sound = fs::read(&pack).unwrap();
        let mut bytes = sound.clone();
        bytes[1 << 20] ^= 1;
        fs::write(&pack, &bytes).unwrap();
        let found = place.repo(&["verify"], &[]);
        found.refused(21, &["FS-REPO-DAMAGE", "1 of 1 point cannot", "back the VMs up again"]);
        assert_eq!(found.json()["kept"], true);
        let said = place.back_up("two").json();
        assert!(said["new"].as_u64().unwrap() > 0, "{said}");
        for point in ["one", "two"] {
            place.restore(point, point).good();
            same(&place.path(point).join("disk.raw"), &place.disk());
        }
        let again = place.repo(&["verify"], &[]);
        again.refused(21, &["0 of 2 points cannot"]);
        assert_eq!(again.json()["hurt"], serde_json::json!([]));
        fs::write(&pack, &sound).unwrap();
        place.repo(&["verify"], &[]).good();
        assert!(!place.repository().join("damaged").exists());
    }
}

#[test]
fn a_restore_overwrites_nothing_and_one_bad_disk_does_not_hold_the_others_back() {
    let place = Place::new(None);
    let other = place.path("other.raw");
    image(&other, 70);
    let said = place.repo(&["backup"], &[text(&place.disk()), text(&other), "--vm", "web", "--point", "one"]).good();
    assert_eq!(said.json()["disks"].as_array().unwrap().len(), 2);
    fs::create_dir(place.path("out")).unwrap();
    fs::write(place.path("out/other.raw"), "mine").unwrap();
    place.restore("one", "out").refused(22, &["FS-REPO-EXISTS", "other.raw"]);
    assert_eq!(fs::read(place.path("out/other.raw")).unwrap(), b"mine");
    assert_eq!(fs::read_dir(place.path("out")).unwrap().count(), 1);
    place.repo(&["restore"], &["one", "--to", text(&place.path("out")), "--disk", "disk.raw"]).good();
    same(&place.path("out/disk.raw"), &place.disk());
    place.repo(&["restore"], &["one", "--to", text(&place.path("out")), "--disk", "no.raw"]).refused(10, &["NO-DISK"]);
    place.repo(&["restore"], &["two", "--to", text(&place.path("out"))]).refused(10, &["FS-REPO-NO-POINT"]);
    let part = &noise(71, 1 << 20)[..4096];
    let pack = place.packs().into_iter().find(|pack| contains(pack, part)).expect("the disk is in a pack");
    let bytes = fs::read(&pack).unwrap();
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap() as u64;
    File::options().write(true).open(&pack).unwrap().write_all_at(b"damage", at).unwrap();
    place.restore("one", "some").refused(3, &["1 of 2 disks"]);
    same(&place.path("some/disk.raw"), &place.disk());
    assert_eq!(fs::read_dir(place.path("some")).unwrap().count(), 1, "the bad disk left nothing");
}

#[test]
fn a_prune_shows_its_plan_first_and_frees_in_two_steps() {
    let place = Place::new(Some("x"));
    for (seed, point) in [(100, "one"), (200, "two"), (300, "three")] {
        image(&place.disk(), seed);
        place.back_up(point);
    }
    let planned = place.repo(&["prune"], &["--keep", "1"]).good().json();
    assert_eq!((&planned["go"], &planned["stay"]), (&serde_json::json!(["one", "two"]), &serde_json::json!(["three"])));
    assert_eq!(place.points(), ["one", "two", "three"], "a plan changes nothing");
    place.repo(&["prune"], &["--points", "one,none"]).refused(10, &["FS-REPO-NO-POINT"]);
    let named = place.repo(&["prune"], &["--points", "one,two"]).good().json();
    assert_eq!(named["go"], planned["go"]);
    let applied = place.repo(&["prune"], &["--keep", "1", "--apply"]).good().json();
    assert!(applied["marked"].as_u64().unwrap() >= 6 << 20 && applied["freed"] == 0, "{applied}");
    assert_eq!(place.points(), ["three"]);
    let freed = place.repo(&["prune"], &["--keep", "1", "--apply"]).good().json();
    assert!(freed["freed"].as_u64() >= applied["marked"].as_u64(), "{freed}");
    let trash = place.repo(&["stats"], &[]).good().json()["trash"].as_u64().unwrap();
    assert_eq!(trash, 0, "what the first put there is gone");
    place.restore("three", "out").good();
    same(&place.path("out/disk.raw"), &place.disk());
    place.repo(&["verify"], &[]).good();
}

#[test]
fn a_sites_repository_is_pruned_by_the_site_until_it_is_taken_from_it() {
    let place = Place::new(None);
    for point in ["one", "two"] {
        place.back_up(point);
    }
    let owner = r#"{"site": "hq", "repository": "main", "lineage": "00112233445566778899aabbccddeeff", "epoch": 4}"#;
    fs::write(place.repository().join("owner.json"), owner).unwrap();
    place.repo(&["prune"], &["--keep", "1"]).good();
    place.repo(&["prune"], &["--keep", "1", "--apply"]).refused(22, &["FS-REPO-OWNED", "site hq", "--take-ownership"]);
    assert_eq!(place.points(), ["one", "two"]);
    assert_eq!(fs::read_to_string(place.repository().join("owner.json")).unwrap(), owner);
    place.repo(&["prune"], &["--keep", "1", "--apply", "--take-ownership"]).good();
    let stats = place.repo(&["stats"], &[]).good().json();
    assert_eq!((&stats["owner"]["site"], &stats["owner"]["epoch"]), (&"offline".into(), &5.into()), "{stats}");
    place.repo(&["prune"], &["--keep", "1", "--apply"]).good();
    assert_eq!(place.points(), ["two"]);
}

#[test]
fn a_backup_of_changes_reads_only_them() {
    let place = Place::new(Some("x"));
    place.back_up("one");
    let file = File::options().write(true).open(place.disk()).unwrap();
    file.write_all_at(&noise(900, 8192), (21 << 20) + 5000).unwrap();
    let list = place.path("changed");
    fs::write(&list, format!("{} 8192\n", (21 << 20) + 5000)).unwrap();
    let disk = place.disk();
    let args = [text(&disk), "--vm", "web", "--point", "two", "--changed", text(&list), "--base"];
    let said = place.repo(&["backup"], &[&args[..], &["one"]].concat()).good().json();
    let read = said["read"].as_u64().unwrap();
    assert!((8192..2 << 20).contains(&read), "much less than the disk holds: {said}");
    place.restore("two", "out").good();
    same(&place.path("out/disk.raw"), &place.disk());
    place.repo(&["backup"], &[&args[..], &["none"]].concat()).refused(22, &["FS-REPO-POINT-EXISTS"]);
    let three = [text(&disk), "--vm", "db", "--point", "three", "--changed", text(&list), "--base", "one"];
    place.repo(&["backup"], &three).refused(22, &["FS-REPO-BASE", "web"]);
    fs::write(&list, "0 1\nmore\n").unwrap();
    let four = [text(&disk), "--vm", "web", "--point", "four", "--changed", text(&list), "--base", "one"];
    place.repo(&["backup"], &four).refused(1, &["FS-REPO-CHANGED", "line 2"]);
}

#[test]
fn two_repositories_of_one_domain_cut_alike_and_the_secret_never_leaves_in_clear() {
    let place = Place::new(Some("x"));
    let (other, clear) = (place.path("other"), place.path("clear"));
    let join =
        |path: &Path| command(&["repo", "init", text(path), "--name", "o", "--domain-from", text(&place.repository())]);
    let mut with = join(&other);
    with.env("FARSHORE_PASSPHRASE", "x");
    run(with).good();
    let pass = place.path("pass");
    fs::write(&pass, "x").unwrap();
    let mut without = join(&clear);
    without.env_remove("FARSHORE_PASSPHRASE").args(["--domain-passphrase-file", text(&pass)]);
    run(without).refused(22, &["FS-REPO-DOMAIN"]);
    assert!(!clear.exists());
    let stats =
        farshore(&["-o", "json", "repo", "stats", text(&other), "--passphrase-file", text(&pass)]).good().json();
    assert_eq!((&stats["repository"], &stats["domain"]), (&"o".into(), &"r".into()), "{stats}");
}

#[test]
fn wrong_places_and_names_are_refused_with_what_to_do() {
    let place = Place::new(None);
    place.repo(&["init"], &["--name", "r"]).refused(22, &["FS-REPO-ALREADY", "holds a repository already"]);
    place.repo(&["key", "remove"], &["0"]).refused(22, &["FS-REPO-NO-KEY"]);
    let others = place.path("others");
    fs::create_dir(&others).unwrap();
    fs::write(others.join("letter"), "dear").unwrap();
    farshore(&["repo", "init", text(&others), "--name", "o"]).refused(22, &["FS-REPO-FOREIGN"]);
    let nowhere = place.path("nowhere");
    farshore(&["repo", "points", text(&nowhere)]).refused(10, &["FS-REPO-NOT-HERE", "farshore repo init"]);
    assert!(!nowhere.exists());
    let missing = place.path("missing.raw");
    place.repo(&["backup"], &[text(&missing), "--vm", "web"]).refused(1, &["FS-IO", "missing.raw"]);
    for no_disk in [others.as_path(), Path::new("/dev/null")] {
        place.repo(&["backup"], &[text(no_disk), "--vm", "web"]).refused(22, &["FS-REPO-NOT-A-DISK"]);
    }
    assert_eq!(place.points(), [""; 0]);
    let twice = [text(&place.disk()).to_owned(), text(&place.disk()).to_owned()];
    place.repo(&["backup"], &[&twice[0], &twice[1], "--vm", "web"]).refused(1, &["FS-REPO-DISK-NAME"]);
    let made = place.repo(&["backup"], &[text(&place.disk()), "--vm", "Web 1"]).good().json();
    let point = made["point"].as_str().unwrap();
    assert!(point.starts_with("web-1-"), "{point}");
    assert_eq!(place.points(), [point]);
}
