//! Segments of the index: their header, a page and their tail.

use farshore_format::repository::{ChunkId, FileId, Filter, IndexHeader, PAGE, Place, decode_page, encode_page};

pub(crate) fn run(bytes: &[u8]) {
    let ([number, count], rest) = crate::head::<2>(bytes);
    let (mut page, _) = crate::head::<PAGE>(rest);
    let at = (u64::from(number), usize::from(count));
    let _ = (IndexHeader::decode(&page), decode_page(&page, at));
    prove(&mut page, at.0);
    if let Ok(entries) = decode_page(&page, at) {
        assert_eq!(decode_page(&encode_page(at.0, &entries), at).as_deref(), Ok(entries.as_slice()));
    }
    prove(&mut page, u64::MAX);
    if let Ok(header) = IndexHeader::decode(&page) {
        assert_eq!(IndexHeader::decode(&header.encode()), Ok(header));
        let _ = Filter::decode_tail(rest, &header);
    }
    // A tail that the header proves.
    let header = IndexHeader {
        entries: at.1 as u64,
        packs: u32::from(number),
        lines: u64::from(count),
        tail: *blake3::hash(rest).as_bytes(),
    };
    if let Ok((packs, filter)) = Filter::decode_tail(rest, &header) {
        assert_eq!(filter.encode_tail(&packs), rest);
    }
}

fn prove(page: &mut [u8; PAGE], number: u64) {
    let proof = crate::check(&[&number.to_le_bytes(), &page[..PAGE - 16]]);
    page[PAGE - 16..].copy_from_slice(&proof);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let place = |number: u32| Place { pack: 1, number, offset: 64 + number * 100, stored: 100, plain: 4096 };
    let entries: Vec<_> = (0..20u8).map(|number| (ChunkId([number; 32]), place(u32::from(number)))).collect();
    let mut filter = Filter::sized(entries.len() as u64);
    entries.iter().for_each(|(id, _)| filter.add(id));
    let packs = [FileId([1; 32]), FileId([2; 32])];
    let tail = filter.encode_tail(&packs);
    let header = IndexHeader { entries: 20, packs: 2, lines: filter.lines(), tail: *blake3::hash(&tail).as_bytes() };
    let with = |head: [u8; 2], body: &[u8]| [head.as_slice(), body].concat();
    vec![
        with([0, 20], &encode_page(0, &entries)),
        with([0, 0], &header.encode()),
        with([2, filter.lines() as u8], &tail),
    ]
}
