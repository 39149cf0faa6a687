//! The HTTP server of one site, on loopback. Verbs that change things go to actors as commands and are answered when their
//! frame is durable; everything else reads memories.

pub use crate::answers::ApiError;

use crate::answers::{bad_body, error, in_json, no_answer, not_found};
use crate::condition::Condition;
use crate::guard::{Guard, TurnedAway};
use crate::json::from_msgpack;
use crate::metrics::Metrics;
use crate::{condition, folders, operator, progress, resources};
use actix_web::body::BoxBody;
use actix_web::dev::{ServerHandle, ServiceRequest, ServiceResponse};
use actix_web::error::{InternalError, JsonPayloadError};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use farshore_kernel::entity::Memory;
use farshore_runtime::handle::{Answer, ControlHandle, NoAnswer};
use farshore_schemas::ids::{EntityId, Kind, Name};
use farshore_schemas::messages::Message;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

/// Bytes of a request's body.
const MAX_BODY: usize = resources::MAX_BYTES + 1024;

/// What came of one resource or command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// The actor.
    pub id: String,
    /// The frame that records the decision.
    pub seq: u64,
    /// Why not, if it was refused.
    pub refused: Option<ApiError>,
    /// What is waited for before what was asked is done, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Why the server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The port is taken or not ours to take.
    #[error(
        "FS-API-PORT-IN-USE: the API cannot listen on {address}: {why}. Stop what listens there, or choose another port with --api-port"
    )]
    Port {
        /// The address.
        address: SocketAddr,
        /// Why.
        why: String,
    },
    /// Metrics.
    #[error(transparent)]
    Metrics(#[from] crate::metrics::MetricsError),
}

struct Shared {
    control: ControlHandle,
    metrics: Metrics,
    /// The site's data folder.
    data: PathBuf,
}

/// A server that runs.
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Stops it; requests under way are finished.
    pub async fn stop(&self) {
        self.handle.stop(true).await;
    }
}

/// Takes a port of loopback; 0 for any that is free. Nothing is answered there before [`serve`].
///
/// # Errors
/// [`ServeError::Port`].
pub fn listen(port: u16) -> Result<TcpListener, ServeError> {
    let wanted = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpListener::bind(wanted).map_err(|error| ServeError::Port { address: wanted, why: error.to_string() })
}

/// Starts the server. Must be called inside a tokio runtime. `data` is the site's data folder, which no host may have.
///
/// # Errors
/// [`ServeError`].
pub fn serve(control: ControlHandle, listener: TcpListener, token: &str, data: &Path) -> Result<Server, ServeError> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let address =
        listener.local_addr().map_err(|error| ServeError::Port { address: nowhere, why: error.to_string() })?;
    let taken = |error: std::io::Error| ServeError::Port { address, why: error.to_string() };
    let guard = Guard::new(token, address.port());
    let shared = web::Data::new(Shared { control, metrics: Metrics::new()?, data: data.to_owned() });
    let server = HttpServer::new(move || {
        let guard = guard.clone();
        App::new()
            .app_data(shared.clone())
            .app_data(web::PayloadConfig::new(MAX_BODY))
            .app_data(web::JsonConfig::default().limit(MAX_BODY).error_handler(|error, _| not_json(error)))
            .route("/healthz", web::get().to(|| async { HttpResponse::Ok().body("ok\n") }))
            .route("/readyz", web::get().to(ready))
            .route("/version", web::get().to(|| async { HttpResponse::Ok().json(env!("CARGO_PKG_VERSION")) }))
            .route("/metrics", web::get().to(metrics))
            .service(
                web::scope("/api/v1")
                    .wrap(from_fn(move |request, next| admit(guard.clone(), request, next)))
                    .configure(routes),
            )
    })
    .workers(1)
    .disable_signals()
    .listen(listener)
    .map_err(taken)?
    .run();
    let handle = server.handle();
    tokio::spawn(server);
    Ok(Server { address, handle })
}

fn routes(config: &mut web::ServiceConfig) {
    config
        .route("/status", web::get().to(status))
        .route("/resources", web::post().to(apply))
        .route("/resources/{kind}", web::get().to(list))
        .route("/resources/{kind}/{name}", web::get().to(show))
        .route("/resources/{kind}/{name}", web::delete().to(delete))
        .route("/commands/{kind}/{name}", web::post().to(command))
        .route("/progress", web::get().to(|shared: web::Data<Shared>| async move { progress::lines(&shared.control) }));
}

