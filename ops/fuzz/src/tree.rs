//! What a disk consists of: the first byte of an input says what the rest is to be read as, the next eight how long its
//! region or disk is.

use farshore_format::repository::{ChunkId, DiskTree, Extent, Leaf, LeafList, Listed};
use farshore_schemas::ids::Digest;

pub(crate) fn run(bytes: &[u8]) {
    let (head, record) = crate::head::<9>(bytes);
    let length = u64::from_le_bytes(crate::head::<8>(&head[1..]).0);
    match head[0] % 3 {
        0 => {
            if let Ok(leaf) = Leaf::decode(record, length) {
                assert_eq!(leaf.encode(), record, "one leaf has one form");
            }
        }
        1 => {
            if let Ok(list) = LeafList::decode(record, length as usize) {
                assert_eq!(list.encode(), record);
            }
        }
        _ => {
            if let Ok(tree) = DiskTree::decode(record) {
                assert_eq!(tree.encode(), record);
                let named: usize = (0..tree.lists.len()).map(|list| tree.leaves_of(list)).sum();
                assert_eq!(
                    named as u64,
                    farshore_format::repository::regions_in(tree.size),
                    "each region has its leaf"
                );
            }
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let id = |number: u8| ChunkId([number; 32]);
    let extents = vec![
        Extent::Hole { blocks: 4 },
        Extent::Data { blocks: 3, id: id(1) },
        Extent::Zeros { blocks: 1 },
        Extent::Data { blocks: 32, id: id(2) },
    ];
    let size = 3 << 20;
    let lists = (0..DiskTree::lists_in(size)).map(|_| id(3)).collect();
    let tree = DiskTree { size, checksum: Some(Digest([9; 32])), lists };
    let listed = |number, sum| Listed { leaf: id(number), sum };
    let list = LeafList { regions: vec![listed(4, Some(Digest([7; 32]))), listed(5, None), listed(6, None)] };
    let with = |which: u8, length: u64, record: Vec<u8>| [[which].as_slice(), &length.to_le_bytes(), &record].concat();
    vec![with(0, 40 * 4096, Leaf { extents }.encode()), with(1, 3, list.encode()), with(2, 0, tree.encode())]
}
