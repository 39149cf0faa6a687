//! How a task is told to stop: a flag that it looks at between steps, a wait that ends early, and its sockets shut so that
//! no read or write keeps it waiting.

use std::collections::BTreeMap;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Why a task was told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// Its owner no longer wants it: it ends as cancelled.
    Cancelled,
    /// The agent is closing: it has not ended, and goes on at the next start.
    Closing,
}

#[derive(Debug, Default)]
struct State {
    told: Option<Told>,
    sockets: BTreeMap<u64, TcpStream>,
    count: u64,
}

/// One task's stop, shared by everyone who works on it.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

/// A socket that a stop shuts, as long as this lives.
#[derive(Debug)]
pub(crate) struct Attached {
    stop: Arc<Stop>,
    number: u64,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.stop.state().sockets.remove(&self.number);
    }
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn told(&self) -> Option<Told> {
        self.state().told
    }

    /// Tells it. The first reason stays.
    pub(crate) fn tell(&self, why: Told) {
        let mut state = self.state();
        state.told.get_or_insert(why);
        for socket in state.sockets.values() {
            // A socket that is shut already cannot be shut again: that is what was wanted.
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.changed.notify_all();
    }

    /// Waits for a while, less if it is told to stop; whether it was.
    pub(crate) fn wait(&self, span: Duration) -> bool {
        let state = self.state();
        let waited = self.changed.wait_timeout_while(state, span, |state| state.told.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.told.is_some()
    }

    /// Shuts this socket too when it is told to stop; at once if it was already.
    pub(crate) fn attach(self: &Arc<Self>, socket: &TcpStream) -> std::io::Result<Attached> {
        let twin = socket.try_clone()?;
        let mut state = self.state();
        if state.told.is_some() {
            let _ = twin.shutdown(Shutdown::Both);
        }
        state.count += 1;
        let number = state.count;
        state.sockets.insert(number, twin);
        Ok(Attached { stop: self.clone(), number })
    }
}
