//! Packs: header, footer and directory, as the end of a file of any length.

use farshore_format::repository::{
    ChunkId, DirectoryEntry, FOOTER_LEN, FileId, PACK_HEADER_LEN, PackFooter, PackHeader, RecordKind, SealKey, Suite,
    decode_directory, encode_directory,
};

/// What a directory is sealed as, in docs/formats/repository.md.
const DIRECTORY: u8 = 128;
const ENTRY: usize = 41;

fn key() -> SealKey {
    SealKey::new(Suite::None, None, &FileId([7; 32])).expect("in the clear no key is needed")
}

pub(crate) fn run(bytes: &[u8]) {
    let (mut header, _) = crate::head::<PACK_HEADER_LEN>(bytes);
    let _ = PackHeader::decode(&header);
    let proof = crate::check(&[&header[..48]]);
    header[48..].copy_from_slice(&proof);
    if let Ok(read) = PackHeader::decode(&header) {
        assert_eq!(PackHeader::decode(&read.encode()), Ok(read));
    }
    as_it_is(bytes);
    behind_the_check(bytes);
}

/// The input is the end of a pack.
fn as_it_is(bytes: &[u8]) {
    let Some((_, footer)) = bytes.split_last_chunk::<FOOTER_LEN>() else { return };
    let (length, _) = crate::head::<8>(&footer[8..]);
    let Ok(footer) = PackFooter::decode(footer, u64::from_le_bytes(length)) else { return };
    let sealed = footer.directory as usize + FOOTER_LEN;
    if let Some(from) = bytes.len().checked_sub(sealed) {
        let _ = decode_directory(&key(), &footer, &mut bytes[from..].to_vec());
    }
}

/// The input is a directory, which is sealed here, with the footer that it asks for.
fn behind_the_check(bytes: &[u8]) {
    let (entries, _) = bytes.as_chunks::<ENTRY>();
    let count = entries.len() as u32;
    let mut tail = entries.concat();
    key().seal((DIRECTORY, count), &mut tail, 0);
    let records: u64 =
        entries.iter().map(|entry| u64::from(u32::from_le_bytes(crate::head::<4>(&entry[37..]).0))).sum();
    let length = (PACK_HEADER_LEN + tail.len() + FOOTER_LEN) as u64 + records;
    let mut footer = [0; FOOTER_LEN];
    footer[..4].copy_from_slice(&count.to_le_bytes());
    footer[4..8].copy_from_slice(&(tail.len() as u32).to_le_bytes());
    footer[8..16].copy_from_slice(&length.to_le_bytes());
    let proof = crate::check(&[&tail, &footer[..16]]);
    footer[16..].copy_from_slice(&proof);
    let Ok(read) = PackFooter::decode(&footer, length) else { return };
    tail.extend_from_slice(&footer);
    if let Ok(read) = decode_directory(&key(), &read, &mut tail.clone()) {
        assert_eq!(encode_directory(&key(), &read, PACK_HEADER_LEN as u64 + records), tail);
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let entry = |number: u8| DirectoryEntry {
        id: ChunkId([number; 32]),
        kind: RecordKind::from_byte(1 + number % 4).expect("four kinds"),
        plain: 4096 * u32::from(number),
        stored: 100 + u32::from(number),
    };
    let entries: Vec<_> = (0..9).map(entry).collect();
    let stored: u64 = entries.iter().map(|entry| u64::from(entry.stored)).sum();
    let whole = encode_directory(&key(), &entries, PACK_HEADER_LEN as u64 + stored);
    let header = PackHeader { id: FileId([3; 32]), suite: Suite::Aes256Gcm }.encode().to_vec();
    vec![header, whole[..ENTRY * entries.len()].to_vec(), whole]
}
