//! An operator's end of a site's API, who waits while the site is down and says a command again when no answer came. What
//! a site has answered is an acknowledged decision: it is kept here and looked up in the log later.

use super::Wrong;
use super::rig::SITES;
use farshore_log::{LogReader, ReadLog};
use farshore_schemas::frame::{Input, Verdict};
use farshore_schemas::ids::{EntityId, Kind, Name, Seq};
use farshore_schemas::messages::Message;
use reqwest::blocking::{Client as Http, RequestBuilder};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a site may not answer.
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(25);

#[derive(Debug, Deserialize)]
struct ApiPlace {
    address: String,
}

/// Why a command was refused.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) message: String,
}

/// What the API says of a command.
#[derive(Debug, Clone, Deserialize)]
struct Applied {
    id: String,
    seq: u64,
    refused: Option<Refused>,
}

/// A decision that the site has acknowledged.
#[derive(Debug, Clone)]
struct Acknowledged {
    id: String,
    seq: Seq,
    /// The command; none for what was applied as YAML.
    body: Option<Message>,
    refused: Option<String>,
}

/// One site's API and what it has acknowledged.
pub(crate) struct Api {
    pub(crate) site: &'static str,
    pub(crate) folder: PathBuf,
    http: Http,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

enum Answer<T> {
    Is(T),
    NotThere,
    Down(String),
}

impl Api {
    pub(crate) fn of(folder: &Path, site: usize) -> Result<Api, Wrong> {
        let site = SITES[site].0;
        let http = Http::builder().timeout(Duration::from_secs(30)).no_proxy().build()?;
        Ok(Api { site, folder: folder.join(site), http, acknowledged: Mutex::default() })
    }

    fn ask<T: DeserializeOwned>(&self, make: &dyn Fn(&Http, &str) -> RequestBuilder) -> Answer<T> {
        let place = std::fs::read(self.folder.join("run/api.json")).ok();
        let Some(place) = place.and_then(|text| serde_json::from_slice::<ApiPlace>(&text).ok()) else {
            return Answer::Down("it has no API".to_owned());
        };
        let token = std::fs::read_to_string(self.folder.join("secrets/api-token")).unwrap_or_default();
        let request = make(&self.http, &format!("http://{}/api/v1", place.address)).bearer_auth(token.trim());
        match request.send() {
            Ok(response) if response.status().is_success() => match response.json() {
                Ok(value) => Answer::Is(value),
                Err(error) => Answer::Down(error.to_string()),
            },
            Ok(response) if response.status().as_u16() == 404 => Answer::NotThere,
            Ok(response) => {
                let status = response.status();
                Answer::Down(format!("{status}: {}", response.text().unwrap_or_default()))
            }
            Err(error) => Answer::Down(error.to_string()),
        }
    }

    fn insist<T: DeserializeOwned>(&self, make: &dyn Fn(&Http, &str) -> RequestBuilder) -> Result<Option<T>, Wrong> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.ask(make) {
                Answer::Is(value) => return Ok(Some(value)),
                Answer::NotThere => return Ok(None),
                Answer::Down(why) if Instant::now() > deadline => {
                    return Err(format!("site {} does not answer: {why}", self.site).into());
                }
                Answer::Down(_) => std::thread::sleep(LOOK),
            }
        }
    }

    /// Reads something; none where there is nothing.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Wrong> {
        self.insist(&|http, base| http.get(format!("{base}/{path}")))
    }

    /// The state of one actor.
    pub(crate) fn state<T: DeserializeOwned>(&self, kind: Kind, name: &Name) -> Result<Option<T>, Wrong> {
        let shown: Option<serde_json::Value> = self.get(&format!("resources/{kind}/{name}"))?;
        Ok(shown.map(|mut shown| serde_json::from_value(shown["state"].take())).transpose()?)
    }

    /// Defines things.
    pub(crate) fn apply(&self, yaml: &str) -> Result<(), Wrong> {
        let post = |http: &Http, base: &str| http.post(format!("{base}/resources")).body(yaml.to_owned());
        let applied: Vec<Applied> = self.insist(&post)?.unwrap_or_default();
        for one in applied {
            let refused = one.refused.clone();
            self.acknowledge(one, None);
            if let Some(refused) = refused {
                return Err(format!("{}: {}", refused.code, refused.message).into());
            }
        }
        Ok(())
    }

    /// Gives a command until it is answered.
    pub(crate) fn command(&self, kind: Kind, name: &Name, message: &Message) -> Result<Result<(), Refused>, Wrong> {
        let post = |http: &Http, base: &str| http.post(format!("{base}/commands/{kind}/{name}")).json(message);
        let applied: Applied = self.insist(&post)?.ok_or("the API knows no commands")?;
        let refused = applied.refused.clone();
        self.acknowledge(applied, Some(message.clone()));
        Ok(refused.map_or(Ok(()), Err))
    }

    fn acknowledge(&self, applied: Applied, body: Option<Message>) {
        let refused = applied.refused.map(|refused| refused.code);
        let one = Acknowledged { id: applied.id, seq: Seq(applied.seq), body, refused };
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(one);
    }

    /// How many decisions the site has acknowledged.
    pub(crate) fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Looks up acknowledged decisions, the newest `most` of them, in the log as it stands. Says of each that is not there,
    /// or is another, what is missing.
    pub(crate) fn missing(&self, most: usize) -> Result<Vec<String>, Wrong> {
        let all = self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sample = &all[all.len().saturating_sub(most)..];
        let reader = LogReader::open(&self.folder)?;
        let mut missing = Vec::new();
        for one in sample {
            if one.seq.0 == 0 || one.seq > reader.tail().0 {
                missing.push(format!(
                    "{}: frame {} of {} was acknowledged and is not in the log",
                    self.site, one.seq, one.id
                ));
                continue;
            }
            let mut frames = reader.frames_from(one.seq)?;
            let Some(stored) = frames.next()? else {
                missing.push(format!("{}: frame {} of {} cannot be read", self.site, one.seq, one.id));
                continue;
            };
            let (input, events) = (stored.raw.input_section()?, stored.raw.events_section()?);
            if let Some(why) = differs(one, &input.actor, &input.input, &events.verdict) {
                missing.push(format!("{}: frame {} of {}: {why}", self.site, one.seq, one.id));
            }
        }
        Ok(missing)
    }
}

/// How a frame differs from what was acknowledged for its seq.
fn differs(one: &Acknowledged, actor: &EntityId, input: &Input, verdict: &Verdict) -> Option<String> {
    if actor.to_string() != one.id {
        return Some(format!("it is {actor}'s"));
    }
    let Input::Message(envelope) = input else { return Some("it records no command".to_owned()) };
    if one.body.is_some() && envelope.body != one.body {
        return Some(format!("it records {:?} where {:?} was acknowledged", envelope.body, one.body));
    }
    let code = match verdict {
        Verdict::Accepted => None,
        Verdict::Rejected(refusal) => Some(refusal.code.clone()),
        Verdict::Expired | Verdict::Superseded | Verdict::Unsupported | Verdict::Poisoned => {
            Some(format!("{verdict:?}"))
        }
    };
    (code != one.refused).then(|| format!("its verdict is {code:?} where {:?} was acknowledged", one.refused))
}
