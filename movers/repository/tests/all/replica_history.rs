//! Whatever is written, resized, rolled back and forgotten, every point that is left restores byte-equal.

use crate::common::{disk, noise, point, proof, restored};
use farshore_format::{BLOCK, DigestMap};
use farshore_repository::{BlockContent, ReplicaStore};
use farshore_schemas::messages::agent::DiskFacts;
use farshore_schemas::units::{ByteCount, Timestamp};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Act {
    /// A point of this size in bytes, with these blocks written: even kinds are zeros.
    Point {
        size: usize,
        writes: Vec<(usize, u8)>,
        reopen_after: usize,
    },
    /// A point that is begun, written and given up.
    Abandon {
        size: usize,
        writes: Vec<(usize, u8)>,
    },
    Forget(usize),
    Reopen,
}

fn writes() -> impl Strategy<Value = Vec<(usize, u8)>> {
    prop::collection::vec((0usize..90, any::<u8>()), 0..40)
}

fn act() -> impl Strategy<Value = Act> {
    let size = || prop_oneof![(1usize..90).prop_map(|blocks| blocks * BLOCK), 1usize..90 * BLOCK];
    prop_oneof![
        5 => (size(), writes(), 0usize..60).prop_map(|(size, writes, reopen_after)| Act::Point { size, writes, reopen_after }),
        2 => (size(), writes()).prop_map(|(size, writes)| Act::Abandon { size, writes }),
        3 => (0usize..6).prop_map(Act::Forget),
        1 => Just(Act::Reopen),
    ]
}

struct World {
    store: Arc<ReplicaStore>,
    newest: Vec<u8>,
    states: BTreeMap<usize, Vec<u8>>,
}

impl World {
    fn reopen(&mut self, path: &Path) {
        // The lock goes with the last holder, so the old store must be gone first.
        let scratch = tempfile::tempdir().unwrap();
        self.store = Arc::new(ReplicaStore::open(scratch.path()).unwrap());
        self.store = Arc::new(ReplicaStore::open(path).unwrap());
    }

    /// Writes a point up to the seal, reopening the store after some of the writes, and says what it should hold.
    fn write(
        &mut self,
        (path, id): (&Path, &str),
        size: usize,
        writes: &[(usize, u8)],
        reopen_after: usize,
    ) -> Vec<u8> {
        let (id, a) = (point(id), disk("a.img"));
        let mut content = self.newest.clone();
        content.resize(size, 0);
        let facts = [DiskFacts { name: a.clone(), size: ByteCount(size as u64) }];
        self.store.begin_point(&id, &facts).unwrap();
        let mut writer = self.store.writer(&id, &a).unwrap();
        for (nth, (block, kind)) in writes.iter().enumerate() {
            let (from, to) = (block * BLOCK, ((block + 1) * BLOCK).min(size));
            if from >= to {
                continue;
            }
            let bytes = if kind % 2 == 0 { vec![0; to - from] } else { noise(u64::from(*kind), to - from) };
            content[from..to].copy_from_slice(&bytes);
            writer.apply(*block as u64, BlockContent::Data(&bytes)).unwrap();
            if nth == reopen_after {
                writer.flush().unwrap();
                drop(writer);
                self.reopen(path);
                self.store.begin_point(&id, &facts).unwrap();
                writer = self.store.writer(&id, &a).unwrap();
            }
        }
        let finished = writer.finish().unwrap();
        assert_eq!(finished.disk, proof(&content));
        assert_eq!(finished.digests, DigestMap::of(&content));
        content
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn every_point_restores_byte_equal(acts in prop::collection::vec(act(), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        let store = Arc::new(ReplicaStore::open(path).unwrap());
        let mut world = World { store, newest: Vec::new(), states: BTreeMap::new() };
        for (step, act) in acts.into_iter().enumerate() {
            let id = format!("p{step}");
            match act {
                Act::Point { size, writes, reopen_after } => {
                    let content = world.write((path, &id), size, &writes, reopen_after);
                    world.store.seal(&point(&id), Timestamp(0), &[proof(&content)], &[]).unwrap();
                    world.newest.clone_from(&content);
                    world.states.insert(step, content);
                }
                Act::Abandon { size, writes } => {
                    world.write((path, &id), size, &writes, usize::MAX);
                    world.store.roll_back().unwrap();
                }
                Act::Forget(nth) => {
                    let newest = world.states.keys().last().copied();
                    let nth = nth % world.states.len().max(1);
                    if let Some(step) = world.states.keys().nth(nth).copied().filter(|step| Some(*step) != newest) {
                        world.store.forget(&[point(&format!("p{step}"))]).unwrap();
                        world.states.remove(&step);
                    }
                }
                Act::Reopen => world.reopen(path),
            }
            for (step, state) in &world.states {
                prop_assert!(restored(&world.store, &format!("p{step}")).unwrap() == *state, "p{}", step);
            }
            prop_assert_eq!(world.store.points().len(), world.states.len());
        }
    }
}
