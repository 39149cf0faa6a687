//! Verbs that run a site or a part of it until they are told to stop (SIGINT or SIGTERM; a second one forces).

use crate::cli::{AgentArgs, ControlArgs, UpArgs};
use crate::failure::{Exit, Failure};
use crate::output::hint;
use crate::site::data::DataFolder;
use crate::site::run::{Control, ControlOptions, join_bus};
use crate::telemetry;
use crate::verbs::elsewhere;
use farshore_agent::{Agent, AgentConfig, AgentError};
use farshore_api::{folders, resources};
use farshore_bus::Bus;
use farshore_runtime::handle::Answer;
use farshore_schemas::ids::{Name, SiteName};
use std::path::PathBuf;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// What is said on standard error without `RUST_LOG`.
const LEVEL: &str = "warn,farshore=info";

fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(|error| Failure::defect(&error))
}

/// `farshore up`.
pub(crate) fn up(args: UpArgs, quiet: bool) -> Result<(), Failure> {
    let _telemetry = telemetry::start(LEVEL, "farshore-up")?;
    runtime()?.block_on(async move {
        let stop = StopSignal::listen()?;
        let folder = DataFolder::at(&args.control.data);
        let site = site_name(&folder, args.control.site.as_ref())?;
        let bus = join_bus(&args.control.bus, &format!("farshore-{site}")).await?;
        let control = start_control(&args.control, &site, &bus, quiet).await?;
        if control.is_new && !args.bare {
            define_defaults(&control, &folder, &site, &args.agent).await?;
        }
        let config = agent_config(&folder, &site, &args.agent, (args.listen, None))?;
        let mut agent = match start_agent(config, bus).await {
            Ok(agent) => agent,
            Err(failure) => {
                control.stop().await?;
                return Err(failure);
            }
        };
        hint(
            quiet,
            &format!("site {site} runs on {}; API at {}; stop with ctrl-c", folder.path.display(), control.api.address),
        );
        for line in elsewhere::movers(&control.handle, &args, &site).await? {
            hint(quiet, &line);
        }
        let ended = tokio::select! {
            ended = until_stopped(stop, &mut agent) => ended,
            () = control.handle.ended() => Err(control_died()),
        };
        agent.stop().await.map_err(|error| agent_failure(&error))?;
        let stopped = control.stop().await;
        ended?;
        let state = stopped?;
        hint(quiet, &format!("site {site} stopped at frame {}, state {}", state.seq, state.state));
        Ok(())
    })
}

/// `farshore control`.
pub(crate) fn control(args: ControlArgs, quiet: bool) -> Result<(), Failure> {
    let _telemetry = telemetry::start(LEVEL, "farshore-control")?;
    runtime()?.block_on(async move {
        let stop = StopSignal::listen()?;
        let folder = DataFolder::at(&args.data);
        let site = site_name(&folder, args.site.as_ref())?;
        let bus = join_bus(&args.bus, &format!("farshore-control-{site}")).await?;
        let control = start_control(&args, &site, &bus, quiet).await?;
        hint(
            quiet,
            &format!("control of site {site} runs on {}; API at {}", folder.path.display(), control.api.address),
        );
        tokio::select! {
            () = stop.told() => {}
            () = control.handle.ended() => return Err(control_died()),
        }
        let state = control.stop().await?;
        hint(quiet, &format!("site {site} stopped at frame {}, state {}", state.seq, state.state));
        Ok(())
    })
}

/// `farshore agent`.
pub(crate) fn agent(args: AgentArgs, quiet: bool) -> Result<(), Failure> {
    let _telemetry = telemetry::start(LEVEL, "farshore-agent")?;
    runtime()?.block_on(async move {
        let stop = StopSignal::listen()?;
        let folder = DataFolder::at(&args.data);
        folder.make()?;
        let bus = join_bus(&args.bus, &format!("farshore-agent-{}-{}", args.site, args.name)).await?;
        let service = farshore_bus::Service {
            name: "farshore-agent".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metadata: [("site".to_owned(), args.site.to_string()), ("agent".to_owned(), args.name.to_string())].into(),
        };
        let announced = bus
            .announce(&service)
            .await
            .map_err(|error| Failure::coded(&error.to_string(), "check the NATS account's rights"))?;
        let config = agent_config(&folder, &args.site, &args.name, (args.listen, args.advertise.clone()))?;
        let mut agent = start_agent(config, bus).await?;
        hint(quiet, &format!("agent {} of site {} listens on {}", args.name, args.site, agent.listening()));
        let ended = until_stopped(stop, &mut agent).await;
        drop(announced);
        agent.stop().await.map_err(|error| agent_failure(&error))?;
        ended
    })
}

/// The site's name: as told, as the folder remembers it, or `main` for a new one.
fn site_name(folder: &DataFolder, told: Option<&SiteName>) -> Result<SiteName, Failure> {
    match (told, folder.site()?) {
        (Some(site), _) => Ok(site.clone()),
        (None, Some(site)) => Ok(site),
        (None, None) => SiteName::parse("main").map_err(|bad| Failure::defect(&bad)),
    }
}

