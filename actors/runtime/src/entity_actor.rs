//! The one actix actor: it shows what comes in to its entity, applies what was decided and appends it. A panic in a decider
//! stops the actor; its supervisor starts it again with a state folded anew from the log, the message is tried once more,
//! and a second panic is recorded as a poisoned frame so that others flow.

use crate::shared::{EntityRef, Reply, Shared, SharedRef};
use actix::{
    Actor, ActorFutureExt, Addr, AsyncContext, Context, Handler, SpawnHandle, Supervised, Supervisor, WrapFuture,
};
use farshore_kernel::draft::{Draft, Receipt};
use farshore_kernel::entity::{Entity, Memory, STATE_HASH_EVERY, Surroundings};
use farshore_kernel::site::too_large;
use farshore_schemas::envelope::{Channel, Envelope, Lost, Sender};
use farshore_schemas::frame::Verdict;
use farshore_schemas::ids::EntityId;
use farshore_schemas::units::Timestamp;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How often a message is shown to a decider that panics on it.
const TRIES: u8 = 2;
/// Messages that wait in one actor's mailbox. actix' own 16 is too few for a session that hears from many tasks at once;
/// what does not fit waits in the bounded backlog and, for other sites, in the sender's outbox.
const MAILBOX: usize = 1024;

/// A message for the entity.
pub(crate) struct Deliver {
    pub(crate) envelope: Box<Envelope>,
    pub(crate) reply: Option<Reply>,
    pub(crate) tries: u8,
}

impl actix::Message for Deliver {
    type Result = ();
}

/// Asks the entity what it owes after a restart of the process.
pub(crate) struct Resume;

impl actix::Message for Resume {
    type Result = ();
}

pub(crate) struct EntityActor {
    id: EntityId,
    shared: SharedRef,
    entity: EntityRef,
    wake: Option<(Timestamp, SpawnHandle)>,
    /// Set by a panic: the state must be folded anew before anything else.
    broken: Option<Option<Deliver>>,
    /// A wake panicked: none is tried again before the next message.
    wakes_off: bool,
}

/// What one look at the entity gave.
enum Look {
    Receipt(Receipt),
    Panicked(String),
}

impl EntityActor {
    pub(crate) fn spawn(id: EntityId, shared: SharedRef, entity: EntityRef) -> Addr<Self> {
        Supervisor::start(move |context: &mut Context<Self>| {
            context.set_mailbox_capacity(MAILBOX);
            EntityActor { id, shared, entity, wake: None, broken: None, wakes_off: false }
        })
    }

    fn look(&self, ask: impl Fn(&dyn Entity, &Surroundings) -> Receipt) -> Look {
        let around = self.shared.borrow().around();
        let entity = self.entity.borrow();
        match catch_unwind(AssertUnwindSafe(|| ask(&**entity, &around))) {
            Ok(receipt) => Look::Receipt(receipt),
            Err(panic) => Look::Panicked(panic_text(&*panic)),
        }
    }

    fn deliver(&mut self, deliver: Deliver, context: &mut Context<Self>) {
        let stopped = self.shared.borrow().refuses();
        if let Some(why) = stopped {
            if let Some(reply) = deliver.reply {
                let _gone = reply.send(Err(crate::handle::NoAnswer::Stopped(why)));
            }
            return;
        }
        self.wakes_off = false;
        let envelope = &deliver.envelope;
        let span = tracing::info_span!("decide", site = %envelope.to.site, actor = %self.id, cause = %envelope.id,
            from = %envelope.from, principal = envelope.principal, traceparent = envelope.trace.as_deref(),
            seq = tracing::field::Empty, verdict = tracing::field::Empty);
        let _entered = span.enter();
        if deliver.tries >= TRIES {
            return self.poison(deliver, "its events could not be folded", context);
        }
        match self.look(|entity, around| entity.decide(&deliver.envelope, around)) {
            Look::Receipt(receipt) => self.take(receipt, Some(deliver), context),
            Look::Panicked(text) if deliver.tries + 1 < TRIES => {
                self.break_down(&text, Some(next_try(deliver)), context);
            }
            Look::Panicked(text) => {
                self.shared.borrow_mut().counters.panics += 1;
                self.poison(deliver, &text, context);
            }
        }
    }

    /// Records that a message cannot be decided, so that others flow.
    fn poison(&mut self, deliver: Deliver, text: &str, context: &mut Context<Self>) {
        let id = deliver.envelope.id.clone();
        self.shared
            .borrow_mut()
            .alarm(format!("FS-RUNTIME-POISONED: {} panicked twice on message {id}: {text}", self.id));
        let receipt = {
            let around = self.shared.borrow().around();
            self.entity.borrow().poison(&deliver.envelope, text, &around)
        };
        self.take(receipt, Some(deliver), context);
    }

