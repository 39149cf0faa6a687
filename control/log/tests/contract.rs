//! What any log must do, held against the log on disk and the log in memory alike.
#![allow(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod common;

use common::{LINEAGE, Maker, SMALL, append, append_each, open, options, read_all, site};
use farshore_log::{Disk, LogReader, MemoryLog, MemoryStore, ReadLog, RealDisk, SegmentFile, SegmentLog};
use farshore_runtime::log_port::{EventLog, LogFailure};
use farshore_schemas::ids::{Lineage, Seq};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

/// A place where a log lives, which can be closed, opened again, and made to fail.
trait Home {
    fn open(&self) -> Box<dyn EventLog>;
    fn reader(&self) -> Box<dyn ReadLog>;
    fn fail_from_now(&self, maker: &Maker);
    fn heal(&self);
}

struct Memory(MemoryStore);

impl Home for Memory {
    fn open(&self) -> Box<dyn EventLog> {
        Box::new(MemoryLog::open(&self.0))
    }
    fn reader(&self) -> Box<dyn ReadLog> {
        Box::new(self.0.clone())
    }
    fn fail_from_now(&self, maker: &Maker) {
        self.0.fail_at(maker.last.next());
    }
    fn heal(&self) {}
}

struct OnDisk {
    dir: tempfile::TempDir,
    failing: Arc<AtomicBool>,
}

impl Home for OnDisk {
    fn open(&self) -> Box<dyn EventLog> {
        let mut options = options(self.dir.path(), SMALL);
        options.disk = Arc::new(FailingDisk(Arc::clone(&self.failing)));
        Box::new(SegmentLog::open(&options).unwrap().log)
    }
    fn reader(&self) -> Box<dyn ReadLog> {
        Box::new(LogReader::open(self.dir.path()).unwrap())
    }
    fn fail_from_now(&self, _: &Maker) {
        self.failing.store(true, Ordering::SeqCst);
    }
    fn heal(&self) {
        self.failing.store(false, Ordering::SeqCst);
    }
}

/// A disk whose syncs fail while it is told so.
struct FailingDisk(Arc<AtomicBool>);
struct FailingFile(Box<dyn SegmentFile>, Arc<AtomicBool>);

impl SegmentFile for FailingFile {
    fn write_at(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&mut self) -> io::Result<()> {
        if self.1.load(Ordering::SeqCst) { Err(io::Error::other("the disk is gone")) } else { self.0.sync() }
    }
}

