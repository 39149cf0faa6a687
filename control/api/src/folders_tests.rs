use super::*;
use crate::resources;

fn defined(kind: &str, name: &str, mover: &str, folder: &str) -> resources::Resource {
    let key = if kind == "Host" { "folder" } else { "path" };
    let head = format!("apiVersion: farshore/v1\nkind: {kind}\nmetadata: {{name: {name}}}\n");
    resources::parse(&format!("{head}spec: {{mover: {mover}, {key}: '{folder}'}}\n")).unwrap().remove(0)
}

fn host(name: &str, mover: &str, folder: &str) -> resources::Resource {
    defined("Host", name, mover, folder)
}

fn repository(name: &str, mover: &str, folder: &str) -> resources::Resource {
    defined("Repository", name, mover, folder)
}

fn code(wanted: &[resources::Resource], data: &Path) -> &'static str {
    code_with(Held::default(), wanted, data)
}

fn code_with(held: Held, wanted: &[resources::Resource], data: &Path) -> &'static str {
    let wanted = wanted.iter().map(|one| (&one.id, &one.message));
    check(wanted, held, data).map_or_else(|taken| taken.code(), |()| "")
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
fn neither_of_two_folders_lies_within_the_other() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("vms/lab")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("vms/lab"), folder.path().join("link")).unwrap();
    let at = |part: &str| format!("{}/{part}", folder.path().display());
    let data = folder.path().join("data");
    let pairs = [("vms", "vms/lab"), ("vms", "link"), ("vms", "link/deep/er"), ("no/such", "no/such/one")];
    for (outer, inner) in pairs {
        for (a, b) in [(outer, inner), (inner, outer)] {
            let (a, b) = (at(a), at(b));
            assert_eq!(code(&[host("a", "m", &a), host("b", "m", &b)], &data), "FS-HOST-FOLDER-TAKEN", "{a} {b}");
            let mixed = [repository("r", "m", &a), host("b", "m", &b)];
            assert_eq!(code(&mixed, &data), "FS-HOST-FOLDER-TAKEN", "{a} {b}");
            let two = [repository("r", "m", &a), repository("s", "m", &b)];
            assert_eq!(code(&two, &data), "FS-REPOSITORY-FOLDER-TAKEN", "{a} {b}");
        }
    }
    assert_eq!(
        code(&[host("a", "m", &at("vms")), host("b", "m", &at("vms-2"))], &data),
        "",
        "a longer name is no nest"
    );
}

#[test]
fn agents_that_advertise_one_machine_share_its_folders() {
    let held = |b: &str| {
        let name = |text: &str| text.parse::<Name>().unwrap();
        let machines = [(name("m"), "10.0.0.1".to_owned()), (name("n"), b.to_owned())];
        Held { folders: BTreeMap::new(), machines: machines.into() }
    };
    let both = [host("a", "m", "/srv/vms"), host("b", "n", "/srv")];
    assert_eq!(code_with(held("10.0.0.1"), &both, Path::new("/data")), "FS-HOST-FOLDER-TAKEN");
    assert_eq!(code_with(held("10.0.0.2"), &both, Path::new("/data")), "");
}

#[test]
fn nothing_has_the_data_of_the_site() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir_all(data.join("log")).unwrap();
    std::os::unix::fs::symlink(folder.path(), folder.path().join("up")).unwrap();
    let at = |part: &str| format!("{}/{part}", data.display());
    let never = ["", "log", "log/deeper", "hosts", "hosts/../log", "hosts/local/../../view", "..", "../up", "../../"];
    for ours in never {
        assert_eq!(code(&[host("a", "m", &at(ours))], &data), "FS-HOST-FOLDER-OURS", "{ours}");
        assert_eq!(code(&[repository("r", "m", &at(ours))], &data), "FS-REPOSITORY-FOLDER-OURS", "{ours}");
    }
    assert_eq!(code(&[host("a", "m", "/")], &data), "FS-HOST-FOLDER-OURS");
    assert_eq!(code(&[host("a", "m", &at("repository"))], &data), "FS-HOST-FOLDER-OURS");
    assert_eq!(code(&[repository("r", "m", &at("hosts/local"))], &data), "FS-REPOSITORY-FOLDER-OURS");
    for fine in ["hosts/local", "hosts/a/b", "../data2", "../vms"] {
        assert_eq!(code(&[host("a", "m", &at(fine))], &data), "", "{fine}");
    }
    for fine in ["repository", "repository/first", "../data2"] {
        assert_eq!(code(&[repository("r", "m", &at(fine))], &data), "", "{fine}");
    }
    let defaults = [repository("local", "local", &at("repository")), host("local", "local", &at("hosts/local"))];
    assert_eq!(code(&defaults, &data), "", "what a site starts with");
}

#[test]
fn a_folder_is_named_in_full() {
    assert_eq!(code(&[host("a", "m", "vms")], Path::new("/data")), "FS-HOST-FOLDER-RELATIVE");
    assert_eq!(code(&[repository("r", "m", "./r")], Path::new("/data")), "FS-REPOSITORY-FOLDER-RELATIVE");
}
