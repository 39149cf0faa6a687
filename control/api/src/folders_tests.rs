use super::*;
use crate::resources;

fn host(name: &str, mover: &str, folder: &str) -> resources::Resource {
    let text = format!(
        "apiVersion: farshore/v1\nkind: Host\nmetadata: {{name: {name}}}\nspec: {{mover: {mover}, folder: '{folder}'}}\n"
    );
    resources::parse(&text).unwrap().remove(0)
}

fn code(wanted: &[resources::Resource], data: &Path) -> &'static str {
    let wanted = wanted.iter().map(|one| (&one.id, &one.message));
    check(wanted, Vec::new(), data).map_or_else(|taken| taken.code(), |()| "")
}

#[test]
fn two_hosts_of_a_mover_have_two_folders() {
    let folder = tempfile::tempdir().unwrap();
    let vms = folder.path().join("vms");
    std::fs::create_dir(&vms).unwrap();
    std::os::unix::fs::symlink(&vms, folder.path().join("link")).unwrap();
    let at = |part: &str| format!("{}/{part}", folder.path().display());
    let data = folder.path().join("data");
    let first = || host("a", "m", &at("vms"));
    for same in ["vms", "vms/", "./vms/.", "other/../vms", "link"] {
        assert_eq!(code(&[first(), host("b", "m", &at(same))], &data), "FS-HOST-FOLDER-TAKEN", "{same}");
    }
    assert_eq!(code(&[first(), host("b", "m", &at("vms2"))], &data), "");
    assert_eq!(code(&[first(), host("b", "n", &at("vms"))], &data), "", "another mover, another machine");
    assert_eq!(code(&[first(), first()], &data), "", "the same host again");
    let moved = [first(), host("a", "m", &at("vms3")), host("b", "m", &at("vms"))];
    assert_eq!(code(&moved, &data), "", "the first has moved away by then");
}

#[test]
fn no_host_has_the_data_of_the_site() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("log")).unwrap();
    let at = |part: &str| format!("{}/{part}", data.display());
    for ours in ["", "log", "log/deeper", "repository", "hosts", "hosts/../log", "hosts/local/../../view"] {
        assert_eq!(code(&[host("a", "m", &at(ours))], &data), "FS-HOST-FOLDER-OURS", "{ours}");
    }
    for fine in ["hosts/local", "hosts/a/b", "../data2", "../vms"] {
        assert_eq!(code(&[host("a", "m", &at(fine))], &data), "", "{fine}");
    }
}
