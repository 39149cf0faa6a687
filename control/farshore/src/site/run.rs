//! Starts the parts of a site in this process and stops them in order.

use crate::cli::BusArgs;
use crate::failure::{Exit, Failure};
use crate::site::baseline;
use crate::site::data::{ApiPlace, DataFolder};
use crate::site::log_source::{self, Serving};
use crate::site::open;
use farshore_api::server::{self, ServeError, Server, serve};
use farshore_bus::{Announcement, Bus, LocalBus, NatsBus, NatsOptions, Service, SocketBus};
use farshore_runtime::handle::{ControlHandle, FinalState};
use farshore_runtime::ports::WallClock;
use farshore_runtime::{Options, start};
use farshore_schemas::ids::{Seq, SiteName};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a bus is waited for at start.
const PATIENCE: Duration = Duration::from_secs(30);

/// Joins the bus that was asked for; one of this process' own without.
pub(crate) async fn join_bus(args: &BusArgs, who: &str) -> Result<Arc<dyn Bus>, Failure> {
    let unreachable =
        |error: farshore_bus::BusError| Failure::coded(&error.to_string(), "check the bus and start again");
    if let Some(urls) = &args.nats {
        let mut options = NatsOptions::new(urls, who);
        options.credentials.clone_from(&args.creds);
        return Ok(Arc::new(NatsBus::connect(&options).await.map_err(unreachable)?));
    }
    if let Some(path) = &args.join {
        return Ok(Arc::new(SocketBus::connect(path, PATIENCE).await.map_err(unreachable)?));
    }
    Ok(Arc::new(LocalBus::new()))
}

/// What a site's control is started with.
pub(crate) struct ControlOptions {
    pub(crate) folder: DataFolder,
    pub(crate) site: SiteName,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) api_port: u16,
    pub(crate) renew: Option<String>,
    /// Where the log is served to the agents that keep copies of it, and under which address they reach it.
    pub(crate) log: (SocketAddr, Option<String>),
}

/// What opening had to say, from the site's thread: notes and whether the log was empty, or why it did not open.
type Said = Arc<Mutex<Option<Result<(Vec<String>, bool), Failure>>>>;

/// A site's control and API, running.
pub(crate) struct Control {
    pub(crate) handle: ControlHandle,
    pub(crate) api: Server,
    /// What the start had to say.
    pub(crate) notes: Vec<String>,
    /// Whether the log was empty.
    pub(crate) is_new: bool,
    folder: DataFolder,
    serving: Serving,
    _announced: Announcement,
}

impl Control {
    /// Opens, folds and starts.
    pub(crate) async fn start(options: ControlOptions) -> Result<Control, Failure> {
        let ControlOptions { folder, site, bus, api_port, renew, log } = options;
        // First of all: a port that somebody else has leaves no new folder behind.
        let listener = server::listen(api_port).map_err(|error| port_failure(&error))?;
        folder.make()?;
        match folder.site()? {
            Some(known) if known != site => {
                let text = format!("{} holds the data of site {known}, not of {site}", folder.path.display());
                return Err(Failure::new(
                    "FS-DATA-OTHER-SITE",
                    text,
                    "give --data the folder of this site, or leave --site out",
                )
                .with(Exit::Refused));
            }
            Some(_) => {}
            None => folder.remember_site(&site)?,
        }
        let said: Said = Arc::default();
        let (tell, inside, name) = (Arc::clone(&said), folder.clone(), site.clone());
        let runtime = Options { site: site.clone(), bus: Arc::clone(&bus), clock: Arc::new(WallClock) };
        let handle = start(runtime, move || {
            let opened = open::open(&inside, &name, renew);
            let (outcome, told) = match opened {
                Ok((opened, notes)) => {
                    let is_new = opened.site.sequencer.tail().0.0 == 0;
                    (Ok(opened), Ok((notes.0, is_new)))
                }
                Err(failure) => (Err(failure.to_string()), Err(failure)),
            };
            *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(told);
            outcome
        })
        .await;
        let told = said.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (notes, is_new) = match told {
            Some(told) => told?,
            None => (Vec::new(), false),
        };
        let handle = handle.map_err(|why| Failure::coded(&why, "see above, mend it and start again"))?;
        let api = match serve(handle.clone(), listener, &folder.token()?, &folder.path) {
            Ok(api) => api,
            Err(error) => {
                let _stopped = handle.shutdown().await;
                return Err(port_failure(&error));
            }
        };
        let serving = log_source::start(&handle, (&folder, &site), (log.0, log.1.as_deref())).await;
        let serving = match serving {
            Ok(serving) => serving,
            Err(failure) => {
                api.stop().await;
                let _stopped = handle.shutdown().await;
                return Err(failure);
            }
        };
        folder.announce_api(&ApiPlace { address: api.address.to_string(), pid: std::process::id() })?;
        let service = Service {
            name: "farshore-control".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metadata: [("site".to_owned(), site.to_string())].into(),
        };
        let announced = bus
            .announce(&service)
            .await
            .map_err(|error| Failure::coded(&error.to_string(), "check the NATS account's rights"))?;
        Ok(Control { handle, api, notes, is_new, folder, serving, _announced: announced })
    }

    /// Stops the API, waits for the disk, and keeps what was in memory, with a baseline for the next start.
    pub(crate) async fn stop(self) -> Result<FinalState, Failure> {
        self.folder.withdraw_api();
        let serving = self.serving;
        // Its threads ask the control; they are waited for while it still answers.
        let served = tokio::task::spawn_blocking(move || drop(serving)).await;
        served.map_err(|error| Failure::defect(&error))?;
        self.api.stop().await;
        let state = self.handle.shutdown().await;
        let state = state
            .map_err(|why| Failure::new("FS-CONTROL-HALTED", why, "see the alarms above and docs/guides/log.md"))?;
        self.folder.keep_final_state(&state)?;
        let (folder, at) = (self.folder.clone(), state.clone());
        let written = tokio::task::spawn_blocking(move || keep_baseline(&folder, &at)).await;
        written.map_err(|error| Failure::defect(&error))??;
        Ok(state)
    }
}

fn port_failure(error: &ServeError) -> Failure {
    Failure::coded(&error.to_string(), "choose another port with --api-port").with(Exit::Busy)
}

/// Writes a baseline at the end, once the log's fold has come to the state that was in memory. Without one the next start takes
/// longer: a disk that is full does not make a clean end a failed one.
fn keep_baseline(folder: &DataFolder, state: &FinalState) -> Result<(), Failure> {
    if state.seq == Seq(0) {
        return Ok(());
    }
    match baseline::write(&folder.reader()?, &state.site, state.seq, Some(state.state)) {
        Err(failure) if failure.code == "FS-LOG-IO" => {
            tracing::warn!(%failure, "no baseline was written");
            Ok(())
        }
        written => written.map(drop),
    }
}
