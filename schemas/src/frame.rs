//! A frame is one durable decision. A binary header with its own crc, three MessagePack sections (input, events, sends),
//! the actor's state hash in some frames, the hash of the frame before, a crc. docs/formats/log.md is the reference.
//!
//! ```text
//! offset size  field (integers little-endian)
//!      0    4  magic "FSF1"
//!      4    2  schema: version of the types inside the sections
//!      6    2  flags: bit 0 = a state hash follows the sections
//!      8    8  seq
//!     16   16  lineage
//!     32   16  site: first 16 bytes of BLAKE3(site name)
//!     48    4  length of the input section
//!     52    4  length of the events section
//!     56    4  length of the sends section
//!     60    4  crc32c of bytes 0..60
//!     64    -  input, events, sends
//!      -   32  state hash, if flagged
//!      -   32  BLAKE3 of the whole frame before; of the lineage's 16 bytes for the first
//!      -    4  crc32c of everything after the header
//! ```
//! A frame's hash is BLAKE3 over all of its bytes.

use crate::codec::{self, CodecError};
use crate::envelope::{Channel, Envelope, Mark};
use crate::ids::{Address, Digest, EntityId, Lineage, Seq, SiteName};
use crate::messages::{Message, Refusal};
use crate::units::{Hlc, Timestamp};
use serde::{Deserialize, Serialize};

/// Size of the header.
pub const HEADER_LEN: usize = 64;
/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"FSF1";
/// The schema that this program writes. Raised whenever a type inside a section changes; then an upcaster and a golden
/// file are added (`upcast.rs`).
pub const SCHEMA: u16 = 1;
/// The largest frame: a decision that needs more is refused before it is appended.
pub const MAX_FRAME: usize = 256 * 1024;

/// A header, checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Version of the types inside.
    pub schema: u16,
    /// Whether a state hash follows the sections.
    pub has_state_hash: bool,
    /// Its place in the log.
    pub seq: Seq,
    /// The log's lineage.
    pub lineage: Lineage,
    /// [`site_tag`] of the site.
    pub site: [u8; 16],
    /// Lengths of input, events, sends.
    pub lens: [u32; 3],
}

/// First 16 bytes of BLAKE3 of a site's name.
pub fn site_tag(site: &SiteName) -> [u8; 16] {
    let mut tag = [0; 16];
    tag.copy_from_slice(&blake3::hash(site.as_str().as_bytes()).as_bytes()[..16]);
    tag
}

/// The hash that stands for "the frame before" in the first frame of a lineage.
pub fn genesis_hash(lineage: Lineage) -> Digest {
    Digest(*blake3::hash(&lineage.0).as_bytes())
}

