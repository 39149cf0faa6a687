//! Records as they are stored: the first four bytes of an input are the length in the directory, the rest is the record.

use farshore_format::repository::{Compression, Packer, Unpacker};
use std::cell::RefCell;

thread_local! {
    /// As each thread of a reader keeps one.
    static UNPACKER: RefCell<Unpacker> = RefCell::default();
}

pub(crate) fn run(bytes: &[u8]) {
    let (length, stored) = crate::head::<4>(bytes);
    let length = u32::from_le_bytes(length) as usize;
    let mut out = b"before".to_vec();
    let unpacked = UNPACKER.with_borrow_mut(|unpacker| unpacker.unpack(stored, length, &mut out));
    match unpacked {
        Ok(()) => {
            assert_eq!(out.len(), 6 + length, "a record unpacks to what its directory says, or not at all");
            let mut packed = Vec::new();
            Packer::new(Compression::Fast).pack(&out[6..], &mut packed);
            let mut again = Vec::new();
            let unpacked = UNPACKER.with_borrow_mut(|unpacker| unpacker.unpack(&packed, length, &mut again));
            assert!(unpacked.is_ok() && again == out[6..], "what is packed unpacks to the same");
        }
        Err(_) => assert_eq!(out, b"before", "what does not unpack leaves nothing behind"),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let text = b"all the world is a stage, and all the men and women merely players; ".repeat(40);
    let noise: Vec<u8> = blake3::hash(&text).as_bytes().iter().cycle().take(100).copied().collect();
    let classes = [Compression::None, Compression::Fast, Compression::Balanced, Compression::High];
    let contents = [text.as_slice(), &noise, &[7; 4096], &[]];
    let all = classes.iter().flat_map(|class| contents.iter().map(move |content| (*class, *content)));
    all.map(|(class, content)| {
        let mut seed = (content.len() as u32).to_le_bytes().to_vec();
        Packer::new(class).pack(content, &mut seed);
        seed
    })
    .collect()
}