    fn take(&mut self, receipt: Receipt, deliver: Option<Deliver>, context: &mut Context<Self>) {
        match (receipt, deliver) {
            (Receipt::Decided(draft), deliver) => self.commit(draft, deliver, context),
            (Receipt::Idle, _) => {}
            (Receipt::Seen { number }, Some(deliver)) => {
                let mut shared = self.shared.borrow_mut();
                shared.counters.repeats += 1;
                shared.ack_again(&deliver.envelope, number);
            }
            (Receipt::Gap { number }, Some(deliver)) => {
                let mut shared = self.shared.borrow_mut();
                shared.counters.gaps += 1;
                shared.ack_again(&deliver.envelope, number);
            }
            (Receipt::Fork { number }, Some(deliver)) => {
                let text = format!(
                    "FS-RUNTIME-FORK: {} says number {number} to {} again with other content: its log has two histories under one lineage",
                    deliver.envelope.channel.site, self.id
                );
                crate::inbound::say_fork(&self.shared, &deliver.envelope, number);
                self.shared.borrow_mut().alarm(text);
            }
            (Receipt::Seen { .. } | Receipt::Gap { .. } | Receipt::Fork { .. }, None) => {}
        }
    }

    fn commit(&mut self, mut draft: Box<Draft>, deliver: Option<Deliver>, context: &mut Context<Self>) {
        let mut prepared = self.shared.borrow().sequencer.prepare(&draft);
        if let (Err(error), Some(deliver)) = (&prepared, &deliver) {
            let around = self.shared.borrow().around();
            if let Receipt::Decided(no) = self.entity.borrow().refuse(&deliver.envelope, too_large(error), &around) {
                draft = no;
                prepared = self.shared.borrow().sequencer.prepare(&draft);
            }
        }
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                let text = format!("FS-RUNTIME-TOO-LARGE: {} could not record what it decided: {error}", self.id);
                self.wakes_off = true;
                return self.shared.borrow_mut().alarm(text);
            }
        };
        let applied = catch_unwind(AssertUnwindSafe(|| self.entity.borrow_mut().apply(&draft)));
        match applied {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return self.fold_failed(&error.to_string(), deliver, context),
            Err(panic) => return self.fold_failed(&panic_text(&*panic), deliver, context),
        }
        let hash = draft.actor_seq.is_multiple_of(STATE_HASH_EVERY).then(|| self.entity.borrow().memory().hash());
        let stamped = self.shared.borrow_mut().sequencer.stamp(prepared, hash);
        tracing::Span::current().record("seq", stamped.seq.0).record("verdict", verdict_word(&draft.verdict));
        if let (Some((channel, _)), Some(lost)) = (&draft.mark, draft.lost) {
            self.shared.borrow_mut().alarm(lost_text(&self.id, channel, lost));
        }
        Shared::append(&self.shared, stamped, &draft, deliver.and_then(|deliver| deliver.reply));
        if draft.actor == farshore_kernel::site::Site::site_actor() {
            crate::inbound::learn_peers(&self.shared, &self.entity);
        }
        self.set_wake(context);
    }

    /// The state is damaged. Without a message to blame, only the next message is tried, no wake.
    fn fold_failed(&mut self, text: &str, deliver: Option<Deliver>, context: &mut Context<Self>) {
        self.wakes_off |= deliver.is_none();
        self.break_down(text, deliver.map(next_try), context);
    }

    /// Stops this actor; the supervisor brings it back with a state from the log.
    fn break_down(&mut self, text: &str, retry: Option<Deliver>, context: &mut Context<Self>) {
        {
            let mut shared = self.shared.borrow_mut();
            shared.counters.panics += 1;
            shared.rebuilding += 1;
            shared.alarm(format!("FS-RUNTIME-PANIC: {} panicked and is rebuilt from the log: {text}", self.id));
        }
        self.broken = Some(retry);
        actix::ActorContext::stop(context);
    }

    /// Folds the state anew once everything decided is durable, then tries the message again.
    fn rebuild(&mut self, context: &mut Context<Self>) {
        let (rebuild, tail) = {
            let shared = self.shared.borrow();
            (shared.rebuild.clone(), shared.sequencer.tail().0)
        };
        let (id, shared) = (self.id.clone(), self.shared.clone());
        let fold = async move {
            Shared::settled(&shared, tail, usize::MAX).await?;
            let folded = actix_rt::task::spawn_blocking(move || rebuild(&id, tail)).await;
            folded.unwrap_or_else(|error| Err(error.to_string()))
        };
        let back = fold.into_actor(self).map(|memory, actor: &mut Self, context| {
            let retry = actor.broken.take().flatten();
            let load = |memory: Memory| actor.entity.borrow_mut().load(&memory).map_err(|error| error.to_string());
            let loaded = memory.and_then(load);
            {
                let mut shared = actor.shared.borrow_mut();
                shared.rebuilding -= 1;
                shared.changed.notify_waiters();
            }
            if let Err(why) = loaded {
                let text = format!("{} could not be rebuilt from the log: {why}", actor.id);
                return actor.shared.borrow_mut().halt(text);
            }
            match retry {
                Some(deliver) => actor.deliver(deliver, context),
                None => actor.set_wake(context),
            }
        });
        context.wait(back);
    }

    fn set_wake(&mut self, context: &mut Context<Self>) {
        let next = if self.wakes_off { None } else { self.entity.borrow().next_wake() };
        if next == self.wake.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, handle)) = self.wake.take() {
            context.cancel_future(handle);
        }
        if let Some(at) = next {
            // Never longer than an hour at once, so that a clock that is set back or forward is noticed.
            let wait = at.since(self.shared.borrow().now()).0.min(3_600_000);
            let handle = context.run_later(Duration::from_millis(wait), Self::on_wake);
            self.wake = Some((at, handle));
        }
    }

    /// The span of a decision that no message has caused.
    fn own_span(&self, cause: &'static str) -> tracing::Span {
        tracing::info_span!("decide", site = %self.shared.borrow().sequencer.site(), actor = %self.id, cause,
            seq = tracing::field::Empty, verdict = tracing::field::Empty)
    }

    fn on_wake(&mut self, context: &mut Context<Self>) {
        self.wake = None;
        if self.shared.borrow().refuses().is_some() {
            return;
        }
        let span = self.own_span("wake");
        let _entered = span.enter();
        let due = self.entity.borrow().next_wake().is_some_and(|at| at <= self.shared.borrow().now());
        match self.look(|entity, around| entity.wake(around)) {
            Look::Receipt(Receipt::Idle) if due => {
                let text = format!("FS-RUNTIME-IDLE-WAKE: {} asked to be woken and had nothing to do", self.id);
                self.shared.borrow_mut().alarm(text);
                self.wakes_off = true;
            }
            Look::Receipt(receipt) => self.take(receipt, None, context),
            Look::Panicked(text) => {
                self.wakes_off = true;
                return self.break_down(&text, None, context);
            }
        }
        self.set_wake(context);
    }
}

