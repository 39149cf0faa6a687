//! A data channel: bounded frames over TLS over TCP. Blocking, with a limit on how long nothing may move. A frame is a
//! little-endian u32 length and that many bytes of MessagePack, decoded within the limits of `schemas::codec`.

use crate::metrics::Metrics;
use crate::stop::{Attached, Stop};
use crate::tls::{Secrets, fingerprint};
use farshore_schemas::codec::{self, CodecError};
use farshore_schemas::ids::Digest;
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConfig, ServerConnection, StreamOwned};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The longest frame.
pub(crate) const MAX_FRAME: usize = 2 * 1024 * 1024;
/// How long nothing may move before the channel is given up.
pub(crate) const IDLE: Duration = Duration::from_secs(60);
/// How long connecting, the handshake and the first message may take.
pub(crate) const GREETING: Duration = Duration::from_secs(10);

/// Why a data channel is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the other end closed the connection")]
    Closed,
    #[error("nothing moved for too long")]
    Idle,
    #[error("{0}")]
    Io(std::io::Error),
    #[error("the other end is not the one that the order names, or does not speak TLS 1.3: {0}")]
    Handshake(String),
    #[error("a frame of {0} bytes is longer than the {MAX_FRAME} allowed")]
    TooLong(usize),
    #[error("a message that means nothing: {0}")]
    Garbage(#[from] CodecError),
    #[error("the address {0:?} cannot be resolved")]
    Address(String),
}

impl From<std::io::Error> for LinkError {
    fn from(error: std::io::Error) -> Self {
        let kind = error.kind();
        if matches!(kind, ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) {
            LinkError::Closed
        } else if matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut) {
            LinkError::Idle
        } else if kind == ErrorKind::InvalidData {
            // What TLS says of bytes that do not fit.
            LinkError::Handshake(error.to_string())
        } else {
            LinkError::Io(error)
        }
    }
}

/// A socket whose bytes are counted, and which may have a deadline as a whole.
struct Counted {
    socket: TcpStream,
    metrics: Arc<Metrics>,
    sent: u64,
    deadline: Option<Instant>,
}

impl Counted {
    fn in_time(&self) -> std::io::Result<()> {
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.in_time()?;
        let count = self.socket.read(into)?;
        self.metrics.add_received(count as u64);
        Ok(count)
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.in_time()?;
        let count = self.socket.write(bytes)?;
        self.metrics.add_sent(count as u64);
        self.sent += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.socket.flush()
    }
}

enum Ends {
    Connecting(StreamOwned<ClientConnection, Counted>),
    Accepting(StreamOwned<ServerConnection, Counted>),
}

/// An open data channel whose peer is proven.
pub(crate) struct Link {
    ends: Box<Ends>,
    peer: Digest,
    _attached: Attached,
}

