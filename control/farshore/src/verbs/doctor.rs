//! `farshore doctor`: is this machine, and a site's data folder, fit? Each check says what it looked at and what to do.

use crate::cli::Output;
use crate::failure::{Exit, Failure};
use crate::output::{count, rows};
use crate::site::data::DataFolder;
use serde::Serialize;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

#[derive(Debug, Serialize)]
struct Check {
    what: &'static str,
    fit: Option<bool>,
    found: String,
    advice: &'static str,
}

/// Runs all checks that apply.
pub(crate) fn run(data: Option<&Path>, nats: Option<&str>, output: Output) -> Result<(), Failure> {
    let mut checks = vec![clock(), cores()];
    if let Some(data) = data {
        checks.extend([sync_speed(data), token(data), log(data)]);
    }
    if let Some(nats) = nats {
        checks.push(bus(nats)?);
        // The value cannot be read through the server's API, so it is said every time.
        checks.push(Check {
            what: "NATS sync_interval",
            fit: None,
            found: "cannot be seen from here".to_owned(),
            advice: "where JetStream keeps a log, the server's configuration must say sync_interval: always",
        });
    }
    rows(output, &checks, &["check", "fit", "found", "what to do"], |check| {
        let fit = check.fit.map_or("look", |fit| if fit { "yes" } else { "NO" });
        vec![
            check.what.to_owned(),
            fit.to_owned(),
            check.found.clone(),
            if check.fit == Some(true) { String::new() } else { check.advice.to_owned() },
        ]
    })?;
    if checks.iter().any(|check| check.fit == Some(false)) {
        return Err(Failure::new("FS-DOCTOR", "something is not fit", "see the table above").with(Exit::Incomplete));
    }
    Ok(())
}

fn clock() -> Check {
    let year = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year();
    Check {
        what: "wall clock",
        fit: Some((2026..2100).contains(&year)),
        found: format!("the year {year}"),
        advice: "set the clock; schedules and retention edges use it",
    }
}

fn cores() -> Check {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Check { what: "cores", fit: Some(true), found: format!("{cores}: at most {} tasks at once", cores * 2), advice: "" }
}

/// What an acknowledged decision costs on this disk.
fn sync_speed(data: &Path) -> Check {
    let advice = "use a local file system with a working fdatasync";
    let measure = || -> std::io::Result<Duration> {
        std::fs::create_dir_all(data)?;
        let path = data.join(".doctor");
        let mut file = std::fs::File::create(&path)?;
        let start = Instant::now();
        for _ in 0..20 {
            file.write_all(&[0; 512])?;
            file.sync_data()?;
        }
        let each = start.elapsed() / 20;
        std::fs::remove_file(path)?;
        Ok(each)
    };
    match measure() {
        Ok(each) => Check {
            what: "durable write",
            fit: Some(each < Duration::from_millis(100)),
            found: format!("{each:.1?} each"),
            advice,
        },
        Err(error) => Check { what: "durable write", fit: Some(false), found: error.to_string(), advice },
    }
}

fn token(data: &Path) -> Check {
    let advice = "chmod 600 the file: whoever reads it may command the site";
    let found = std::fs::metadata(data.join("secrets/api-token"));
    match found {
        Ok(meta) => {
            let mode = meta.permissions().mode() & 0o777;
            Check { what: "API token", fit: Some(mode == 0o600), found: format!("mode {mode:o}"), advice }
        }
        Err(error) => {
            Check { what: "API token", fit: None, found: error.to_string(), advice: "it is made when the site starts" }
        }
    }
}

fn log(data: &Path) -> Check {
    let advice = "do not start the site; see docs/guides/log.md";
    if !matches!(DataFolder::at(data).site(), Ok(Some(_))) {
        return Check {
            what: "event log",
            fit: None,
            found: "no site here yet".to_owned(),
            advice: "`farshore up --data DIR` makes one",
        };
    }
    match farshore_log::verify(data) {
        Ok(report) if report.is_clean() => Check {
            what: "event log",
            fit: Some(true),
            found: format!("{}, clean", count(report.frames, "frame")),
            advice,
        },
        Ok(report) => Check {
            what: "event log",
            fit: Some(false),
            found: report.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            advice,
        },
        Err(error) => Check { what: "event log", fit: Some(false), found: error.to_string(), advice },
    }
}

fn bus(url: &str) -> Result<Check, Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| Failure::defect(&error))?;
    let mut options = farshore_bus::NatsOptions::new(url, "farshore-doctor");
    options.patience = Duration::from_secs(5);
    let joined = runtime.block_on(farshore_bus::NatsBus::connect(&options));
    let advice = "check the URL, the server and the credentials";
    Ok(match joined {
        Ok(_) => Check { what: "NATS server", fit: Some(true), found: "joined".to_owned(), advice },
        Err(error) => Check { what: "NATS server", fit: Some(false), found: error.to_string(), advice },
    })
}
