//! Who may talk to the API: whoever can read the token file of the site's data folder (mode 0600), from a client that names
//! this machine as the host. Host and Origin are checked so that no web page can reach it by a name of its own.

use actix_web::dev::ServiceRequest;
use actix_web::http::header;

/// Why a request is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// Host or Origin is not this machine's loopback.
    Elsewhere,
    /// No token, or another one.
    NoToken,
}

/// What the API compares with.
#[derive(Clone)]
pub struct Guard {
    token: String,
    port: u16,
}

impl Guard {
    /// For a token and the port that the API listens on.
    pub fn new(token: &str, port: u16) -> Self {
        Guard { token: token.to_owned(), port }
    }

    /// Checks a request.
    ///
    /// # Errors
    /// [`TurnedAway`].
    pub fn check(&self, request: &ServiceRequest) -> Result<(), TurnedAway> {
        let text = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let host = text(header::HOST).unwrap_or_default();
        if !self.is_here(host) {
            return Err(TurnedAway::Elsewhere);
        }
        if let Some(origin) = text(header::ORIGIN)
            && !origin.strip_prefix("http://").is_some_and(|origin| self.is_here(origin))
        {
            return Err(TurnedAway::Elsewhere);
        }
        let given = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
        if same(given.as_bytes(), self.token.as_bytes()) { Ok(()) } else { Err(TurnedAway::NoToken) }
    }

    fn is_here(&self, host: &str) -> bool {
        ["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{}", self.port))
    }
}

/// Compares in a time that does not tell how much is alike.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0u8, |all, (a, b)| all | (a ^ b)) == 0
}
