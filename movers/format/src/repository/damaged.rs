//! What a verification found damaged: places in packs on which nobody counts any more, so that the next backup stores anew
//! what lay there. A place, not an id, since the same content may be whole in another pack, or come back.

use super::sealed::{SealedError, SealedKind, open_file, seal_file};
use super::{FileId, RepositoryKey, Suite};
use farshore_schemas::ids::Digest;
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

const MAX_DAMAGED: usize = 64 * 1024 * 1024;

/// What is damaged of a pack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DamagedPack {
    /// Its id.
    pub pack: Digest,
    /// Numbers of its damaged records, in order; none when nothing in it counts.
    #[serde(deserialize_with = "numbers")]
    pub records: Option<Vec<u32>>,
}

/// A list of numbers that takes no more memory than it needs, not while it grows either.
#[derive(Deserialize)]
struct Numbers(#[serde(deserialize_with = "all_numbers")] Vec<u32>);

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<u32>>, D::Error> {
    Ok(Option::<Numbers>::deserialize(from)?.map(|numbers| numbers.0))
}

fn all_numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u32>, D::Error> {
    struct All;
    impl<'de> Visitor<'de> for All {
        type Value = Vec<u32>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("numbers of records")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<u32>, A::Error> {
            // The codec has seen that so many follow.
            let mut numbers = Vec::with_capacity(seq.size_hint().unwrap_or(0));
            while let Some(number) = seq.next_element()? {
                numbers.push(number);
            }
            Ok(numbers)
        }
    }
    from.deserialize_seq(All)
}

/// All that is known to be damaged in a repository.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damaged {
    /// The packs, by id.
    pub packs: Vec<DamagedPack>,
}

impl Damaged {
    /// The list as a file.
    pub fn encode(&self, sealing: (Suite, Option<&RepositoryKey>, FileId)) -> Option<Vec<u8>> {
        seal_file(SealedKind::Damaged, sealing, self)
    }

    /// Reads a list.
    ///
    /// # Errors
    /// [`SealedError`].
    pub fn decode(bytes: &[u8], key: Option<&RepositoryKey>) -> Result<Damaged, SealedError> {
        let damaged: Damaged = open_file(SealedKind::Damaged, key, (bytes, MAX_DAMAGED))?;
        let ordered = |numbers: &Vec<u32>| !numbers.is_empty() && numbers.windows(2).all(|pair| pair[0] < pair[1]);
        let sound = damaged.packs.windows(2).all(|pair| pair[0].pack < pair[1].pack)
            && damaged.packs.iter().filter_map(|pack| pack.records.as_ref()).all(ordered);
        if sound { Ok(damaged) } else { Err(SealedError::Body("its packs or records are not in order".into())) }
    }
}
