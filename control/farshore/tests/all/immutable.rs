//! Points that nobody may drop before their date: not an operator, not retention, not whoever takes the folder over.

use crate::bad_input::{BACKUP, make_vm, wait_for_vm};
use crate::repo::{Place, image, same};
use crate::site::Site;
use crate::support::{farshore, text};
use std::path::PathBuf;
use std::process::Command;

/// Takes the file system's attribute off when a test ends, or its folder could not be deleted.
struct Deletable(PathBuf);

impl Drop for Deletable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").args(["-R", "-f", "-i"]).arg(&self.0).status();
    }
}

#[test]
fn an_immutable_point_stays_by_name_and_by_rule() {
    let place = Place::new(Some("x"));
    let _deletable = Deletable(place.repository());
    image(&place.disk(), 100);
    let day = 86_400_000;
    let disk = place.disk();
    let one = [text(&disk), "--vm", "web", "--point", "one", "--immutable", "1"];
    let begun = jiff::Timestamp::now().as_millisecond() + day;
    let until = place.repo(&["backup"], &one).good().json()["immutable"].as_i64().unwrap();
    assert!((begun..begun + day).contains(&until), "{until}");
    image(&place.disk(), 200);
    place.back_up("two");
    image(&place.disk(), 300);
    place.back_up("three");
    place.repo(&["prune"], &["--points", "two,one"]).refused(22, &["FS-REPO-IMMUTABLE", "one"]);
    place.repo(&["prune"], &["--points", "one", "--apply"]).refused(22, &["FS-REPO-IMMUTABLE", "wait for that date"]);
    let planned = place.repo(&["prune"], &["--keep", "1", "--apply"]).good().json();
    assert_eq!((&planned["go"], &planned["stay"]), (&serde_json::json!(["two"]), &serde_json::json!(["one", "three"])));
    assert!(planned["why"]["one"].as_str().unwrap().starts_with("immutable until 20"), "{planned}");
    let stats = place.repo(&["stats"], &[]).good().json();
    assert_eq!(stats["immutable"]["points"], 1, "{stats}");
    place.repo(&["verify"], &[]).good();
    image(&place.disk(), 100);
    place.restore("one", "out").good();
    same(&place.path("out/disk.raw"), &place.disk());
    let days = ["--vm", "web", "--immutable", "0"];
    place.repo(&["backup"], &[&[text(&place.disk())][..], &days].concat()).refused(2, &["1..=9999"]);
}

#[test]
fn a_sites_points_stay_whatever_its_job_keeps_and_whoever_takes_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (data, vault) = (folder.path().join("data"), folder.path().join("vault"));
    let _deletable = Deletable(vault.clone());
    make_vm(&data, "web", 1);
    let site = Site::up(&data, &[]);
    wait_for_vm(&site, "web");
    let backup = BACKUP.replace("repository: local", "repository: vault").replace("keep: 3", "keep: 1");
    let repository = |immutable: &str| {
        let place = format!("path: {}, immutable: {immutable}", text(&vault));
        format!(
            "apiVersion: farshore/v1\nkind: Repository\nmetadata: {{name: vault}}\nspec: {{mover: local, {place}}}\n"
        )
    };
    site.apply(&format!("{}---\n{backup}", repository("14d")));
    for _ in 0..2 {
        site.farshore(&["job", "run", "nightly"]).good();
    }
    let points = site.farshore(&["get", "points", "-o", "json"]).good().json();
    let dates: Vec<i64> = points.as_array().unwrap().iter().map(|point| point["immutable"].as_i64().unwrap()).collect();
    assert_eq!(dates.len(), 2, "one is kept by the job, both must stay: {points}");
    let bad = folder.path().join("bad.yaml");
    for days in ["14", "0d", "10000d", "2w"] {
        std::fs::write(&bad, repository(days)).unwrap();
        site.farshore(&["apply", "-f", text(&bad)]).refused(1, &["FS-YAML-", "is not a number of days"]);
    }
    site.stop();
    let point = points[0]["point"].as_str().unwrap();
    farshore(&["repo", "prune", text(&vault), "--points", point, "--apply", "--take-ownership"])
        .refused(22, &["FS-REPO-IMMUTABLE", point]);
    farshore(&["repo", "verify", text(&vault)]).good();
}