/// Why bytes are not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Fewer bytes than a header, or than the header says. At the end of a file this is what a torn write leaves.
    #[error("the frame ends after {have} of {need} bytes")]
    Short {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// The header's magic, crc or flags are wrong.
    #[error("the frame header is damaged: {0}")]
    Header(&'static str),
    /// The body's crc is wrong.
    #[error("the frame body is damaged: its crc32c does not match")]
    Body,
    /// A section cannot be decoded although the crc is right: written by a newer version, or a defect.
    #[error("a section of the frame cannot be decoded: {0}")]
    Section(#[from] CodecError),
    /// The frame needs a newer program.
    #[error("the frame has schema {found}, this program knows up to {known}")]
    Newer {
        /// The frame's.
        found: u16,
        /// Ours.
        known: u16,
    },
}

impl Header {
    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> usize {
        let sections: usize = self.lens.iter().map(|len| *len as usize).sum();
        HEADER_LEN + sections + if self.has_state_hash { 32 } else { 0 } + 32 + 4
    }

    /// Reads a header.
    ///
    /// # Errors
    /// [`FrameError::Short`], [`FrameError::Header`].
    pub fn decode(bytes: &[u8]) -> Result<Header, FrameError> {
        let raw: &[u8; HEADER_LEN] =
            bytes.first_chunk().ok_or(FrameError::Short { have: bytes.len(), need: HEADER_LEN })?;
        let u16_at = |at: usize| u16::from_le_bytes([raw[at], raw[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes([raw[at], raw[at + 1], raw[at + 2], raw[at + 3]]);
        if raw[..4] != MAGIC {
            return Err(FrameError::Header("its first four bytes are not FSF1"));
        }
        if crc32c::crc32c(&raw[..60]) != u32_at(60) {
            return Err(FrameError::Header("its crc32c does not match"));
        }
        let flags = u16_at(6);
        let lens = [u32_at(48), u32_at(52), u32_at(56)];
        if flags > 1 {
            return Err(FrameError::Header("it has unknown flags"));
        }
        if lens.iter().any(|len| *len as usize > MAX_FRAME) {
            return Err(FrameError::Header("it claims a section larger than a frame may be"));
        }
        let mut seq = [0; 8];
        seq.copy_from_slice(&raw[8..16]);
        let (mut lineage, mut site) = ([0; 16], [0; 16]);
        lineage.copy_from_slice(&raw[16..32]);
        site.copy_from_slice(&raw[32..48]);
        Ok(Header {
            schema: u16_at(4),
            has_state_hash: flags == 1,
            seq: Seq(u64::from_le_bytes(seq)),
            lineage: Lineage(lineage),
            site,
            lens,
        })
    }
}

/// What was decided on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Input {
    /// A message.
    Message(Box<Envelope>),
    /// The time that the actor had asked to be woken at has come.
    Wake,
    /// The process has started anew: what is owed?
    Restarted,
    /// The log was restored from a copy or cut: from this frame on it has the lineage in the frame's header, and what was
    /// not yet confirmed is numbered anew. Recorded by the site actor, which decides nothing on it.
    LineageRenewed {
        /// The lineage before.
        previous: Lineage,
        /// Why.
        reason: String,
    },
    /// A message whose decider panicked twice; nothing was decided, the channel moves on.
    Poisoned {
        /// The message.
        envelope: Box<Envelope>,
        /// What the panic said.
        panic: String,
    },
}

/// First section: everything that the decision read from outside.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSection {
    /// Who decided.
    pub actor: EntityId,
    /// That actor's count of frames, from 1.
    pub actor_seq: u64,
    /// The epoch of the control that decided.
    pub owner_epoch: u64,
    /// Version of the decision code.
    pub core: u32,
    /// `now`, as the decider saw it.
    pub at: Timestamp,
    /// The site's hybrid clock after it.
    pub hlc: Hlc,
    /// What came in.
    pub input: Input,
}

/// How a decision came out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Verdict {
    /// There are events, or at least nothing against it.
    Accepted,
    /// A normal no.
    Rejected(Refusal),
    /// It came too late to act on.
    Expired,
    /// A later message stands for it.
    Superseded,
    /// The receiver knows no such message (an older version), or it is for another kind of actor.
    Unsupported,
    /// See [`Input::Poisoned`].
    Poisoned,
}

/// Second section: all that folding needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventsSection {
    /// Whose state changes.
    pub actor: EntityId,
    /// That actor's count of frames.
    pub actor_seq: u64,
    /// The site's hybrid clock after it.
    pub hlc: Hlc,
    /// How it came out.
    pub verdict: Verdict,
    /// The channel that moved, and where to.
    pub mark: Option<(Channel, Mark)>,
    /// Receivers of this site's messages that have confirmed up to a number since the last frame: what the outbox may drop.
    pub acked: Vec<(Address, u64)>,
    /// The events: a MessagePack array of the actor's event type.
    #[serde(with = "serde_bytes")]
    pub events: Vec<u8>,
}

/// One message that a frame sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sent {
    /// To whom.
    pub to: Address,
    /// Its number on the channel from this site to that party.
    pub number: u64,
    /// See [`Envelope::expires`].
    pub expires: Option<Timestamp>,
    /// See [`Envelope::supersede`].
    pub supersede: Option<String>,
    /// What is said.
    pub body: Message,
}

/// Third section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Default)]
pub struct SendsSection {
    /// In order; a message's index is its place here.
    pub sends: Vec<Sent>,
    /// On whose behalf.
    pub principal: String,
    /// W3C trace context of the span that decided.
    pub trace: Option<String>,
}

/// A frame, taken apart but with its sections still encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawFrame<'a> {
    /// The header.
    pub header: Header,
    /// The input section.
    pub input: &'a [u8],
    /// The events section.
    pub events: &'a [u8],
    /// The sends section.
    pub sends: &'a [u8],
    /// The actor's state hash after it, if it is there.
    pub state_hash: Option<Digest>,
    /// Hash of the frame before.
    pub previous: Digest,
}

impl<'a> RawFrame<'a> {
    /// Reads the frame that `bytes` begins with, and how long it is. Checks both crcs.
    ///
    /// # Errors
    /// [`FrameError`].
    pub fn decode(bytes: &'a [u8]) -> Result<(RawFrame<'a>, usize), FrameError> {
        let header = Header::decode(bytes)?;
        let need = header.frame_len();
        let frame = bytes.get(..need).ok_or(FrameError::Short { have: bytes.len(), need })?;
        let (body, crc) = frame[HEADER_LEN..].split_at(need - HEADER_LEN - 4);
        if crc32c::crc32c(body).to_le_bytes() != crc {
            return Err(FrameError::Body);
        }
        let (input, rest) = body.split_at(header.lens[0] as usize);
        let (events, rest) = rest.split_at(header.lens[1] as usize);
        let (sends, rest) = rest.split_at(header.lens[2] as usize);
        let digest = |raw: &[u8]| {
            let mut bytes = [0; 32];
            bytes.copy_from_slice(raw);
            Digest(bytes)
        };
        let (state_hash, rest) =
            if header.has_state_hash { (Some(digest(&rest[..32])), &rest[32..]) } else { (None, rest) };
        Ok((RawFrame { header, input, events, sends, state_hash, previous: digest(rest) }, need))
    }