async fn admit(
    guard: Guard,
    request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let response = match guard.check(&request) {
        Ok(()) => return Ok(in_json(next.call(request).await?, MAX_BODY)),
        Err(TurnedAway::Elsewhere) => HttpResponse::Forbidden().json(error(
            "FS-API-HOST",
            "the request names another host or comes from another origin",
            "talk to the API as 127.0.0.1 or localhost, with its port",
        )),
        Err(TurnedAway::NoToken) => HttpResponse::Unauthorized().json(error(
            "FS-API-TOKEN",
            "the request bears no valid token",
            "use the token in secrets/api-token of the site's data folder",
        )),
    };
    Ok(request.into_response(response))
}

fn not_json(why: JsonPayloadError) -> actix_web::Error {
    let too_large = matches!(why, JsonPayloadError::Overflow { .. } | JsonPayloadError::OverflowKnownLength { .. });
    let answer = if too_large { HttpResponse::PayloadTooLarge().finish() } else { bad_body(&why.to_string()) };
    InternalError::from_response(why, answer).into()
}

async fn ready(shared: web::Data<Shared>) -> HttpResponse {
    match shared.control.status().await {
        Ok(status) if status.halted.is_none() => HttpResponse::Ok().body("ready\n"),
        Ok(status) => {
            HttpResponse::ServiceUnavailable().body(format!("halted: {}\n", status.halted.unwrap_or_default()))
        }
        Err(why) => HttpResponse::ServiceUnavailable().body(format!("{why}\n")),
    }
}

async fn metrics(shared: web::Data<Shared>) -> HttpResponse {
    let read =
        async { Ok::<_, NoAnswer>((shared.control.status().await?, shared.control.memories(Some(Kind::Job)).await?)) };
    match read.await {
        Ok((status, jobs)) => match shared.metrics.render(&status, &jobs) {
            Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text),
            Err(why) => HttpResponse::InternalServerError().body(why.to_string()),
        },
        Err(why) => no_answer(&why),
    }
}

async fn status(shared: web::Data<Shared>) -> HttpResponse {
    let read = async {
        let control = shared.control.status().await?;
        let mut memories = shared.control.memories(Some(Kind::Mover)).await?;
        memories.extend(shared.control.memories(Some(Kind::Host)).await?);
        memories.extend(shared.control.memories(Some(Kind::Repository)).await?);
        Ok::<_, NoAnswer>(Condition::of(control, &memories))
    };
    match read.await {
        Ok(condition) => HttpResponse::Ok().json(condition),
        Err(why) => no_answer(&why),
    }
}

async fn apply(shared: web::Data<Shared>, request: HttpRequest, body: web::Bytes) -> HttpResponse {
    let Ok(text) = std::str::from_utf8(&body) else {
        return HttpResponse::BadRequest().json(error("FS-YAML-SYNTAX", "the body is not UTF-8 text", "send YAML"));
    };
    let wanted = match resources::parse(text) {
        Ok(wanted) => wanted,
        Err(wrong) => {
            let code = format!("FS-YAML-{}", wrong.code);
            return HttpResponse::BadRequest().json(error(
                &code,
                &wrong.to_string(),
                "correct the text; nothing was applied",
            ));
        }
    };
    if let Some(other) =
        wanted.iter().find(|one| one.site.as_ref().is_some_and(|name| name != shared.control.site().as_str()))
    {
        let text = format!(
            "line {}: the document is for site {}, this is {}",
            other.line,
            other.site.as_deref().unwrap_or_default(),
            shared.control.site()
        );
        return HttpResponse::BadRequest().json(error(
            "FS-YAML-SITE",
            &text,
            "apply it to that site, or correct the name; nothing was applied",
        ));
    }
    if let Err(refused) = folders_free(&shared, wanted.iter().map(|one| (&one.id, &one.message))).await {
        return *refused;
    }
    let mut applied = Vec::with_capacity(wanted.len());
    for resource in wanted {
        match send(&shared, &request, &resource.id, resource.message).await {
            Ok(one) => applied.push(one),
            Err(why) => return no_answer(&why),
        }
    }
    HttpResponse::Ok().json(applied)
}