/// What an operator is told of messages that were lost with a log that was put back.
pub(crate) fn lost_text(id: &EntityId, channel: &Channel, lost: Lost) -> String {
    let Lost { first, last } = lost;
    let who = match &channel.sender {
        Sender::Control => channel.site.to_string(),
        Sender::Agent(name) => format!("{}:agent/{name}", channel.site),
        Sender::Api => format!("{}:api", channel.site),
    };
    format!(
        "FS-RUNTIME-LOST: what {who} told {id} in messages {first} to {last} was lost with the log that was put back; check \
         what stands there before you rely on it"
    )
}

fn verdict_word(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Accepted => "accepted",
        Verdict::Rejected(refusal) => &refusal.code,
        Verdict::Expired => "expired",
        Verdict::Superseded => "superseded",
        Verdict::Unsupported => "unsupported",
        Verdict::Poisoned => "poisoned",
    }
}

fn next_try(deliver: Deliver) -> Deliver {
    Deliver { tries: deliver.tries + 1, ..deliver }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

impl Actor for EntityActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if self.broken.is_some() {
            return self.rebuild(context);
        }
        self.set_wake(context);
    }
}

impl Supervised for EntityActor {
    fn restarting(&mut self, context: &mut Context<Self>) {
        context.set_mailbox_capacity(MAILBOX);
        self.wake = None;
    }
}

impl Handler<Deliver> for EntityActor {
    type Result = ();

    fn handle(&mut self, deliver: Deliver, context: &mut Context<Self>) {
        self.deliver(deliver, context);
    }
}

impl Handler<Resume> for EntityActor {
    type Result = ();

    fn handle(&mut self, _: Resume, context: &mut Context<Self>) {
        if self.shared.borrow().refuses().is_some() {
            return;
        }
        let span = self.own_span("restart");
        let _entered = span.enter();
        match self.look(|entity, around| entity.resume(around)) {
            Look::Receipt(receipt) => self.take(receipt, None, context),
            Look::Panicked(text) => self.break_down(&text, None, context),
        }
    }
}
