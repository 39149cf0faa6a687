//! What the deciders' tests share: `given(me, events).when(input).then(events, sends)`, and short ways to write ids.
//! Every `when` also checks that folding the events again gives the state that the decision left.

use crate::decider::{Context, Decider, Decision, Input, step};
use farshore_schemas::ids::{Address, Digest, DiskName, Lineage, Name, PointId, Seq, SiteName, VmName, VmRef};
use farshore_schemas::messages::agent::Endpoint;
use farshore_schemas::messages::{Message, Refusal, Refused};
use farshore_schemas::units::{Millis, Timestamp};

/// An actor with a history, and the circumstances of the next input.
pub(crate) struct Given<D: Decider> {
    /// The fold of the history.
    pub(crate) state: D::State,
    /// What the next input finds.
    pub(crate) context: Context,
    history: Vec<D::Event>,
}

/// The actor `me` (as `site:kind/name`) after `events`. Time starts at 1,000,000 ms, the frame at 7.
pub(crate) fn given<D: Decider>(me: &str, events: impl IntoIterator<Item = D::Event>) -> Given<D> {
    let history: Vec<D::Event> = events.into_iter().collect();
    let mut state = D::State::default();
    history.iter().for_each(|event| D::evolve(&mut state, event));
    let me = address(me);
    let context = Context {
        from: Address { site: me.site.clone(), entity: "api/operator".parse().unwrap() },
        me,
        lineage: lineage(1),
        principal: "ops".to_owned(),
        now: Timestamp(1_000_000),
        frame: Seq(7),
    };
    Given { state, context, history }
}

impl<D: Decider> Clone for Given<D> {
    fn clone(&self) -> Self {
        Given { state: self.state.clone(), context: self.context.clone(), history: self.history.clone() }
    }
}

/// An input in a table: its name, who sends it, and what it is.
pub(crate) type Row<D> = (&'static str, &'static str, Input<<D as Decider>::Command>);

/// What every input gives in every state: a line per input, a word per state (`ok`, or the code without its `FS-KIND-`).
pub(crate) fn table<D: Decider>(states: &[Given<D>], inputs: &[Row<D>]) -> String {
    let kind = format!("FS-{}-", D::KIND.as_str().to_uppercase());
    let mut lines = String::new();
    for (name, from, input) in inputs {
        let cells = states.iter().map(|state| {
            let outcome = state.clone().from(from).when_input(input.clone()).outcome();
            outcome.strip_prefix(&kind).unwrap_or(&outcome).to_owned()
        });
        lines.push_str(&format!("{name}: {}\n", cells.collect::<Vec<_>>().join(" ")));
    }
    lines
}

/// Every command of a table, as many kinds as `kinds`: an exhaustive `kind_of` makes a new command fail the test until it is
/// listed.
pub(crate) fn lists_all<D: Decider>(inputs: &[Row<D>], kinds: usize, kind_of: impl Fn(&D::Command) -> usize) {
    let mut seen = std::collections::BTreeSet::new();
    let (mut wake, mut refused) = (false, false);
    for (_, _, input) in inputs {
        match input {
            Input::Command(command) => drop(seen.insert(kind_of(command))),
            Input::Wake => wake = true,
            Input::Refused(_) => refused = true,
        }
    }
    assert_eq!(seen, (0..kinds).collect(), "every command is in the table");
    assert!(wake && refused, "wake and refusal are in the table");
}

/// Wakes at the time that the state names, when it names one: something must follow, and the next time must be later.
pub(crate) fn wake_when_due<D: Decider>(mut given: Given<D>) -> Given<D> {
    let Some(due) = D::next_wake(&given.state) else {
        return given.when_input(Input::Wake).rejected(&format!("FS-{}-NOT-DUE", D::KIND.as_str().to_uppercase()));
    };
    given.context.now = given.context.now.max(due);
    let now = given.context.now;
    let then = given.when_input(Input::Wake);
    assert!(!then.decision().events.is_empty(), "a wake that is due has an event");
    let given = then.accepted();
    assert!(D::next_wake(&given.state).is_none_or(|next| next > due && next > now.min(due)), "a wake moves on");
    given
}

/// A refusal, as the kernel hands it to whoever sent `message`.
pub(crate) fn refused_by<C>(by: &str, message: Message, code: &str) -> Input<C> {
    let refusal = Refusal { code: code.to_owned(), message: "no".to_owned(), advice: "none".to_owned() };
    Input::Refused(Refused { by: address(by), message, refusal })
}

impl<D: Decider> Given<D> {
    /// The next inputs come from `from` (as `site:kind/name`).
    pub(crate) fn from(mut self, from: &str) -> Self {
        self.context.from = address(from);
        self
    }

