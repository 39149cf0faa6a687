//! How the API says no: always `{code, message, advice}`, whoever found it out.

use actix_web::body::BoxBody;
use actix_web::dev::ServiceResponse;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{HttpResponse, HttpResponseBuilder};
use farshore_runtime::handle::NoAnswer;
use farshore_schemas::ids::EntityId;
use serde::{Deserialize, Serialize};

/// An error as the API and the command line give it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// A stable code.
    pub code: String,
    /// What happened, to what, and why.
    pub message: String,
    /// What to do.
    pub advice: String,
}

pub(crate) fn error(code: &str, message: &str, advice: &str) -> ApiError {
    ApiError { code: code.to_owned(), message: message.to_owned(), advice: advice.to_owned() }
}

/// A request's body is not what it should be.
pub(crate) fn bad_body(why: &str) -> HttpResponse {
    let text = format!("the request's body cannot be read: {why}");
    HttpResponse::BadRequest().json(error("FS-API-BODY", &text, "send what docs/guides/api.md describes"))
}

pub(crate) fn no_answer(why: &NoAnswer) -> HttpResponse {
    let body = |code: &str, advice: &str| error(code, &why.to_string(), advice);
    match why {
        NoAnswer::Stopped(_) => {
            HttpResponse::ServiceUnavailable().json(body("FS-CONTROL-STOPPED", "look at `farshore status`"))
        }
        NoAnswer::Busy => HttpResponse::TooManyRequests().json(body("FS-CONTROL-BUSY", "try again in a moment")),
        NoAnswer::NoActor(_) => HttpResponse::NotFound().json(body("FS-CONTROL-NO-ACTOR", "check the kind and name")),
    }
}

pub(crate) fn not_found(id: &EntityId) -> HttpResponse {
    HttpResponse::NotFound().json(error(
        "FS-API-NOT-FOUND",
        &format!("there is no {id} at this site"),
        "list what there is with `farshore get`",
    ))
}

/// What the web framework refused by itself, before anything of ours had the request: said like everything else.
pub(crate) fn in_json(answer: ServiceResponse<BoxBody>, max_body: usize) -> ServiceResponse<BoxBody> {
    let status = answer.status();
    let ours = answer.headers().get(CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return answer;
    }
    let why = answer.response().error().map_or_else(|| status.to_string(), ToString::to_string);
    let (request, _) = answer.into_parts();
    let asked = format!("{} {}", request.method(), request.path());
    let body = match status {
        StatusCode::PAYLOAD_TOO_LARGE => error(
            "FS-API-BODY-SIZE",
            &format!("the body of {asked} is larger than {max_body} bytes"),
            "split it into several; nothing was applied",
        ),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => error(
            "FS-API-NO-REQUEST",
            &format!("the API has no request {asked}"),
            "see docs/guides/api.md for what it has",
        ),
        _ => error("FS-API-REQUEST", &format!("{asked} was refused: {why}"), "send what docs/guides/api.md describes"),
    };
    ServiceResponse::new(request, HttpResponseBuilder::new(status).json(body))
}
