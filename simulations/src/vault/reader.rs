//! A restore: an access to one point, of which it reads a chunk now and then, for as long as it takes.

use super::{Event, HOUR, MINUTE, Mail, SECOND, To, Vault};
use crate::choices::Draw;
use crate::layout::{self, HQ};
use crate::world::content::Stamp;
use crate::world::repository::Manifest;
use farshore_core::repository::State;
use farshore_schemas::ids::{Address, Digest, Kind, PointId};
use farshore_schemas::messages::repository::{Command, Purpose};
use farshore_schemas::messages::session;

/// See the module.
#[derive(Default)]
pub(super) struct Reader {
    run: u64,
    turn: u64,
    control: usize,
    /// The point that it reads, while it does.
    point: Option<PointId>,
    /// Chunks that it has not read yet; none before its access is open.
    left: Option<Vec<Stamp>>,
}

impl Reader {
    pub(super) fn is_idle(&self) -> bool {
        self.point.is_none()
    }

    pub(super) fn address(&self) -> Address {
        layout::address(HQ, Kind::Session, &format!("r-{}", self.run))
    }

    pub(super) fn is(&self, who: &Address) -> bool {
        !self.is_idle() && self.address() == *who
    }
}

impl Vault {
    fn read_after(&mut self, wait: u64) {
        self.reader.turn += 1;
        let turn = self.reader.turn;
        self.schedule.after(wait, Event::Read { turn });
    }

    fn ask(&mut self, command: Command) {
        let (from, control) = (self.reader.address(), self.reader.control);
        self.post(&from, To::Control(control), Mail::Ask(Box::new(command)));
    }

    pub(super) fn read(&mut self, turn: u64) {
        if turn != self.reader.turn {
            return;
        }
        match (self.reader.point.clone(), self.reader.left.take()) {
            (None, _) => self.read_begins(),
            // Nobody has answered for half a day.
            (Some(_), None) => self.read_ends(),
            (Some(point), Some(left)) => self.read_on(&point, left),
        }
    }

    fn read_begins(&mut self) {
        if self.healed {
            return;
        }
        let State::Defined(known) = &self.controls[self.owner].state else { return self.read_after(HOUR) };
        let points: Vec<PointId> = known.points.keys().cloned().collect();
        if points.is_empty() {
            return self.read_after(HOUR);
        }
        let which = usize::try_from(self.choices.below(Draw::Operator, points.len() as u64)).expect("few");
        let point = points[which].clone();
        self.reader.run += 1;
        (self.reader.control, self.reader.point) = (self.owner, Some(point.clone()));
        let peers = vec![Digest([0xff; 32])];
        self.ask(Command::OpenAccess { purpose: Purpose::Read, peers, vms: Vec::new(), point: Some(point) });
        self.read_after(12 * HOUR);
    }

    pub(super) fn reader_hears(&mut self, told: session::Command) {
        if let session::Command::AccessOpened { .. } = told {
            let Some(point) = self.reader.point.clone() else { return };
            let chunks = |manifest: &Manifest| manifest.disks().values().flat_map(|disk| disk.0).collect();
            self.reader.left = self.folder().manifests.get(&point).map(chunks);
            if self.reader.left.is_some() { self.read_after(SECOND) } else { self.read_ends() }
        } else if let session::Command::RepositoryFailed { .. } = told {
            self.read_ends();
        }
    }

    fn read_on(&mut self, point: &PointId, mut left: Vec<Stamp>) {
        let Some(next) = left.pop() else { return self.read_ends() };
        if self.stands(self.reader.control, &self.reader.address()) && !self.folder().is_durable(&next) {
            self.checks.violate("P6", format!("a restore in flight of {point} finds chunk {next:?} gone"));
        }
        self.reader.left = Some(left);
        let wait = self.choices.between(Draw::Task, SECOND, HOUR);
        self.read_after(wait);
    }

    pub(super) fn read_ends(&mut self) {
        self.ask(Command::CloseAccess);
        (self.reader.point, self.reader.left) = (None, None);
        let wait = self.choices.between(Draw::Operator, MINUTE, 10 * HOUR);
        self.read_after(wait);
    }
}