async fn start_control(
    args: &ControlArgs,
    site: &SiteName,
    bus: &Arc<dyn Bus>,
    quiet: bool,
) -> Result<Control, Failure> {
    let control = Control::start(ControlOptions {
        folder: DataFolder::at(&args.data),
        site: site.clone(),
        bus: Arc::clone(bus),
        api_port: args.api_port,
        renew: args.renew_lineage.clone(),
        log: (args.log_listen, args.log_advertise.clone()),
    })
    .await?;
    control.notes.iter().for_each(|note| hint(quiet, note));
    Ok(control)
}

/// What a site of its own starts with: one mover with all roles, a folder host and a repository in the data folder.
async fn define_defaults(control: &Control, folder: &DataFolder, site: &SiteName, agent: &Name) -> Result<(), Failure> {
    let absolute = std::fs::canonicalize(&folder.path).map_err(|error| Failure::io("find", &folder.path, &error))?;
    let (vms, repository) = (absolute.join("hosts/local"), absolute.join("repository"));
    std::fs::create_dir_all(&vms).map_err(|error| Failure::io("make", &vms, &error))?;
    let slots = std::thread::available_parallelism().map_or(2, usize::from) * 2;
    let quoted = |path: &std::path::Path| serde_json::json!(path.to_string_lossy()).to_string();
    let yaml = format!(
        "apiVersion: farshore/v1\nkind: Site\nmetadata: {{name: {site}}}\nspec: {{peers: []}}\n---\n\
         apiVersion: farshore/v1\nkind: Mover\nmetadata: {{name: {agent}}}\nspec: {{roles: [source, target, repository], slots: {slots}}}\n---\n\
         apiVersion: farshore/v1\nkind: Repository\nmetadata: {{name: local}}\nspec: {{mover: {agent}, path: {}}}\n---\n\
         apiVersion: farshore/v1\nkind: Host\nmetadata: {{name: local}}\nspec: {{mover: {agent}, folder: {}}}\n",
        quoted(&repository),
        quoted(&vms),
    );
    let defaults = resources::parse(&yaml).map_err(|error| Failure::defect(&error))?;
    folders::check(defaults.iter().map(|one| (&one.id, &one.message)), folders::Held::default(), &absolute)
        .map_err(|taken| Failure::new(taken.code(), taken.to_string(), taken.advice()).with(Exit::Refused))?;
    for resource in defaults {
        let answer = control.handle.command(&resource.id, resource.message, "farshore up", None).await;
        match answer.map_err(|error| Failure::coded(&error.to_string(), "look at the messages above"))? {
            Answer::Accepted { .. } => {}
            Answer::Rejected { refusal, .. } => {
                return Err(Failure::defect(&format!("{}: {}", refusal.code, refusal.message)));
            }
        }
    }
    Ok(())
}

fn agent_config(
    folder: &DataFolder,
    site: &SiteName,
    name: &Name,
    at: (std::net::SocketAddr, Option<String>),
) -> Result<AgentConfig, Failure> {
    let (listen, advertise) = at;
    let guest_program: PathBuf = std::env::current_exe().map_err(|error| Failure::defect(&error))?;
    Ok(AgentConfig {
        site: site.clone(),
        name: name.clone(),
        data: folder.path.clone(),
        listen,
        advertise: advertise.unwrap_or_else(|| format!("{}:0", listen.ip())),
        guest_program,
        slots: std::thread::available_parallelism().map_or(2, usize::from) * 2,
    })
}

async fn start_agent(config: AgentConfig, bus: Arc<dyn Bus>) -> Result<Agent, Failure> {
    Agent::start(config, bus).await.map_err(|error| agent_failure(&error))
}

fn agent_failure(error: &AgentError) -> Failure {
    let text = error.to_string();
    let failure = Failure::coded(&text, "mend the cause and start again");
    if text.contains("IN-USE") || text.contains("LOCKED") { failure.with(Exit::Busy) } else { failure }
}

/// A site whose control has gone must not go on looking alive.
fn control_died() -> Failure {
    Failure::new(
        "FS-CONTROL-DIED",
        "the site's control ended by itself",
        "see the messages above; start the site again, it goes on from its log",
    )
}

/// Waits for a signal, or for the agent to give up.
async fn until_stopped(stop: StopSignal, agent: &mut Agent) -> Result<(), Failure> {
    tokio::select! {
        () = stop.told() => Ok(()),
        failed = agent.failed() => failed.map_err(|error| agent_failure(&error)),
    }
}

/// SIGINT or SIGTERM, listened for from the very start: one that comes while a site is starting stops it in order once it
/// stands. The second one ends the process at once.
struct StopSignal(oneshot::Receiver<()>);

impl StopSignal {
    fn listen() -> Result<StopSignal, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::defect(&error));
        let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            let mut next = async || {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
            };
            next().await;
            let _stopping_already = tell.send(());
            next().await;
            std::process::exit(130);
        });
        Ok(StopSignal(told))
    }

    async fn told(self) {
        let _told_or_gone = self.0.await;
    }
}
