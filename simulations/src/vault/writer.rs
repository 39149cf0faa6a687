//! A writer: a session that opens an access, stores disks whose content partly comes back from long ago, commits a point and closes.

use super::control::me;
use super::{Event, HOUR, MINUTE, Mail, SECOND, To, Vault, WRITERS};
use crate::bug::Bug;
use crate::choices::{Choices, Draw};
use crate::faults::Fault;
use crate::layout::{self, HQ};
use crate::world::content::{BLOCKS, Content, Stamp};
use farshore_schemas::ids::{Address, Digest, DiskName, Kind, PointId, TaskId};
use farshore_schemas::messages::Refusal;
use farshore_schemas::messages::repository::{Command, Purpose};
use farshore_schemas::messages::session;
use farshore_schemas::units::Timestamp;
use std::collections::BTreeSet;

/// Disks of each VM.
const DISKS: usize = 2;
/// Contents that a block may have: few, so that what was dropped comes back.
const CONTENTS: u64 = 24;

/// See the module.
pub(super) struct Writer {
    n: usize,
    pub(super) runs: u64,
    turn: u64,
    /// The control plane that its run asks.
    pub(super) control: usize,
    phase: Phase,
    disks: Vec<Content>,
    /// What it was told is stored, durable, since its access was opened.
    pub(super) told: BTreeSet<Stamp>,
    access: Option<TaskId>,
    /// It lost its access and goes on from where it was.
    resumed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Asking,
    Storing { disk: usize, put: bool },
    Committing,
}

fn disk_name(disk: usize) -> DiskName {
    format!("disk{disk}.img").parse().expect("a legal name")
}

fn fingerprint(n: usize) -> Digest {
    Digest([n as u8; 32])
}

fn stamp(choices: &mut Choices) -> Stamp {
    Stamp { disk: 0, epoch: 0, counter: choices.below(Draw::Guest, CONTENTS) }
}

impl Writer {
    pub(super) fn new(n: usize, choices: &mut Choices) -> Self {
        let content = |choices: &mut Choices| Content(std::array::from_fn(|_| stamp(choices)));
        Writer {
            n,
            runs: 0,
            turn: 0,
            control: 0,
            phase: Phase::Idle,
            disks: (0..DISKS).map(|_| content(choices)).collect(),
            told: BTreeSet::new(),
            access: None,
            resumed: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.phase == Phase::Idle
    }

    pub(super) fn address(&self) -> Address {
        layout::address(HQ, Kind::Session, &format!("w{}-{}", self.n, self.runs))
    }

    fn point(&self) -> PointId {
        PointId(layout::name(&format!("p{}-{}", self.n, self.runs)))
    }
}

impl Vault {
    /// Who hears what is said to a session; nobody when it has ended.
    pub(super) fn session_end(&self, to: &Address) -> Option<To> {
        let writer = self.writers.iter().position(|writer| !writer.is_idle() && writer.address() == *to);
        writer.map(To::Writer).or_else(|| self.reader.is(to).then_some(To::Reader))
    }

    /// A writer's next step, in so long.
    fn write_after(&mut self, writer: usize, wait: u64) {
        self.writers[writer].turn += 1;
        let turn = self.writers[writer].turn;
        self.schedule.after(wait, Event::Write { writer, turn });
    }

    pub(super) fn write(&mut self, writer: usize, turn: u64) {
        if self.writers[writer].turn != turn {
            return;
        }
        match self.writers[writer].phase {
            Phase::Idle => self.run_begins(writer),
            Phase::Storing { disk, put } => self.store(writer, (disk, put)),
            // Nobody has answered for half a day.
            Phase::Asking | Phase::Committing => self.run_ends(writer),
        }
    }

    fn run_begins(&mut self, n: usize) {
        if self.healed {
            return;
        }
        let owner = self.owner;
        let changes = self.choices.between(Draw::Guest, 1, (DISKS * BLOCKS) as u64);
        for _ in 0..changes {
            let at = usize::try_from(self.choices.below(Draw::Guest, (DISKS * BLOCKS) as u64)).expect("few");
            self.writers[n].disks[at / BLOCKS].0[at % BLOCKS] = stamp(&mut self.choices);
        }
        let writer = &mut self.writers[n];
        writer.runs += 1;
        (writer.control, writer.resumed, writer.access) = (owner, false, None);
        writer.told.clear();
        self.ask_access(n);
    }

    fn ask_access(&mut self, n: usize) {
        self.writers[n].phase = Phase::Asking;
        let vms = vec![layout::production(n)];
        let open = Command::OpenAccess { purpose: Purpose::Write, peers: vec![fingerprint(n)], vms, point: None };
        self.say(n, open);
        self.write_after(n, 12 * HOUR);
    }

