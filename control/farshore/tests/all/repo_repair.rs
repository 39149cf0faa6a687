//! `farshore repo verify --repair` and `--sample`, as an operator meets them.

use crate::repo::{Place, image, same};
use crate::support::{farshore, run, text};
use serde_json::json;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

/// Flips a bit.
fn flip(path: &Path, at: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

/// A repository with two points, whose disks are in `one.raw` and `two.raw`, and a copy of it.
fn two_points(passphrase: Option<&'static str>) -> Place {
    let place = Place::new(passphrase);
    for (point, seed) in [("one", 10), ("two", 20)] {
        image(&place.disk(), seed);
        place.back_up(point);
        // Not a copy, which would take space where the disk has holes.
        image(&place.path(&format!("{point}.raw")), seed);
    }
    copy(&place.repository(), &place.path("copy"));
    place
}

#[track_caller]
fn all_is_restored(place: &Place) {
    place.repo(&["verify"], &[]).good();
    for point in ["one", "two"] {
        let out = place.path(point);
        let _old = fs::remove_dir_all(&out);
        place.restore(point, point).good();
        same(&out.join("disk.raw"), &place.path(&format!("{point}.raw")));
    }
}

#[test]
fn whatever_is_damaged_is_mended_from_a_copy() {
    for passphrase in [None, Some("x")] {
        let place = two_points(passphrase);
        let [first, second] = &place.packs()[..2] else { panic!("two packs at least") };
        flip(first, 1 << 20);
        fs::remove_file(second).unwrap();
        // Nothing but the copy of the roster names the point now.
        fs::remove_file(place.repository().join("points/two")).unwrap();
        fs::remove_file(place.repository().join("roster")).unwrap();
        let index = fs::read_dir(place.repository().join("index")).unwrap().next().unwrap().unwrap().path();
        flip(&index, 5000);
        let said = place.repo(&["verify"], &[]);
        said.refused(21, &["FS-REPO-DAMAGE", "2 of 2 points cannot", "--repair"]);
        assert_eq!(said.json()["hurt"][0]["disks"], json!(["disk.raw"]), "{}", said.out);
        assert_eq!(said.json()["hurt"][1]["point"], "two", "{}", said.out);
        let copy = place.path("copy");
        let said = place.repo(&["verify"], &["--repair", "--from", text(&copy)]).good().json();
        assert_eq!(said["whole_again"], json!(["one", "two"]), "{said}");
        assert_eq!((&said["brought_back"], &said["nowhere"]), (&json!(["two"]), &json!(0)), "{said}");
        assert!(said["stored"].as_u64() > Some(0) && said["set_aside"] == 1, "{said}");
        all_is_restored(&place);
        let again = place.repo(&["verify"], &["--repair", "--from", text(&copy)]).good().json();
        assert_eq!((&again["stored"], &again["set_aside"]), (&json!(0), &json!(0)), "done twice: {again}");
        place.repo(&["prune"], &["--keep", "9", "--apply"]).good();
        all_is_restored(&place);
    }
}

#[test]
fn what_the_disk_still_holds_is_mended_from_it_and_the_rest_is_said() {
    let place = two_points(None);
    place.packs().iter().for_each(|pack| fs::remove_file(pack).unwrap());
    let one = place.path("one.raw");
    let said = place.repo(&["verify"], &["--repair", "--from-image", text(&one)]);
    said.refused(21, &["FS-REPO-DAMAGE", "1 of 2 points cannot"]);
    let found = said.json();
    assert_eq!((&found["whole_again"], &found["hurt"][0]["point"]), (&json!(["one"]), &json!("two")), "{found}");
    assert!(found["nowhere"].as_u64() > Some(0), "{found}");
    place.restore("one", "one").good();
    same(&place.path("one/disk.raw"), &one);
    place.restore("two", "two").refused(21, &["FS-REPO-"]);
    let two = place.path("two.raw");
    place.repo(&["verify"], &["--repair", "--from-image", text(&one), "--from-image", text(&two)]).good();
    fs::remove_dir_all(place.path("two")).unwrap();
    all_is_restored(&place);
}

#[test]
fn a_point_that_nobody_has_any_more_is_named_until_it_is_dropped() {
    let place = two_points(None);
    fs::remove_file(place.repository().join("points/one")).unwrap();
    for _ in 0..2 {
        place.repo(&["verify"], &["--repair"]).refused(21, &["1 of 2 points cannot"]);
    }
    let planned = place.repo(&["prune"], &["--points", "one"]).good().json();
    assert_eq!((&planned["go"], &planned["lost"]), (&json!([]), &json!(["one"])), "{planned}");
    place.repo(&["prune"], &["--points", "one", "--apply"]).good();
    place.repo(&["verify"], &[]).good();
    // One that is there and cannot be read goes by its name, too.
    flip(&place.repository().join("points/two"), 60);
    place.repo(&["prune"], &["--keep", "1", "--apply"]).refused(21, &["FS-REPO-DAMAGE"]);
    place.repo(&["prune"], &["--points", "two", "--apply"]).good();
    place.repo(&["verify"], &[]).good();
}

#[test]
fn what_is_no_copy_is_refused_and_so_is_the_folder_of_a_site() {
    let place = two_points(None);
    let other = place.path("other");
    farshore(&["repo", "init", text(&other), "--name", "o"]).good();
    flip(&place.repository().join("points/two"), 60);
    place.repo(&["verify"], &["--repair", "--from", text(&other)]).refused(22, &["FS-REPO-DOMAIN", text(&other)]);
    let owner = r#"{"site": "hq", "repository": "main", "lineage": "00112233445566778899aabbccddeeff", "epoch": 4}"#;
    fs::write(place.repository().join("owner.json"), owner).unwrap();
    let copy = place.path("copy");
    let from = ["--repair", "--from", text(&copy)];
    place.repo(&["verify"], &from).refused(22, &["FS-REPO-OWNED", "site hq", "--take-ownership"]);
    assert!(!place.repository().join("damaged").exists(), "nothing was changed");
    place.repo(&["verify"], &[&from[..], &["--take-ownership"]].concat()).good();
    let stats = place.repo(&["stats"], &[]).good().json();
    assert_eq!((&stats["owner"]["site"], &stats["owner"]["epoch"]), (&"offline".into(), &5.into()), "{stats}");
    all_is_restored(&place);
}

#[test]
fn a_sample_says_what_it_did_not_read() {
    let place = two_points(None);
    let all = place.repo(&["verify"], &[]).good().json();
    assert_eq!((&all["complete"], &all["unread"], &all["sample"]), (&json!(true), &json!(0), &json!(null)), "{all}");
    // What is drawn follows from the packs' ids too, which are random: some seed reads a part.
    let reads_a_part = |seed: &String| {
        let some = place.repo(&["verify"], &["--sample", "40", "--seed", seed]).good().json();
        let [records, unread] = ["records", "unread"].map(|field| some[field].as_u64().unwrap());
        assert_eq!(Some(records + unread), all["records"].as_u64(), "{some}");
        assert_eq!((&some["complete"], &some["sample"]["percent"]), (&json!(unread == 0), &json!(40)), "{some}");
        assert_eq!(some["sample"]["seed"].to_string(), *seed, "{some}");
        records > 10 && unread > 10
    };
    let seed = (0..50).map(|seed: u64| seed.to_string()).find(reads_a_part).unwrap();
    let sample = ["--sample", "40", "--seed", &seed];
    let table = run(crate::support::command(&[&["repo", "verify", text(&place.repository())][..], &sample].concat()))
        .good()
        .out;
    assert!(table.contains("were not read, and nothing is known of them") && table.contains("--seed "), "{table}");
    for pack in place.packs() {
        (0..fs::metadata(&pack).unwrap().len() >> 18).for_each(|at| flip(&pack, (at << 18) + 5000));
    }
    place.repo(&["verify"], &sample).refused(21, &["as far as a sample shows"]);
    place.repo(&["verify"], &["--sample", "0"]).refused(2, &["--sample"]);
    place.repo(&["verify"], &["--sample", "5", "--repair"]).refused(2, &["--repair"]);
}