/// Refuses definitions of hosts and repositories whose folder another or the site itself has.
async fn folders_free<'a>(
    shared: &Shared,
    wanted: impl Iterator<Item = (&'a EntityId, &'a Message)>,
) -> Result<(), Box<HttpResponse>> {
    let wanted: Vec<_> = wanted.filter(|(_, message)| folders::concerns(message)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let mut memories = Vec::new();
    for kind in [Kind::Host, Kind::Repository, Kind::Mover] {
        memories.extend(shared.control.memories(Some(kind)).await.map_err(|why| Box::new(no_answer(&why)))?);
    }
    folders::check(wanted, folders::Held::of(&memories), &shared.data).map_err(|taken| {
        Box::new(HttpResponse::Conflict().json(error(taken.code(), &taken.to_string(), taken.advice())))
    })
}

async fn send(shared: &Shared, request: &HttpRequest, id: &EntityId, message: Message) -> Result<Applied, NoAnswer> {
    let header = |name: &str| {
        request
            .headers()
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(|text| text.chars().take(128).collect::<String>())
    };
    let principal = header("x-farshore-operator").unwrap_or_else(|| "operator".to_owned());
    let answer = shared.control.command(id, message, &principal, header("traceparent")).await?;
    Ok(match answer {
        Answer::Accepted { seq } => Applied { id: id.to_string(), seq: seq.0, refused: None, note: None },
        Answer::Rejected { seq, refusal } => Applied {
            id: id.to_string(),
            seq: seq.0,
            refused: Some(ApiError { code: refusal.code, message: refusal.message, advice: refusal.advice }),
            note: None,
        },
    })
}

fn entity(kind: &str, name: &str) -> Result<EntityId, Box<HttpResponse>> {
    let parsed = kind.parse::<Kind>().and_then(|kind| Ok(EntityId { kind, name: name.parse::<Name>()? }));
    parsed.map_err(|bad| {
        Box::new(HttpResponse::BadRequest().json(error("FS-API-NAME", &bad.to_string(), "check the kind and name")))
    })
}

/// An actor as the API shows it.
pub fn shown(memory: &Memory) -> serde_json::Value {
    serde_json::json!({
        "kind": memory.actor.kind,
        "name": memory.actor.name,
        "frames": memory.actor_seq,
        "state": from_msgpack(&memory.state),
    })
}

async fn list(shared: web::Data<Shared>, path: web::Path<String>) -> HttpResponse {
    let kind = match path.parse::<Kind>() {
        Ok(kind) => kind,
        Err(bad) => return HttpResponse::BadRequest().json(error("FS-API-KIND", &bad.to_string(), "check the kind")),
    };
    match shared.control.memories(Some(kind)).await {
        Ok(memories) => HttpResponse::Ok().json(memories.iter().map(shown).collect::<Vec<_>>()),
        Err(why) => no_answer(&why),
    }
}

async fn show(shared: web::Data<Shared>, path: web::Path<(String, String)>) -> HttpResponse {
    let id = match entity(&path.0, &path.1) {
        Ok(id) => id,
        Err(response) => return *response,
    };
    match shared.control.memory(&id).await {
        Ok(Some(memory)) => HttpResponse::Ok().json(shown(&memory)),
        Ok(None) => not_found(&id),
        Err(why) => no_answer(&why),
    }
}

async fn delete(shared: web::Data<Shared>, request: HttpRequest, path: web::Path<(String, String)>) -> HttpResponse {
    let id = match entity(&path.0, &path.1) {
        Ok(id) => id,
        Err(response) => return *response,
    };
    let Some(message) = operator::removal(&id) else {
        let text = format!("{id} cannot be deleted by hand");
        return HttpResponse::BadRequest().json(error(
            "FS-API-DELETE",
            &text,
            "delete hosts, movers, repositories, jobs, replicas and plans",
        ));
    };
    match shared.control.memory(&id).await {
        Ok(Some(_)) => {}
        Ok(None) => return not_found(&id),
        Err(why) => return no_answer(&why),
    }
    match send(&shared, &request, &id, message).await {
        Ok(applied) => HttpResponse::Ok().json(applied),
        Err(why) => no_answer(&why),
    }
}

async fn command(
    shared: web::Data<Shared>,
    request: HttpRequest,
    path: web::Path<(String, String)>,
    body: web::Json<Message>,
) -> HttpResponse {
    let id = match entity(&path.0, &path.1) {
        Ok(id) => id,
        Err(response) => return *response,
    };
    let message = body.into_inner();
    if message.kind() != Some(id.kind) || !operator::may_send(&message) {
        let text = format!("this is not a command that an operator gives to a {}", id.kind);
        return HttpResponse::BadRequest().json(error("FS-API-COMMAND", &text, "use the command line's verbs"));
    }
    // A command to a name that nothing has would make an actor that remembers nothing but having refused it.
    let there = match shared.control.memory(&id).await {
        Ok(memory) => memory.is_some(),
        Err(why) => return no_answer(&why),
    };
    if !there && !operator::defines(&message) {
        return not_found(&id);
    }
    if let Err(refused) = folders_free(&shared, std::iter::once((&id, &message))).await {
        return *refused;
    }
    let starts = condition::starts(&message).cloned();
    let mut applied = match send(&shared, &request, &id, message).await {
        Ok(applied) => applied,
        Err(why) => return no_answer(&why),
    };
    if let Some(vm) = starts.filter(|_| applied.refused.is_none()) {
        let memory = shared.control.memory(&id).await;
        applied.note = memory.ok().flatten().and_then(|memory| condition::waits(&memory, &vm));
    }
    HttpResponse::Ok().json(applied)
}
