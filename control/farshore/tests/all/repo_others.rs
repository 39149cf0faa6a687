//! What somebody puts into a repository's folder who can write there and has no key: links, sockets, rubbish in place of small
//! files. It stays without effect outside the folder, is told, and does not keep from work what has nothing to do with it.

use crate::repo::Place;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

impl Place {
    /// Two points of one VM.
    fn of_two_points() -> Place {
        let place = Place::new(Some("x"));
        place.back_up("one");
        place.back_up("two");
        place
    }

    /// Puts a link to a folder of somebody else in place of what is there; answers the folder, which holds two files.
    fn lead_away(&self, name: &str) -> PathBuf {
        let (victim, place) = (self.path("victim"), self.repository().join(name));
        fs::create_dir_all(victim.join("packs")).unwrap();
        for file in ["one", "packs/two"] {
            fs::write(victim.join(file), file).unwrap();
        }
        if place.is_dir() {
            fs::rename(&place, self.path("was")).unwrap();
        }
        symlink(&victim, &place).unwrap();
        victim
    }
}

#[test]
fn nothing_is_made_or_deleted_where_links_in_the_folder_lead() {
    for name in ["relied", "trash/00000000000000000000", "index", "points", "packs", "trash", "digests"] {
        let place = Place::of_two_points();
        let victim = place.lead_away(name);
        let other = place.path("disk.raw");
        // Whatever they say of it.
        place.repo(&["prune"], &["--points", "one", "--apply"]);
        place.repo(&["backup"], &[other.to_str().unwrap(), "--vm", "web", "--point", "three"]);
        place.repo(&["verify"], &["--repair"]);
        place.repo(&["prune"], &["--keep", "1", "--apply"]);
        let mut left: Vec<_> = walk(&victim);
        left.sort();
        assert_eq!(left, ["one", "packs/two"], "{name}");
    }
}

/// The files below a folder, by their paths in it.
fn walk(folder: &PathBuf) -> Vec<String> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.clone()]);
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => folders.push(entry),
                false => files.push(entry.strip_prefix(folder).unwrap().to_str().unwrap().to_owned()),
            }
        }
    }
    files
}

#[test]
fn links_that_lead_nowhere_make_no_files_there() {
    let place = Place::of_two_points();
    for name in ["reserve", "lock"] {
        let (there, nowhere) = (place.repository().join(name), place.path("nowhere"));
        fs::remove_file(&there).unwrap();
        symlink(&nowhere, &there).unwrap();
        place.repo(&["prune"], &["--keep", "1", "--apply"]);
        assert!(!nowhere.exists(), "{name}");
    }
}

#[test]
fn a_socket_is_damage_where_a_file_belongs_and_nothing_else_suffers() {
    let place = Place::of_two_points();
    let put = |name: PathBuf| {
        // Under a short name first: those of sockets have a limit.
        drop(UnixListener::bind(place.path("s")).unwrap());
        fs::rename(place.path("s"), name).unwrap();
    };
    put(place.repository().join("index/0000000000000099.idx"));
    place.restore("one", "first").good();
    place.repo(&["verify"], &[]).refused(21, &["FS-REPO-"]);
    place.repo(&["verify"], &["--repair"]).good();
    for name in ["roster", "points/two"] {
        let file = place.repository().join(name);
        let was = fs::read(&file).unwrap();
        fs::remove_file(&file).unwrap();
        put(file.clone());
        place.repo(&["verify"], &[]).refused(21, &["FS-REPO-DAMAGE"]);
        place.restore("one", &format!("with-{}", name.replace('/', "-"))).good();
        fs::remove_file(&file).unwrap();
        fs::write(&file, was).unwrap();
    }
    place.repo(&["verify"], &[]).good();
}

#[test]
fn an_owner_or_a_position_that_cannot_be_read_is_told_and_there_is_a_way_out() {
    let place = Place::of_two_points();
    let put = |name: &str| fs::write(place.repository().join(name), "rubbish").unwrap();
    put("position");
    place.repo(&["verify"], &[]).refused(21, &["FS-REPO-DAMAGE"]);
    place.repo(&["prune"], &["--points", "one", "--apply"]).refused(21, &["position"]);
    place.repo(&["verify"], &["--repair"]).good();
    place.repo(&["prune"], &["--points", "one", "--apply"]).good();
    put("owner.json");
    place.repo(&["verify"], &[]).refused(21, &["FS-REPO-DAMAGE"]);
    place.repo(&["prune"], &["--keep", "1", "--apply"]).refused(21, &["owner.json"]);
    place.repo(&["adopt"], &["--take-ownership"]).good();
    place.repo(&["verify"], &[]).good();
    place.repo(&["prune"], &["--keep", "1", "--apply"]).good();
    place.restore("two", "out").good();
}

#[test]
fn a_folder_that_is_gone_and_can_be_made_anew_is_and_threads_have_an_end() {
    let place = Place::of_two_points();
    for name in ["index", "digests", "trash"] {
        fs::remove_dir_all(place.repository().join(name)).unwrap();
    }
    place.repo(&["verify"], &["--repair"]).good();
    place.repo(&["prune"], &["--points", "one", "--apply"]).good();
    place.repo(&["verify"], &["--threads", "100000"]).good();
    place.restore("two", "out").good();
}