fn prepare(socket: TcpStream, metrics: &Arc<Metrics>) -> std::io::Result<Counted> {
    use rustix::net::sockopt;
    socket.set_nodelay(true)?;
    // A peer that vanished without a word is noticed even while it may take its time.
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(&socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(&socket, 3)?;
    socket.set_read_timeout(Some(GREETING))?;
    socket.set_write_timeout(Some(GREETING))?;
    Ok(Counted { socket, metrics: metrics.clone(), sent: 0, deadline: Some(Instant::now() + GREETING) })
}

/// Drives a handshake to its end.
fn shake<S>(mut step: impl FnMut(&mut S) -> std::io::Result<bool>, stream: &mut S) -> Result<(), LinkError> {
    while step(stream)? {}
    Ok(())
}

impl Link {
    /// Connects to the peer at `address` that holds the key to the certificate with this fingerprint.
    pub(crate) fn connect(
        secrets: &Secrets,
        (address, peer): (&str, Digest),
        metrics: &Arc<Metrics>,
        stop: &Arc<Stop>,
    ) -> Result<Link, LinkError> {
        let mut last = LinkError::Address(address.to_owned());
        for place in address.to_socket_addrs().map_err(|_| LinkError::Address(address.to_owned()))? {
            match TcpStream::connect_timeout(&place, GREETING) {
                Ok(socket) => return Link::greet(secrets, peer, prepare(socket, metrics)?, stop),
                Err(error) => last = LinkError::Io(error),
            }
        }
        Err(last)
    }

    fn greet(secrets: &Secrets, peer: Digest, counted: Counted, stop: &Arc<Stop>) -> Result<Link, LinkError> {
        let attached = stop.attach(&counted.socket)?;
        let config = secrets.client(peer).map_err(|error| LinkError::Handshake(error.to_string()))?;
        // The name is not checked, but TLS wants one.
        let name = ServerName::try_from("farshore-agent").expect("this is a DNS name");
        let connection =
            ClientConnection::new(config, name).map_err(|error| LinkError::Handshake(error.to_string()))?;
        let mut stream = StreamOwned::new(connection, counted);
        shake(
            |stream: &mut StreamOwned<ClientConnection, Counted>| {
                stream.conn.complete_io(&mut stream.sock)?;
                Ok(stream.conn.is_handshaking())
            },
            &mut stream,
        )?;
        let mut link = Link { ends: Box::new(Ends::Connecting(stream)), peer, _attached: attached };
        link.greeted()?;
        Ok(link)
    }

    /// Takes a connection that came in. Nothing of ours is read yet; the peer is proven to be whoever [`Link::peer`] says.
    pub(crate) fn accept(
        config: Arc<ServerConfig>,
        socket: TcpStream,
        metrics: &Arc<Metrics>,
        stop: &Arc<Stop>,
    ) -> Result<Link, LinkError> {
        let attached = stop.attach(&socket)?;
        let connection = ServerConnection::new(config).map_err(|error| LinkError::Handshake(error.to_string()))?;
        let mut stream = StreamOwned::new(connection, prepare(socket, metrics)?);
        shake(
            |stream: &mut StreamOwned<ServerConnection, Counted>| {
                stream.conn.complete_io(&mut stream.sock)?;
                Ok(stream.conn.is_handshaking())
            },
            &mut stream,
        )?;
        let shown = stream.conn.peer_certificates().and_then(|chain| chain.first()).map(fingerprint);
        let peer = shown.ok_or_else(|| LinkError::Handshake("it showed no certificate".to_owned()))?;
        Ok(Link { ends: Box::new(Ends::Accepting(stream)), peer, _attached: attached })
    }

    /// BLAKE3 of the certificate whose key the peer has proven.
    pub(crate) fn peer(&self) -> Digest {
        self.peer
    }

    /// Bytes put on the socket so far.
    pub(crate) fn sent(&mut self) -> u64 {
        self.socket().sent
    }

    /// Another stop that shuts this channel too, as long as the answer lives.
    pub(crate) fn also(&mut self, stop: &Arc<Stop>) -> Result<Attached, LinkError> {
        Ok(stop.attach(&self.socket().socket)?)
    }

    /// The greeting is over: from now on only idleness ends the channel.
    pub(crate) fn greeted(&mut self) -> Result<(), LinkError> {
        let counted = self.socket();
        counted.deadline = None;
        counted.socket.set_read_timeout(Some(IDLE))?;
        counted.socket.set_write_timeout(Some(IDLE))?;
        Ok(())
    }

    /// The other end works for long before it answers (reads a whole disk, say): waits this long for it.
    pub(crate) fn patient(&mut self, span: Duration) -> Result<(), LinkError> {
        Ok(self.socket().socket.set_read_timeout(Some(span))?)
    }

    fn socket(&mut self) -> &mut Counted {
        match self.ends.as_mut() {
            Ends::Connecting(stream) => &mut stream.sock,
            Ends::Accepting(stream) => &mut stream.sock,
        }
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        match self.ends.as_mut() {
            Ends::Connecting(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
            Ends::Accepting(stream) => stream.write_all(bytes).and_then(|()| stream.flush()),
        }
    }

    fn read(&mut self, into: &mut [u8]) -> std::io::Result<()> {
        match self.ends.as_mut() {
            Ends::Connecting(stream) => stream.read_exact(into),
            Ends::Accepting(stream) => stream.read_exact(into),
        }
    }

    /// Sends one message.
    pub(crate) fn send<T: Serialize>(&mut self, message: &T) -> Result<(), LinkError> {
        let body = codec::encode(message);
        if body.len() > MAX_FRAME {
            return Err(LinkError::TooLong(body.len()));
        }
        let mut frame = Vec::with_capacity(4 + body.len());
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(&body);
        Ok(self.write(&frame)?)
    }

    /// Receives one message.
    pub(crate) fn receive<T: DeserializeOwned>(&mut self) -> Result<T, LinkError> {
        let mut head = [0u8; 4];
        self.read(&mut head)?;
        let length = u32::from_le_bytes(head) as usize;
        if length > MAX_FRAME {
            return Err(LinkError::TooLong(length));
        }
        let mut body = vec![0u8; length];
        self.read(&mut body)?;
        Ok(codec::decode_limited(&body, MAX_FRAME)?)
    }
}
