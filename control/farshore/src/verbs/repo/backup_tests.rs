use super::{Image, Opening, look_at, read_all};
use crate::failure::{Exit, Failure};
use farshore_format::ChunkId;
use farshore_repository::BackedUp;
use farshore_schemas::units::ByteCount;
use std::path::{Path, PathBuf};

/// What a disk became, as far as nobody looks at it here.
fn read(image: &Image) -> Result<BackedUp, Failure> {
    let none = ByteCount(0);
    let name = image.name.clone();
    Ok(BackedUp { name, size: none, checksum: None, disk: ChunkId::ZERO, read: none, new: none, stored: none })
}

fn images(folder: &Path) -> Vec<PathBuf> {
    let make = |name: &str| {
        let path = folder.join(name);
        std::fs::write(&path, name).unwrap();
        path
    };
    ["first", "second"].map(make).into()
}

#[test]
fn an_image_that_changes_while_another_is_read_makes_no_point() {
    let folder = tempfile::tempdir().unwrap();
    let paths = images(folder.path());
    for (changed, while_read) in [("first", "second"), ("second", "first"), ("first", "first"), ("second", "second")] {
        let images = look_at(&paths, Opening::default()).unwrap();
        let failure = read_all(&images, &mut |image| {
            if image.name.as_str() == while_read {
                std::fs::write(folder.path().join(changed), "something else").unwrap();
                std::fs::write(folder.path().join(changed), changed).unwrap();
            }
            read(image)
        });
        let failure = failure.map(drop).unwrap_err();
        assert_eq!((failure.code.as_str(), failure.exit), ("FS-REPO-MOVING", Exit::Mismatch), "{failure}");
        assert!(failure.message.contains(changed), "{failure}");
    }
    let images = look_at(&paths, Opening::default()).unwrap();
    assert_eq!(read_all(&images, &mut read).unwrap().len(), 2);
}
