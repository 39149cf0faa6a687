//! The reader in `ops/restore_point.py` was written from the format document alone: it must restore what is written here
//! from the folder and the passphrase, and stop at damage.

use crate::repository::{back_up, content, create_padded, disk_name, manifest, point_id, read_in, threads};
use farshore_format::repository::Compression;
use farshore_repository::{BackupOptions, Changes, RawSource, Stages};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const BLOCK: u64 = 4096;
const SPAN: u64 = 4096 * BLOCK;

/// The Python that has the reader's packages: `ops/test.sh` makes it.
fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/bin/python");
    let given = std::env::var_os("FARSHORE_PYTHON").map(PathBuf::from);
    given.unwrap_or_else(|| if made.exists() { made } else { "python3".into() })
}

fn restore_point(folder: &Path, (point, out): (&str, &Path), passphrase: Option<&Path>) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/restore_point.py");
    let mut command = Command::new(python());
    command.arg(script).arg(folder).args([point, "disk"]).arg(out);
    command.args(passphrase.iter().flat_map(|file| ["--passphrase-file".as_ref(), file.as_os_str()]));
    command.output().expect("python3 is installed")
}

fn lay(image: &Path, blocks: u64, bytes: &[u8]) {
    File::options().write(true).open(image).unwrap().write_all_at(bytes, blocks * BLOCK).unwrap();
}

#[test]
fn the_python_reader_restores_every_point_from_the_folder_and_the_passphrase() {
    for (passphrase, padding) in [(None, false), (Some("correct horse"), false), (Some("correct horse"), true)] {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("passphrase"), "correct horse\n").unwrap();
        let given = passphrase.map(|_| at("passphrase"));
        let repository = create_padded(&at("r"), passphrase, padding);
        // Day 1: noise, text, zeros that take space, holes, a short last block.
        File::create(at("day1")).unwrap().set_len(2 * SPAN + 1000).unwrap();
        for (start, seed) in [(3, 1), (500, 2), (4000, 3), (8190, 5)] {
            lay(&at("day1"), start, &content(seed, 150 * BLOCK as usize));
        }
        lay(&at("day1"), 1000, &vec![0; 64 * BLOCK as usize]);
        File::options().write(true).open(at("day1")).unwrap().set_len(2 * SPAN + 1000).unwrap();
        let first = back_up(&repository, "day1", &at("day1"));
        // Day 2: what changed, by ranges.
        std::fs::copy(at("day1"), at("day2")).unwrap();
        lay(&at("day2"), 40, &content(7, 30 * BLOCK as usize));
        lay(&at("day2"), 560, &vec![0; 5 * BLOCK as usize]);
        lay(&at("day2"), 2000, &content(8, 3 * BLOCK as usize));
        let ranges = [40 * BLOCK..70 * BLOCK, 560 * BLOCK..565 * BLOCK, 2000 * BLOCK..2003 * BLOCK];
        let session = repository.write_session();
        let changed = Changes { disk: &first.disks[0], ranges: Some(&ranges) };
        let second = read_in(&session, &at("day2"), Some(changed));
        assert_eq!(second.checksum, None);
        repository.commit_point(&manifest("day2", &second)).unwrap();
        // Day 3: in full, with the other compression; most regions are as they were, some have no digest.
        let options = BackupOptions { compression: Compression::Fast, threads: threads(), path: at("day3") };
        std::fs::copy(at("day2"), at("day3")).unwrap();
        lay(&at("day3"), 6000, &content(12, 90 * BLOCK as usize));
        let source = RawSource::open(&at("day3")).unwrap();
        let disk = manifest("day2", &second).disks.remove(0);
        let follows = Changes { disk: &disk, ranges: None };
        let third =
            repository.backup_disk(&disk_name(), (&source, &options, Some(follows)), &Stages::default()).unwrap();
        assert_eq!(third.checksum, Some(farshore_format::checksum(&std::fs::read(at("day3")).unwrap())));
        repository.commit_point(&manifest("day3", &third)).unwrap();
        drop(session);
        // The first day goes; what the others need of its pack is written anew.
        std::fs::copy(at("day1"), at("day0")).unwrap();
        lay(&at("day0"), 5000, &content(21, 900 * BLOCK as usize));
        back_up(&repository, "day0", &at("day0"));
        let pruned = repository.prune(&[point_id("day1"), point_id("day0")], 5).unwrap();
        assert!(pruned.marked.0 > 0, "{pruned:?}");
        repository.prune(&[], 6).unwrap();
        drop(repository);
        std::fs::remove_dir_all(at("r").join("index")).unwrap();
        for day in ["day2", "day3"] {
            let output = restore_point(&at("r"), (day, &at("out")), given.as_deref());
            assert!(output.status.success(), "{day}: {}", String::from_utf8_lossy(&output.stderr));
            assert!(std::fs::read(at(day)).unwrap() == std::fs::read(at("out")).unwrap(), "{day} is the same");
        }
        let gone = restore_point(&at("r"), ("day1", &at("none")), given.as_deref());
        assert!(!gone.status.success() && !at("none").exists());
        stops_at_damage(&at("r"), &at("broken"), given.as_deref());
    }
}

/// Damages the largest pack: its head, half of its records, its end.
fn stops_at_damage(repository: &Path, out: &Path, passphrase: Option<&Path>) {
    let folders = std::fs::read_dir(repository.join("packs")).unwrap();
    let files = folders.flat_map(|folder| std::fs::read_dir(folder.unwrap().path()).unwrap());
    let largest = files.map(|file| file.unwrap().path()).max_by_key(|path| path.metadata().unwrap().len()).unwrap();
    let sound = std::fs::read(&largest).unwrap();
    for at in [20..21, 64..sound.len() / 2, sound.len() - 40..sound.len() - 39] {
        let mut bytes = sound.clone();
        bytes[at.clone()].iter_mut().for_each(|byte| *byte ^= 4);
        std::fs::write(&largest, &bytes).unwrap();
        let output = restore_point(repository, ("day3", out), passphrase);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "bytes {at:?}: {said}");
        assert!(said.contains("restore_point.py: ") && !out.exists(), "{said}");
    }
    std::fs::write(&largest, &sound).unwrap();
}