    /// The input section, upcast to the types of this program.
    ///
    /// # Errors
    /// [`FrameError::Section`], [`FrameError::Newer`].
    pub fn input_section(&self) -> Result<InputSection, FrameError> {
        crate::upcast::decode(self.header.schema, crate::upcast::Section::Input, self.input)
    }

    /// The events section, upcast. The events inside are decoded by the actor's own code.
    ///
    /// # Errors
    /// [`FrameError::Section`], [`FrameError::Newer`].
    pub fn events_section(&self) -> Result<EventsSection, FrameError> {
        crate::upcast::decode(self.header.schema, crate::upcast::Section::Events, self.events)
    }

    /// The sends section, upcast.
    ///
    /// # Errors
    /// [`FrameError::Section`], [`FrameError::Newer`].
    pub fn sends_section(&self) -> Result<SendsSection, FrameError> {
        crate::upcast::decode(self.header.schema, crate::upcast::Section::Sends, self.sends)
    }
}

/// What a frame is made from.
#[derive(Debug, Clone, PartialEq)]
pub struct FrameParts<'a> {
    /// Its place.
    pub seq: Seq,
    /// The log's lineage.
    pub lineage: Lineage,
    /// [`site_tag`] of the site.
    pub site: [u8; 16],
    /// First section.
    pub input: &'a InputSection,
    /// Second section.
    pub events: &'a EventsSection,
    /// Third section.
    pub sends: &'a SendsSection,
    /// The actor's state hash after it, in some frames.
    pub state_hash: Option<Digest>,
    /// Hash of the frame before.
    pub previous: Digest,
}

/// Three sections, encoded, known to fit a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sections([Vec<u8>; 3]);

impl Sections {
    /// Encodes input, events and sends.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] when their frame would be larger than [`MAX_FRAME`].
    pub fn encode(input: &InputSection, events: &EventsSection, sends: &SendsSection) -> Result<Sections, CodecError> {
        let sections = [codec::encode(input), codec::encode(events), codec::encode(sends)];
        let len = HEADER_LEN + sections.iter().map(Vec::len).sum::<usize>() + 32 + 32 + 4;
        if len > MAX_FRAME {
            return Err(CodecError::TooLarge { len, max: MAX_FRAME });
        }
        Ok(Sections(sections))
    }

    /// Bytes of the sends section.
    pub fn sends_len(&self) -> usize {
        self.0[2].len()
    }

    /// Puts header and trailer around them: the whole frame, and its hash.
    pub fn seal(&self, place: &Place) -> (Vec<u8>, Digest) {
        let len = HEADER_LEN + self.0.iter().map(Vec::len).sum::<usize>() + 32 + 32 + 4;
        let mut frame = Vec::with_capacity(len);
        frame.extend_from_slice(&MAGIC);
        frame.extend_from_slice(&SCHEMA.to_le_bytes());
        frame.extend_from_slice(&u16::from(place.state_hash.is_some()).to_le_bytes());
        frame.extend_from_slice(&place.seq.0.to_le_bytes());
        frame.extend_from_slice(&place.lineage.0);
        frame.extend_from_slice(&place.site);
        for section in &self.0 {
            frame.extend_from_slice(&u32::try_from(section.len()).expect("checked against MAX_FRAME").to_le_bytes());
        }
        frame.extend_from_slice(&crc32c::crc32c(&frame).to_le_bytes());
        self.0.iter().for_each(|section| frame.extend_from_slice(section));
        if let Some(hash) = place.state_hash {
            frame.extend_from_slice(&hash.0);
        }
        frame.extend_from_slice(&place.previous.0);
        frame.extend_from_slice(&crc32c::crc32c(&frame[HEADER_LEN..]).to_le_bytes());
        let hash = Digest(*blake3::hash(&frame).as_bytes());
        (frame, hash)
    }
}

/// A frame's place in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Its seq.
    pub seq: Seq,
    /// The log's lineage.
    pub lineage: Lineage,
    /// [`site_tag`] of the site.
    pub site: [u8; 16],
    /// The actor's state hash after it, in some frames.
    pub state_hash: Option<Digest>,
    /// Hash of the frame before.
    pub previous: Digest,
}

/// Encodes a frame and says its hash.
///
/// # Errors
/// [`CodecError::TooLarge`] when it would be larger than [`MAX_FRAME`].
pub fn encode(parts: &FrameParts<'_>) -> Result<(Vec<u8>, Digest), CodecError> {
    let sections = Sections::encode(parts.input, parts.events, parts.sends)?;
    Ok(sections.seal(&Place {
        seq: parts.seq,
        lineage: parts.lineage,
        site: parts.site,
        state_hash: parts.state_hash,
        previous: parts.previous,
    }))
}