impl Disk for FailingDisk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(FailingFile(RealDisk.create(path)?, Arc::clone(&self.0))))
    }
    fn open(&self, path: &Path) -> io::Result<Box<dyn SegmentFile>> {
        Ok(Box::new(FailingFile(RealDisk.open(path)?, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        RealDisk.rename(from, to)
    }
}

fn on_both(test: impl Fn(&dyn Home)) {
    test(&Memory(MemoryStore::new(&site(), LINEAGE)));
    test(&OnDisk { dir: tempfile::tempdir().unwrap(), failing: Arc::default() });
}

#[test]
fn an_empty_log_ends_before_its_first_frame() {
    on_both(|home| {
        let log = home.open();
        assert_eq!(log.durable_tail(), (Seq(0), farshore_schemas::frame::genesis_hash(LINEAGE)));
        assert!(read_all(&*home.reader(), Seq(1)).is_empty());
        assert_eq!(home.reader().tail(), log.durable_tail());
    });
}

#[test]
fn frames_become_durable_in_order_and_are_all_read_back() {
    on_both(|home| {
        let log = home.open();
        let mut maker = Maker::new();
        let order = Arc::new(Mutex::new(Vec::new()));
        let (done, all) = channel();
        let frames: Vec<_> = (0..500).map(|_| maker.next()).collect();
        for frame in frames.clone() {
            let (order, done) = (Arc::clone(&order), done.clone());
            log.append(
                frame.clone(),
                Box::new(move |outcome| {
                    outcome.unwrap();
                    order.lock().unwrap().push(frame.seq);
                    done.send(()).unwrap();
                }),
            );
        }
        (0..500).for_each(|_| all.recv().unwrap());
        assert_eq!(*order.lock().unwrap(), (1..=500).map(Seq).collect::<Vec<_>>());
        assert_eq!(log.durable_tail(), (maker.last, maker.chain));
        let bytes: Vec<Vec<u8>> = frames.into_iter().map(|frame| frame.bytes).collect();
        assert_eq!(read_all(&*home.reader(), Seq(1)), bytes);
        assert_eq!(read_all(&*home.reader(), Seq(321)), bytes[320..]);
        assert!(read_all(&*home.reader(), Seq(501)).is_empty());
        assert_eq!(home.reader().frame(Seq(77)).unwrap().as_ref(), bytes.get(76));
        assert_eq!(home.reader().frame(Seq(501)).unwrap(), None);
        assert!(home.reader().frame(Seq(0)).is_err());
    });
}

#[test]
fn the_tail_is_known_when_the_callback_runs() {
    on_both(|home| {
        let log = home.open();
        let mut maker = Maker::new();
        append_each(&*log, &mut maker, 3);
        assert_eq!(log.durable_tail(), (Seq(3), maker.chain));
    });
}

#[test]
fn a_log_that_is_opened_again_goes_on_where_it_ended() {
    on_both(|home| {
        let mut maker = Maker::new();
        for round in 1..=4 {
            let log = home.open();
            assert_eq!(log.durable_tail(), (maker.last, maker.chain));
            append_each(&*log, &mut maker, 15);
            assert_eq!(log.durable_tail().0, Seq(15 * round));
        }
        assert_eq!(read_all(&*home.reader(), Seq(1)).len(), 60);
        assert_eq!(home.reader().tail(), (maker.last, maker.chain));
    });
}

#[test]
fn a_frame_out_of_order_is_refused_and_stops_the_log() {
    on_both(|home| {
        let log = home.open();
        let mut maker = Maker::new();
        append_each(&*log, &mut maker, 2);
        let _skipped = maker.next();
        let outcome = append(&*log, maker.next());
        assert_eq!(outcome, Err(LogFailure::OutOfOrder { found: Seq(4), expected: Seq(3) }));
        assert_eq!(append(&*log, maker.next()), Err(LogFailure::Stopped));
        assert_eq!(log.durable_tail().0, Seq(2));
        drop(log);
        assert_eq!(read_all(&*home.reader(), Seq(1)).len(), 2);
    });
}

#[test]
fn a_frame_that_does_not_fit_the_chain_is_refused_before_it_is_written() {
    on_both(|home| {
        let broken: [fn(&mut Maker, &mut Vec<u8>); 3] =
            [|maker, _| maker.chain.0[0] ^= 1, |maker, _| maker.lineage = Lineage([0; 16]), |_, bytes| bytes[70] ^= 1];
        let mut maker = Maker::new();
        for (at, breakage) in broken.into_iter().enumerate() {
            let log = home.open();
            append_each(&*log, &mut maker, 1);
            let mut other = maker.clone();
            let mut nothing = Vec::new();
            if at < 2 {
                breakage(&mut other, &mut nothing);
            }
            // A lineage that begins names the frame before it, so that alone is no reason to refuse.
            if at == 1 {
                other.chain.0[5] ^= 1;
            }
            let mut frame = other.next();
            if at == 2 {
                breakage(&mut other, &mut frame.bytes);
            }
            assert!(matches!(append(&*log, frame), Err(LogFailure::Io(why)) if why.contains("was refused")));
            assert_eq!(append(&*log, maker.clone().next()), Err(LogFailure::Stopped));
            drop(log);
            assert_eq!(home.reader().tail(), (maker.last, maker.chain));
        }
    });
}

#[test]
fn after_a_failure_nothing_more_is_taken_until_the_log_is_opened_again() {
    on_both(|home| {
        let log = home.open();
        let mut maker = Maker::new();
        append_each(&*log, &mut maker, 3);
        let before = maker.clone();
        home.fail_from_now(&maker);
        assert!(matches!(append(&*log, maker.next()), Err(LogFailure::Io(_))));
        home.heal();
        assert_eq!(append(&*log, maker.next()), Err(LogFailure::Stopped));
        assert_eq!(log.durable_tail(), (before.last, before.chain));
        drop(log);
        // Whether the frame that failed is there is not promised; what was acknowledged is, and the log goes on.
        let log = home.open();
        let tail = log.durable_tail();
        assert!(tail.0 >= before.last && tail.0 <= before.last.next());
        append_each(&*log, &mut Maker::after(tail, LINEAGE), 1);
        assert_eq!(
            home.reader().frame(before.last).unwrap().map(|bytes| blake3::hash(&bytes).into()),
            Some(before.chain.0)
        );
    });
}

#[test]
fn a_new_lineage_goes_on_in_the_same_chain() {
    on_both(|home| {
        let log = home.open();
        let mut maker = Maker::new();
        append_each(&*log, &mut maker, 3);
        maker.lineage = Lineage([9; 16]);
        append_each(&*log, &mut maker, 3);
        drop(log);
        let log = home.open();
        assert_eq!(log.durable_tail(), (Seq(6), maker.chain));
        append_each(&*log, &mut maker, 3);
        assert_eq!(home.reader().lineage(), Lineage([9; 16]));
        assert_eq!(read_all(&*home.reader(), Seq(1)).len(), 9);
    });
}

#[test]
fn a_second_process_is_refused_the_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let first = open(dir.path(), SMALL);
    let second = SegmentLog::open(&options(dir.path(), SMALL));
    assert!(second.is_err_and(|error| error.to_string().starts_with("FS-LOG-LOCKED")));
    drop(first);
    assert!(SegmentLog::open(&options(dir.path(), SMALL)).is_ok());
}
