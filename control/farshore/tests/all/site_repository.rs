//! A site's repository is a folder that `farshore repo` reads with no site, and that is encrypted when the operator says so.

use crate::bad_input::{BACKUP, make_vm, wait_for_vm};
use crate::site::Site;
use crate::support::{farshore, text, tree};
use std::fs;

#[test]
fn a_sites_encrypted_repository_is_read_with_its_passphrase_alone() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (data, vault, pass) = (at("data"), at("vault"), at("pass"));
    make_vm(&data, "web", 1);
    fs::write(&pass, "correct horse\n").unwrap();
    let site = Site::up(&data, &[]);
    wait_for_vm(&site, "web");
    let place = format!("path: {}, encryption: {{passphraseFile: {}}}", text(&vault), text(&pass));
    site.apply(&format!(
        "apiVersion: farshore/v1\nkind: Repository\nmetadata: {{name: vault}}\nspec: {{mover: local, {place}}}\n---\n{}",
        BACKUP.replace("repository: local", "repository: vault")
    ));
    site.farshore(&["job", "run", "nightly"]).good();
    // Beside the site, which holds the folder's lock.
    let with = ["--passphrase-file", text(&pass)];
    let repo = |verb: &str, args: &[&str]| farshore(&[&["-o", "json", "repo", verb, text(&vault)], args].concat());
    let points = repo("points", &with).good().json();
    let point = points[0]["point"].as_str().unwrap();
    assert_eq!((&points[0]["vm"], &points[0]["site"]), (&"web".into(), &"main".into()), "{points}");
    assert!(points[0]["stored"].as_u64().unwrap() > 1 << 16, "what it added is known: {points}");
    repo("verify", &with).good();
    let out = at("out");
    repo("restore", &[&[point, "--to", text(&out)], &with[..]].concat()).good();
    let (restored, disks) = (tree(&out), tree(&data.join("hosts/local/web")));
    assert!(!restored.is_empty());
    for (disk, sum) in restored {
        assert_eq!(disks.get(&disk), Some(&sum), "{}", disk.display());
    }
    repo("points", &[]).refused(12, &["FS-REPO-KEY"]);
    repo("prune", &[&["--keep", "1", "--apply"], &with[..]].concat()).refused(11, &["FS-REPO-LOCKED"]);
    site.stop();
    repo("prune", &[&["--keep", "1", "--apply"], &with[..]].concat()).refused(22, &["FS-REPO-OWNED"]);
    let said = fs::read_to_string(vault.join("format.json")).unwrap();
    assert!(said.contains("\"encrypted\": true"), "{said}");
}