    /// Time passes.
    pub(crate) fn later(mut self, span: Millis) -> Self {
        self.context.now = self.context.now.after(span);
        self.context.frame = Seq(self.context.frame.0 + 1);
        self
    }

    /// A command is decided and folded.
    pub(crate) fn when(self, command: D::Command) -> Then<D> {
        self.when_input(Input::Command(command))
    }

    /// A command from this party is decided, accepted and folded.
    pub(crate) fn when_from(self, from: &str, command: D::Command) -> Self {
        self.from(from).when(command).accepted()
    }

    /// Any input is decided and folded.
    pub(crate) fn when_input(self, input: Input<D::Command>) -> Then<D> {
        let Given { mut state, context, mut history } = self;
        let before = state.clone();
        let decided = step::<D>(&mut state, &input, &context);
        match &decided {
            Ok(decision) => history.extend(decision.events.iter().cloned()),
            Err(_) => assert_eq!(before, state, "a rejection leaves the state as it was"),
        }
        let mut folded = D::State::default();
        history.iter().for_each(|event| D::evolve(&mut folded, event));
        assert_eq!(folded, state, "the state is the fold of its events");
        Then { given: Given { state, context, history }, decided }
    }
}

/// What came of an input.
pub(crate) struct Then<D: Decider> {
    given: Given<D>,
    /// As decided.
    pub(crate) decided: Result<Decision<D::Event>, D::Rejection>,
}

impl<D: Decider> Then<D> {
    /// It was accepted; the decision.
    pub(crate) fn decision(&self) -> &Decision<D::Event> {
        match &self.decided {
            Ok(decision) => decision,
            Err(rejection) => panic!("rejected: {rejection:?}"),
        }
    }

    /// It gave exactly these events and sends.
    pub(crate) fn then(self, events: &[D::Event], sends: &[(&str, Message)]) -> Given<D> {
        let decision = self.decision();
        assert_eq!(decision.events.as_slice(), events);
        let sent: Vec<(String, Message)> =
            decision.sends.iter().map(|send| (send.to.to_string(), send.body.clone())).collect();
        let wanted: Vec<(String, Message)> = sends.iter().map(|(to, body)| ((*to).to_owned(), body.clone())).collect();
        assert_eq!(sent, wanted);
        self.given
    }

    /// It was accepted, whatever it gave.
    pub(crate) fn accepted(self) -> Given<D> {
        self.decision();
        self.given
    }

    /// It was accepted or rejected.
    pub(crate) fn whatever(self) -> Given<D> {
        self.given
    }

    /// It was accepted and gave these sends, whatever the events.
    pub(crate) fn sent(self, sends: &[(&str, Message)]) -> Given<D> {
        let events = self.decision().events.clone();
        self.then(&events, sends)
    }

    /// It was rejected with this code; message and advice are there.
    pub(crate) fn rejected(self, code: &str) -> Given<D> {
        assert_eq!(self.outcome(), code);
        self.given
    }

    /// `ok`, or the code of the rejection: for tables of every (state, input) pair.
    pub(crate) fn outcome(&self) -> String {
        match &self.decided {
            Ok(_) => "ok".to_owned(),
            Err(rejection) => {
                let refusal: Refusal = rejection.clone().into();
                assert!(refusal.code.starts_with("FS-"), "{refusal:?}");
                assert!(!refusal.message.is_empty() && !refusal.advice.is_empty(), "{refusal:?}");
                refusal.code
            }
        }
    }
}

pub(crate) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

pub(crate) fn site(text: &str) -> SiteName {
    text.parse().unwrap()
}

pub(crate) fn vm(text: &str) -> VmName {
    text.parse().unwrap()
}

pub(crate) fn disk(text: &str) -> DiskName {
    text.parse().unwrap()
}

pub(crate) fn point(text: &str) -> PointId {
    PointId(name(text))
}

/// A VM where it stands, as `site/host/vm`.
pub(crate) fn vm_ref(text: &str) -> VmRef {
    let parts: Vec<&str> = text.split('/').collect();
    VmRef { site: site(parts[0]), host: name(parts[1]), vm: vm(parts[2]) }
}

pub(crate) fn lineage(byte: u8) -> Lineage {
    Lineage([byte; 16])
}

pub(crate) fn digest(byte: u8) -> Digest {
    Digest([byte; 32])
}

/// The data channel of an agent, as `site/agent`.
pub(crate) fn endpoint(text: &str) -> Endpoint {
    let (at, agent) = text.split_once('/').unwrap();
    Endpoint {
        site: site(at),
        agent: name(agent),
        address: format!("{agent}.{at}:7000"),
        fingerprint: digest(u8::try_from(text.len()).unwrap()),
    }
}
