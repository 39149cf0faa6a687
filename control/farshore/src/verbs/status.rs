//! `farshore status`: how a site is.

use super::get::{exists, how, text};
use super::vms::Reach;
use crate::cli::Output;
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{count, say, structured, table, time};
use farshore_api::condition::{Asked, LogSafe, Trouble};
use farshore_schemas::ids::Kind;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::path::Path;

/// See the module.
pub(crate) fn status(data: &Path, output: Output) -> Result<(), Failure> {
    let client = Client::of(data)?;
    let status: Value = client.get("/api/v1/status")?;
    if structured(output, &status)? {
        return Ok(());
    }
    let halted = status["halted"].as_str();
    say(&format!(
        "site {}  {}",
        text(&status["site"]),
        halted.map_or_else(|| "decides".to_owned(), |why| format!("STOPPED: {why}"))
    ));
    say(&format!(
        "log    frame {} decided, {} durable, lineage {}",
        status["last"],
        status["durable"],
        text(&status["lineage"])
    ));
    for copy in list::<LogSafe>(&status["log_copies"]) {
        log_copy(&copy, &text(&status["lineage"]));
    }
    say(&format!("bus    {}", if status["bus_up"] == true { "joined" } else { "not joined" }));
    let reach = Reach::of(&status);
    for away in reach.away() {
        let (site, mover) = (text(&status["site"]), &away.mover);
        let waits = if away.serves.is_empty() { String::new() } else { format!("; {} waits", away.serves.join(", ")) };
        say(&format!("mover  {mover} {}{waits}", reach.line(mover.as_str())));
        say(&format!(
            "       run its agent: farshore agent --site {site} --name {mover}, or farshore up --agent {mover}"
        ));
    }
    for waiting in status["waiting"].as_array().into_iter().flatten() {
        let messages = count(waiting[1].as_u64().unwrap_or_default(), "message");
        say(&format!("waits  {messages} for {}", text(&waiting[0])));
    }
    for asked in list::<Asked>(&status["questions"]) {
        say(&format!("asks   {asked}"));
    }
    for Trouble { with, folder, at, code, message, advice } in list(&status["troubles"]) {
        say(&format!("fails  {with}, {folder}: {code}: {message}, at {}", time(at.0)));
        say(&format!("       what to do: {advice}"));
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        say(&format!("alarm  {}", text(alarm)));
    }
    let jobs: Vec<Value> = client.get("/api/v1/resources/job")?;
    let jobs: Vec<Value> = jobs.into_iter().filter(exists).collect();
    if !jobs.is_empty() {
        let row = |one: &Value| vec![text(&one["name"]), how(Kind::Job, one, &reach)];
        table(&["job", "how it is"], jobs.iter().map(row).collect());
    }
    Ok(())
}

/// How far the log is safe in a repository.
fn log_copy(LogSafe { with, kept, owed }: &LogSafe, lineage: &str) {
    if let Some(kept) = kept {
        // Frame numbers of a log that was put back since count another log's frames.
        let earlier = kept.lineage.to_string() != lineage;
        let of = if earlier { format!("its former lineage {}", kept.lineage) } else { "it".to_owned() };
        say(&format!("       frame {} of {of} is safe in {with}, since {}", kept.seq, time(kept.at.0)));
        if earlier && owed.is_none() {
            say(&format!("       nothing that was decided since is safe in {with} yet"));
        }
    }
    if let Some(owed) = owed {
        say(&format!("       up to frame {owed} of it is owed to {with}, and not there yet"));
    }
}

/// What can be read of a list; a site of another version may say it otherwise.
fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| serde_json::from_value(item.clone()).ok()).collect()
}
