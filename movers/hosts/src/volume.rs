//! FAT file systems made and filled by farshore. Dates in them are fixed: a disk's content follows from its seed alone.

use crate::content::{Dice, Flavour, content};
use crate::fat::{LABEL, STAMPS_FILE};
use crate::stamps::BLOCK;
use fatfs::{FileSystem, FormatVolumeOptions, FsOptions, ReadWriteSeek};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// Blocks of a stamps area that farshore makes.
const STAMP_BLOCKS: usize = 64;
/// A smaller disk has no room for a FAT16 with a stamps area.
pub(crate) const SMALLEST: u64 = 4 * 1024 * 1024;
/// From here on clusters are as large as a block.
const LARGE: u64 = 32 * 1024 * 1024;
const FILE_BYTES: usize = 512 * 1024;
const FOLDERS: [&str; 3] = ["DOCS", "DATA", "LOGS"];

#[derive(Debug)]
struct FixedDate;

impl fatfs::TimeProvider for FixedDate {
    fn get_current_date(&self) -> fatfs::Date {
        fatfs::Date { year: 2024, month: 1, day: 1 }
    }

    fn get_current_date_time(&self) -> fatfs::DateTime {
        let time = fatfs::Time { hour: 0, min: 0, sec: 0, millis: 0 };
        fatfs::DateTime { date: self.get_current_date(), time }
    }
}

static FIXED_DATE: FixedDate = FixedDate;

fn mount<T: ReadWriteSeek>(disk: T) -> io::Result<FileSystem<T>> {
    FileSystem::new(disk, FsOptions::new().time_provider(&FIXED_DATE))
}

/// Formats a disk of `size` zero bytes, with a stamps area if asked for, and fills about `fill` bytes of it with files.
pub(crate) fn make<T: ReadWriteSeek>(mut disk: T, size: u64, plan: &Plan) -> io::Result<()> {
    let cluster = if size >= LARGE { BLOCK as u32 } else { 512 };
    disk.seek(SeekFrom::Start(0))?;
    let mut dice = Dice::new(plan.seed);
    let options = FormatVolumeOptions::new().volume_label(*LABEL).bytes_per_cluster(cluster);
    fatfs::format_volume(&mut disk, options.volume_id((dice.roll() >> 32) as u32))?;
    let volume = mount(&mut disk)?;
    {
        let root = volume.root_dir();
        if plan.stamps {
            // First on an empty volume, so that it lies in one piece; one block more than needed, so that the area can start
            // at a multiple of a block wherever the clusters start.
            let mut file = root.create_file(STAMPS_FILE)?;
            file.write_all(&vec![0u8; (STAMP_BLOCKS + 1) * BLOCK])?;
        }
        for folder in FOLDERS {
            root.create_dir(folder)?;
        }
        for number in 0..usize::try_from(plan.fill).unwrap_or(usize::MAX) / FILE_BYTES {
            let folder = FOLDERS[number % FOLDERS.len()];
            let mut file = root.create_file(&format!("{folder}/F{number:05}.BIN"))?;
            file.write_all(&content(&mut dice, Flavour::of(number), FILE_BYTES))?;
        }
    }
    volume.unmount()
}

/// What a disk is filled with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) fill: u64,
    pub(crate) stamps: bool,
}

/// Changes about `budget` bytes of the files on a disk: parts of some are overwritten in place, and one small file is
/// written anew. Returns the bytes of files written.
pub(crate) fn change<T: ReadWriteSeek>(mut disk: T, seed: u64, budget: u64) -> io::Result<u64> {
    let mut dice = Dice::new(seed ^ 0x6661_7273_686f_7265);
    let volume = mount(&mut disk)?;
    let mut written = 0;
    {
        let root = volume.root_dir();
        let small = (budget / 16).clamp(1, 16 * 1024) as usize;
        let mut note = root.create_file(&format!("LOGS/NOTE{}.TXT", seed % 8))?;
        note.truncate()?;
        note.write_all(&content(&mut dice, Flavour::Text, small))?;
        note.flush()?;
        written += small as u64;
        let files = list(&root)?;
        // Each round writes at least one byte, and a disk without files ends at once.
        while written < budget && !files.is_empty() {
            let (path, length) = &files[dice.below(files.len())];
            let most = (budget - written).min(*length).min(128 * 1024);
            let from = dice.roll() % (length - most + 1);
            let mut file = root.open_file(path)?;
            file.seek(SeekFrom::Start(from))?;
            let number = dice.below(8);
            file.write_all(&content(&mut dice, Flavour::of(number), most as usize))?;
            file.flush()?;
            written += most;
        }
    }
    volume.unmount()?;
    Ok(written)
}

/// The files in our folders that are not empty, by path, with their lengths.
fn list<T: ReadWriteSeek>(root: &fatfs::Dir<'_, T>) -> io::Result<Vec<(String, u64)>> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        for entry in root.open_dir(folder)?.iter() {
            let entry = entry?;
            if entry.is_file() && entry.len() > 0 {
                files.push((format!("{folder}/{}", entry.file_name()), entry.len()));
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Every file on a disk with its content, by path.
///
/// # Errors
/// When the disk holds no FAT file system, or it cannot be read.
pub fn read_files<T: Read + Write + Seek>(disk: T) -> io::Result<Vec<(String, Vec<u8>)>> {
    let volume = mount(disk)?;
    let mut files = Vec::new();
    let root = volume.root_dir();
    for (path, _) in list(&root)? {
        let mut bytes = Vec::new();
        root.open_file(&path)?.read_to_end(&mut bytes)?;
        files.push((path, bytes));
    }
    Ok(files)
}
