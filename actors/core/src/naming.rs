//! Names that are made here: of sessions, points, replicas, slots. All are subject tokens of at most 63 bytes, stable
//! (the same parts give the same name) and told apart by a short hash where a part had to be bent or cut.

use farshore_schemas::ids::{Lineage, Name, PointId, VmName, VmRef};

const LONGEST: usize = 63;
const HASH: usize = 10;

/// First ten hexadecimal digits of BLAKE3 over a text.
fn short_hash(text: &str) -> String {
    let mut hex = blake3::hash(text.as_bytes()).to_hex().to_string();
    hex.truncate(HASH);
    hex
}

/// A text as a token: lower case, everything else one '-', at most `most` bytes; it may come out empty.
#[must_use]
pub fn slug(text: &str, most: usize) -> String {
    let mut token = String::with_capacity(most.min(text.len()));
    for c in text.chars() {
        if token.len() == most {
            break;
        }
        match c.to_ascii_lowercase() {
            c if c.is_ascii_lowercase() || c.is_ascii_digit() => token.push(c),
            _ if token.is_empty() || token.ends_with('-') => {}
            _ => token.push('-'),
        }
    }
    token.trim_end_matches('-').to_owned()
}

fn token(text: &str) -> Name {
    Name::parse(text).expect("made of slugs, digits and a hash, cut to 63 bytes")
}

/// `HEAD-MIDDLE-TAIL`, with head and middle cut so that it fits; `tail` is a token of at most 20 bytes.
fn joined(head: &str, middle: &str, tail: &str) -> Name {
    let room = LONGEST - tail.len() - 1;
    let head = slug(head, room);
    let middle = slug(middle, room.saturating_sub(head.len() + 1));
    let parts = [head.as_str(), middle.as_str(), tail];
    let parts: Vec<&str> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    token(&parts.join("-"))
}

/// A run's session: `<job>-<run>`. A job's name has at most 40 bytes, so nothing is cut.
#[must_use]
pub fn session_name(job: &Name, run: u64) -> Name {
    joined(job.as_str(), "", &run.to_string())
}

/// The point that a session makes of a VM: `<session>-<hash of the VM and the log's lineage>` (a log that was put back counts its
/// runs again, and must not name a point as one that it has forgotten), with `-r<attempt>` from the second attempt on, so
/// that a late answer to an attempt that was given up is never taken for the next one's.
#[must_use]
pub fn point_id(session: &Name, vm: &VmRef, (lineage, attempt): (Lineage, u32)) -> PointId {
    let hash = short_hash(&format!("{session} {vm} {lineage}"));
    let tail = if attempt > 1 { format!("{hash}-r{attempt}") } else { hash };
    if session.as_str().len() + 1 + tail.len() <= LONGEST {
        return PointId(token(&format!("{session}-{tail}")));
    }
    PointId(joined(session.as_str(), "", &tail[..tail.len().min(20)]))
}

/// The replica of a VM in a job: `<job>-<vm>-<hash of job and VM>`.
#[must_use]
pub fn replica_name(job: &Name, origin: &VmRef) -> Name {
    joined(job.as_str(), origin.vm.as_str(), &short_hash(&format!("{job} {origin}")))
}

/// The VM that a replica makes at failover: named as the replica, so that it clashes with no other.
#[must_use]
pub fn working_vm(replica: &Name) -> VmName {
    VmName::parse(replica.as_str()).expect("a token is a file name")
}

/// A session's slot for a VM: `<role letter>-<hash of the VM>-<attempt>`, unique per session.
#[must_use]
pub fn session_slot(role: &str, vm: &VmName, attempt: u32) -> Name {
    token(&format!("{}-{}-{attempt}", slug(role, 10), short_hash(vm.as_str())))
}

/// A replica's slot for a round of failback.
#[must_use]
pub fn failback_slot(side: &str, round: u64) -> Name {
    token(&format!("failback-{}-{round}", slug(side, 10)))
}

/// The point that the commit of a failback makes: named by the epoch that is in force, which grows, and by the log's
/// lineage, since a log that was put back counts epochs again.
#[must_use]
pub fn commit_point(counter: u64, lineage: Lineage) -> PointId {
    PointId(token(&format!("failback-{counter}-{}", short_hash(&lineage.to_string()))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{lineage, name, vm_ref};
    use proptest::prelude::*;

    #[test]
    fn names_are_readable_and_short() {
        let job = name("nightly");
        assert_eq!(session_name(&job, 12).as_str(), "nightly-12");
        let replica = replica_name(&job, &vm_ref("hq/esx/Web Server 1"));
        assert!(replica.as_str().starts_with("nightly-web-server-1-"), "{replica}");
        assert_ne!(
            replica,
            replica_name(&job, &vm_ref("hq/esx/web-server-1")),
            "a bent name is told apart by its hash"
        );
        let point = |byte, attempt| point_id(&name("s-1"), &vm_ref("hq/a/b"), (lineage(byte), attempt));
        assert_ne!(point(1, 1), point(1, 2));
        assert_ne!(point(1, 1), point(2, 1), "a log that was put back names no point twice");
    }

    proptest! {
        #[test]
        fn any_vm_name_gives_tokens(job in "[a-z0-9]{1,40}", vm in "[^/\\\\.\\p{Cc}][^/\\\\\\p{Cc}]{0,40}", run in any::<u64>(), attempt in any::<u32>()) {
            let origin = farshore_schemas::ids::VmRef { site: "hq".parse().unwrap(), host: name("h"), vm: VmName::parse(&vm).unwrap() };
            let job = name(&job);
            let session = session_name(&job, run);
            for made in [&session, &replica_name(&job, &origin), &point_id(&session, &origin, (lineage(1), attempt)).0, &session_slot("source", &origin.vm, attempt)] {
                prop_assert!(Name::parse(made.as_str()).is_ok());
            }
            let tail = format!("-{run}");
            prop_assert!(session.as_str().ends_with(&tail));
        }
    }
}
