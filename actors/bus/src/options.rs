//! How to reach NATS.

use crate::BusError;
use async_nats::ServerAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Certificates for TLS. The server is always verified.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tls {
    /// PEM file with the authorities to trust, besides the system's.
    pub authorities: Option<PathBuf>,
    /// PEM files with our certificate and its key, when the server asks for one.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// How to reach NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsOptions {
    /// URLs of the servers, `nats://host:4222`; with several, any of them will do. A login may stand in them
    /// (`nats://user:password@host`, `nats://token@host`), though a credentials file keeps it off the command line.
    pub servers: Vec<String>,
    /// What the connection is called in the server's lists.
    pub name: String,
    /// A NATS credentials file (JWT and key).
    pub credentials: Option<PathBuf>,
    /// TLS, when it is wanted; `tls://` in a URL demands it too.
    pub tls: Option<Tls>,
    /// How long the first connection may take before it is an error. Later ones are tried for ever.
    pub patience: Duration,
}

impl NatsOptions {
    /// One or more URLs, separated by commas, without credentials or TLS, and 10 s of patience.
    pub fn new(urls: &str, name: &str) -> Self {
        Self {
            servers: urls.split(',').map(|url| url.trim().to_owned()).filter(|url| !url.is_empty()).collect(),
            name: name.to_owned(),
            credentials: None,
            tls: None,
            patience: Duration::from_secs(10),
        }
    }

    /// The parsed addresses, and how to name them without the secrets that a URL may bear.
    pub(crate) fn addresses(&self) -> Result<(Vec<ServerAddr>, String), BusError> {
        let parse = |url: &String| {
            url.parse::<ServerAddr>().map_err(|error| BusError::Options {
                what: format!("the NATS URL ending in {:?}", url.rsplit('@').next().unwrap_or_default()),
                why: error.to_string(),
            })
        };
        let addresses = self.servers.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if addresses.is_empty() {
            return Err(BusError::Options {
                what: "the list of NATS URLs".into(),
                why: "it is empty; nats://127.0.0.1:4222 would be one".into(),
            });
        }
        let shown: Vec<_> = addresses.iter().map(|a| format!("{}://{}:{}", a.scheme(), a.host(), a.port())).collect();
        Ok((addresses, shown.join(", ")))
    }
}
