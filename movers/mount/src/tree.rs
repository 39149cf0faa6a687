//! What there is to see: points, and disks in them. Numbers of inodes count from the root, which is 1.

use farshore_format::repository::{PointDisk, PointManifest};
use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Debug)]
pub(crate) struct Tree {
    /// The root first.
    nodes: Vec<Node>,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) parent: u64,
    /// When the VM was frozen.
    pub(crate) time: SystemTime,
    pub(crate) kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// The inodes in it.
    Folder(Vec<u64>),
    Disk(Box<PointDisk>),
}

pub(crate) const ROOT: u64 = 1;

impl Tree {
    pub(crate) fn new(points: &[PointManifest]) -> Tree {
        let root = Node { name: String::new(), parent: ROOT, time: UNIX_EPOCH, kind: Kind::Folder(Vec::new()) };
        let mut tree = Tree { nodes: vec![root] };
        for point in points {
            let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(point.taken.0).unwrap_or(0));
            let folder = tree.add(ROOT, (point.point.to_string(), time), Kind::Folder(Vec::new()));
            for disk in &point.disks {
                tree.add(folder, (disk.name.to_string(), time), Kind::Disk(Box::new(disk.clone())));
            }
        }
        tree
    }

    fn add(&mut self, parent: u64, (name, time): (String, SystemTime), kind: Kind) -> u64 {
        let inode = self.nodes.len() as u64 + ROOT;
        self.nodes.push(Node { name, parent, time, kind });
        if let Some(Node { kind: Kind::Folder(within), .. }) = self.nodes.get_mut((parent - ROOT) as usize) {
            within.push(inode);
        }
        inode
    }

    pub(crate) fn get(&self, inode: u64) -> Option<&Node> {
        self.nodes.get(usize::try_from(inode.checked_sub(ROOT)?).ok()?)
    }

    /// How many inodes there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn find(&self, parent: u64, name: &OsStr) -> Option<u64> {
        let Kind::Folder(within) = &self.get(parent)?.kind else { return None };
        within.iter().copied().find(|inode| self.get(*inode).is_some_and(|node| *node.name == *name))
    }

    /// As it is told in messages: `POINT/DISK`.
    pub(crate) fn path(&self, inode: u64) -> String {
        let Some(node) = self.get(inode) else { return inode.to_string() };
        let parent = self.get(node.parent).map_or("", |parent| &parent.name);
        format!("{parent}/{}", node.name)
    }
}
