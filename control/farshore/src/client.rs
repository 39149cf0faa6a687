//! The command line's end of the API.

use crate::failure::{Exit, Failure};
use crate::site::data::DataFolder;
use farshore_api::server::{ApiError, Applied};
use farshore_schemas::ids::{EntityId, Kind, Name};
use farshore_schemas::messages::Message;
use reqwest::blocking::{Client as Http, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

/// A client of one running site.
pub(crate) struct Client {
    http: Http,
    base: String,
    token: String,
}

impl Client {
    /// For the site that runs on a data folder.
    pub(crate) fn of(data: &Path) -> Result<Client, Failure> {
        let folder = DataFolder::at(data);
        let place = folder.api()?;
        let http = Http::builder()
            .timeout(Duration::from_secs(120))
            .no_proxy()
            .build()
            .map_err(|error| Failure::defect(&error))?;
        Ok(Client { http, base: format!("http://{}", place.address), token: folder.token()? })
    }

    /// Reads something.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.answer(self.http.get(self.url(path)))
    }

    /// Defines things.
    pub(crate) fn apply(&self, yaml: String) -> Result<Vec<Applied>, Failure> {
        self.answer(self.http.post(self.url("/api/v1/resources")).body(yaml))
    }

    /// Gives a command; a refusal is a failure.
    pub(crate) fn command(&self, kind: Kind, name: &Name, message: &Message) -> Result<Applied, Failure> {
        let applied: Applied =
            self.answer(self.http.post(self.url(&format!("/api/v1/commands/{kind}/{name}"))).json(message))?;
        refused(applied)
    }

    /// Forgets a thing.
    pub(crate) fn delete(&self, id: &EntityId) -> Result<Applied, Failure> {
        let applied = self.answer(self.http.delete(self.url(&format!("/api/v1/resources/{}/{}", id.kind, id.name))))?;
        refused(applied)
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    fn answer<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let operator = std::env::var("USER").unwrap_or_else(|_| "operator".to_owned());
        let sent = request.bearer_auth(&self.token).header("x-farshore-operator", operator).send();
        let response = sent.map_err(|error| {
            let text = format!("the site's API at {} does not answer: {error}", self.base);
            Failure::new("FS-CLI-API", text, "check that the site runs (`farshore up` or `farshore control`)")
        })?;
        if response.status().is_success() {
            return response.json().map_err(|error| Failure::defect(&error));
        }
        Err(failure(response))
    }
}

fn failure(response: Response) -> Failure {
    let status = response.status().as_u16();
    let exit = match status {
        401 | 403 => Exit::Auth,
        404 => Exit::NotFound,
        409 => Exit::Refused,
        429 => Exit::Busy,
        _ => Exit::Failed,
    };
    match response.json::<ApiError>() {
        Ok(error) => Failure { code: error.code, message: error.message, advice: error.advice, exit },
        Err(_) => {
            Failure::new("FS-CLI-API", format!("the API answered {status}"), "look at the site's log output").with(exit)
        }
    }
}

fn refused(applied: Applied) -> Result<Applied, Failure> {
    match applied.refused {
        Some(error) => {
            Err(Failure { code: error.code, message: error.message, advice: error.advice, exit: Exit::Refused })
        }
        None => Ok(applied),
    }
}
