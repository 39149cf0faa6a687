//! Identities. Every id is a newtype that can only be made by parsing, so that code past the edge never
//! asks again whether a name is legal. Entity names are subject tokens (`[a-z0-9-]`, at most 63 bytes);
//! names that come from outside (VMs, disks) are file names.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {what}: {rule}")]
pub struct BadId {
    /// What was being parsed, in the field's words.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

fn bad(what: &'static str, text: &str, rule: &'static str) -> BadId {
    BadId { what, text: text.chars().take(80).collect(), rule }
}

fn check_token(what: &'static str, text: &str) -> Result<(), BadId> {
    let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = text.as_bytes();
    if bytes.is_empty()
        || bytes.len() > 63
        || !bytes.iter().copied().all(legal)
        || !edge(bytes.first())
        || !edge(bytes.last())
    {
        return Err(bad(what, text, "use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end"));
    }
    Ok(())
}

fn check_file_name(what: &'static str, text: &str) -> Result<(), BadId> {
    if text.is_empty()
        || text.len() > 200
        || text.starts_with('.')
        || text.chars().any(|c| c == '/' || c == '\\' || c.is_control())
    {
        return Err(bad(
            what,
            text,
            "use a file name of 1 to 200 bytes without '/', '\\', control characters or a leading '.'",
        ));
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(std::sync::Arc<str>);

        impl $type {
            /// Parses a name.
            ///
            /// # Errors
            /// [`BadId`] when the text breaks the rule of this kind of name.
            pub fn parse(text: &str) -> Result<Self, BadId> {
                $check($what, text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = BadId;
            fn try_from(text: String) -> Result<Self, BadId> {
                Self::parse(&text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0.as_ref().to_owned()
            }
        }
        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                Self::parse(text)
            }
        }
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// A site: one failure domain with its own log.
    SiteName, "site name", check_token
);
name!(
    /// The name of an entity (host, mover, repository, job, session, replica, plan) inside its site.
    Name, "name", check_token
);
name!(
    /// A virtual machine, as its host names it.
    VmName, "VM name", check_file_name
);
name!(
    /// A virtual disk of a VM, as its host names it (for the folder host: the image's file name).
    DiskName, "disk name", check_file_name
);

/// The kinds of party that send or receive messages. All but `Agent` and `Api` are actors with a state in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A site's identity, peers and links.
    Site,
    /// A host with its VMs.
    Host,
    /// An agent's mover roles and slots.
    Mover,
    /// A repository with its restore points.
    Repository,
    /// The slot broker of a site.
    Broker,
    /// A job's definition and schedule.
    Job,
    /// One run of a job.
    Session,
    /// One protected VM at its target.
    Replica,
    /// A failover plan.
    Plan,
    /// A process that acts and never decides.
    Agent,
    /// The operator's door into a site.
    Api,
}

impl Kind {
    /// Every kind that has a decider, in the order of the house.
    pub const ENTITIES: [Kind; 9] = [
        Kind::Site,
        Kind::Host,
        Kind::Mover,
        Kind::Repository,
        Kind::Broker,
        Kind::Job,
        Kind::Session,
        Kind::Replica,
        Kind::Plan,
    ];

    /// The kind as a subject token.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Site => "site",
            Kind::Host => "host",
            Kind::Mover => "mover",
            Kind::Repository => "repository",
            Kind::Broker => "broker",
            Kind::Job => "job",
            Kind::Session => "session",
            Kind::Replica => "replica",
            Kind::Plan => "plan",
            Kind::Agent => "agent",
            Kind::Api => "api",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Kind {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        Kind::ENTITIES.into_iter().chain([Kind::Agent, Kind::Api]).find(|k| k.as_str() == text).ok_or_else(|| {
            bad("kind", text, "use site, host, mover, repository, broker, job, session, replica, plan, agent or api")
        })
    }
}

/// An actor inside a site: its kind and name. Written `kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntityId {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: Name,
}

impl fmt::Display for EntityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind, self.name)
    }
}

impl std::str::FromStr for EntityId {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let (kind, name) = text.split_once('/').ok_or_else(|| bad("entity", text, "write it as kind/name"))?;
        Ok(EntityId { kind: kind.parse()?, name: name.parse()? })
    }
}

/// A party anywhere: site, kind and name. Written `site:kind/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Address {
    /// The site in whose log, or under whose control, it lives.
    pub site: SiteName,
    /// The party inside that site.
    pub entity: EntityId,
}

impl Address {
    /// Puts an address together from parsed parts.
    pub fn new(site: &SiteName, kind: Kind, name: &Name) -> Self {
        Address { site: site.clone(), entity: EntityId { kind, name: name.clone() } }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.site, self.entity)
    }
}

impl std::str::FromStr for Address {
    type Err = BadId;
    fn from_str(text: &str) -> Result<Self, BadId> {
        let (site, entity) = text.split_once(':').ok_or_else(|| bad("address", text, "write it as site:kind/name"))?;
        Ok(Address { site: site.parse()?, entity: entity.parse()? })
    }
}

macro_rules! bytes_id {
    ($(#[$doc:meta])* $type:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $type(pub [u8; $len]);

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($type), "({})"), self)
            }
        }
        impl std::str::FromStr for $type {
            type Err = BadId;
            fn from_str(text: &str) -> Result<Self, BadId> {
                let mut bytes = [0u8; $len];
                let wrong = || bad($what, text, concat!("use ", stringify!($len), " bytes in hexadecimal"));
                if text.len() != 2 * $len || !text.is_ascii() {
                    return Err(wrong());
                }
                for (at, byte) in bytes.iter_mut().enumerate() {
                    *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
                }
                Ok($type(bytes))
            }
        }
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    return serializer.collect_str(self);
                }
                serializer.serialize_bytes(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                    return text.parse().map_err(serde::de::Error::custom);
                }
                let bytes = <serde_bytes::ByteArray<$len>>::deserialize(deserializer)?;
                Ok($type(bytes.into_array()))
            }
        }
    };
}

bytes_id!(
    /// The identity of one unbroken history: minted at random when a log is created, restored from a copy, or cut.
    Lineage, 16, "lineage"
);
bytes_id!(
    /// A BLAKE3 hash: of a frame, of a state, of a disk's content.
    Digest, 32, "digest"
);

/// One message, for ever: the frame that sent it and its place in that frame's sends. What an agent or the API sends
/// has their own lineage and counter in the same fields.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MessageId {
    /// The sender's site.
    pub site: SiteName,
    /// The sender's lineage.
    pub lineage: Lineage,
    /// The seq of the frame that sent it.
    pub seq: Seq,
    /// Its index among that frame's sends.
    pub index: u16,
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}.{}", self.site, self.seq.0, self.index)
    }
}

/// A frame's place in its site's log. The first frame has seq 1; there are no gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The seq after this one.
    #[must_use]
    pub const fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A VM where it stands.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VmRef {
    /// The site of its host.
    pub site: SiteName,
    /// Its host.
    pub host: Name,
    /// Its name on that host.
    pub vm: VmName,
}

impl fmt::Display for VmRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.site, self.host, self.vm)
    }
}

/// A piece of work for an agent, unique for ever: the actor that ordered it and that actor's counter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    /// The actor that ordered it and is told the outcome.
    pub owner: Address,
    /// The lineage of the owner's log, so that a log restored from a copy never repeats an id for other work.
    pub lineage: Lineage,
    /// That actor's count of tasks.
    pub ordinal: u64,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.owner, self.ordinal)
    }
}

/// A restore point of one VM: a name that is unique inside its repository or replica, made by the session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PointId(pub Name);

impl fmt::Display for PointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
