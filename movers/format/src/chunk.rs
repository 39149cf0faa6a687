//! What names a chunk.

/// The keyed BLAKE3 of the content of a chunk, or of another record of a repository.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ChunkId(pub [u8; 32]);

impl ChunkId {
    /// The id of nothing.
    pub const ZERO: ChunkId = ChunkId([0; 32]);
}

impl std::fmt::Display for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        farshore_schemas::ids::Digest(self.0).fmt(f)
    }
}

impl std::fmt::Debug for ChunkId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkId({self})")
    }
}

impl std::str::FromStr for ChunkId {
    type Err = farshore_schemas::ids::BadId;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<farshore_schemas::ids::Digest>().map(|digest| ChunkId(digest.0))
    }
}