    fn say(&mut self, n: usize, command: Command) {
        let (from, control) = (self.writers[n].address(), self.writers[n].control);
        self.post(&from, To::Control(control), Mail::Ask(Box::new(command)));
    }

    /// Puts the chunks of a disk, then makes them durable: what was lost in between is put again.
    fn store(&mut self, n: usize, (disk, put): (usize, bool)) {
        let now = self.now();
        let writer = &self.writers[n];
        if !self.agents[writer.control].is_awake(now) {
            let wait = self.patience();
            self.write_after(n, wait);
            return;
        }
        let (content, point, access) = (writer.disks[disk], writer.point(), writer.access.clone());
        let counts_going = self.bug.is(Bug::MarkedHitCounts);
        let folder = self.folder();
        if !access.is_some_and(|access| folder.lets_in(&access, fingerprint(n))) {
            self.run_ends(n);
            return;
        }
        folder.counts_going = counts_going;
        folder.put(&content);
        let next = if !put {
            Phase::Storing { disk, put: true }
        } else if !folder.sync(&point, &disk_name(disk), &content) {
            Phase::Storing { disk, put: false }
        } else {
            self.writers[n].told.extend(content.0);
            if disk + 1 < DISKS { Phase::Storing { disk: disk + 1, put: false } } else { Phase::Committing }
        };
        self.writers[n].phase = next;
        if next == Phase::Committing {
            self.commit(n);
            return;
        }
        let slow = self.faults.strikes(Fault::SlowTask, Draw::Task, &mut self.choices);
        let wait = self.choices.between(Draw::Task, SECOND, if slow { 6 * HOUR } else { 20 * MINUTE });
        self.write_after(n, wait);
    }

    fn commit(&mut self, n: usize) {
        let writer = &self.writers[n];
        let proof = |(disk, content): (usize, &Content)| content.proof(&disk_name(disk), content.manifest());
        let commit = Command::CommitPoint {
            point: writer.point(),
            vm: layout::production(n),
            job: layout::name("nightly"),
            taken: Timestamp(self.now()),
            keep: self.keep.clone(),
            disks: writer.disks.iter().enumerate().map(proof).collect(),
        };
        self.writers[n].phase = Phase::Committing;
        self.say(n, commit);
        self.write_after(n, 12 * HOUR);
    }

    /// The run is over, however it went; the next one comes later.
    fn run_ends(&mut self, n: usize) {
        self.say(n, Command::CloseAccess);
        let writer = &mut self.writers[n];
        writer.phase = Phase::Idle;
        writer.told.clear();
        let wait = self.choices.between(Draw::Task, MINUTE, 6 * HOUR);
        self.write_after(n, wait);
    }

    pub(super) fn writer_hears(&mut self, n: usize, from: &Address, told: session::Command) {
        debug_assert_eq!(*from, me());
        let phase = self.writers[n].phase;
        // Anything else was said to an earlier run.
        if let session::Command::AccessOpened { access, .. } = told {
            if phase == Phase::Asking {
                self.access_opened(n, access);
            }
        } else if let session::Command::PointCommitted { point, .. } = told {
            if point == self.writers[n].point() {
                self.run_ends(n);
            }
        } else if let session::Command::RepositoryFailed { .. } = told
            && phase != Phase::Idle
        {
            self.run_ends(n);
        }
    }

    fn access_opened(&mut self, n: usize, access: TaskId) {
        self.writers[n].access = Some(access);
        if self.writers[n].resumed {
            self.commit(n);
        } else {
            self.writers[n].phase = Phase::Storing { disk: 0, put: false };
            self.write_after(n, SECOND);
        }
    }

    /// A session that lost its access asks for another, and goes on from where it was.
    pub(super) fn session_was_refused(&mut self, from: &Address, refusal: &Refusal) {
        match self.session_end(from) {
            Some(To::Writer(n)) if self.writers[n].phase == Phase::Committing && !self.writers[n].resumed => {
                let now = self.now();
                self.trace.say(now, || format!("{from} goes on after {}", refusal.code));
                self.writers[n].resumed = true;
                self.writers[n].told.clear();
                self.ask_access(n);
            }
            Some(To::Writer(n)) => self.run_ends(n),
            Some(To::Reader) => self.read_ends(),
            Some(To::Control(_) | To::Agent(_)) | None => {}
        }
    }
}

const _: () = assert!(WRITERS <= u8::MAX as usize);
