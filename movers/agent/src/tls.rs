//! Who is at the other end of a data channel. There is no authority: an order names the BLAKE3 of the other end's
//! certificate, and both ends prove by TLS 1.3 that they hold the key to theirs. Names and validity times in certificates
//! mean nothing here, the signature over the handshake means everything.

use crate::error::AgentError;
use farshore_schemas::ids::Digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, ServerConfig,
    SignatureScheme,
};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// The BLAKE3 of a certificate (DER).
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Digest {
    Digest(*blake3::hash(certificate.as_ref()).as_bytes())
}

/// An agent's certificate and key. The key never leaves this type.
pub(crate) struct Secrets {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Secrets {
    /// Reads the agent's certificate and key from `folder`, or makes them on the first start (one file, mode 0600).
    ///
    /// # Errors
    /// [`AgentError::Secrets`].
    pub(crate) fn open(folder: &Path, agent: &str) -> Result<Secrets, AgentError> {
        Secrets::open_as(folder, &format!("agent-{agent}"))
    }

    /// The same, in the file `WHO.pem`.
    ///
    /// # Errors
    /// [`AgentError::Secrets`].
    pub(crate) fn open_as(folder: &Path, who: &str) -> Result<Secrets, AgentError> {
        let path = folder.join(format!("{who}.pem"));
        let wrong = |why: String| AgentError::Secrets { path: path.clone(), why };
        if !path.exists() {
            make(folder, &path, who).map_err(|error| wrong(error.to_string()))?;
        }
        let pem = std::fs::read(&path).map_err(|error| wrong(error.to_string()))?;
        let certificate = CertificateDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| wrong(error.to_string()))?;
        Ok(Secrets { certificate, key })
    }

    /// What orders name this agent by.
    pub(crate) fn fingerprint(&self) -> Digest {
        fingerprint(&self.certificate)
    }

    /// TLS as the accepting end. Any client that proves a certificate passes; which one it is, is checked by the caller
    /// before anything is read.
    ///
    /// # Errors
    /// [`AgentError::Tls`].
    pub(crate) fn server(&self) -> Result<Arc<ServerConfig>, AgentError> {
        let provider = provider();
        let verifier = Arc::new(AnyProvenClient { provider: provider.clone() });
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder
                    .with_client_cert_verifier(verifier)
                    .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            });
        let mut config = config.map_err(|error| AgentError::Tls { why: error.to_string() })?;
        // Every connection proves both ends anew.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// TLS as the connecting end, to the peer with this fingerprint and no other.
    ///
    /// # Errors
    /// [`AgentError::Tls`].
    pub(crate) fn client(&self, peer: Digest) -> Result<Arc<ClientConfig>, AgentError> {
        let provider = provider();
        let verifier = Arc::new(NamedServer { provider: provider.clone(), peer });
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                builder
                    .dangerous()
                    .with_custom_certificate_verifier(verifier)
                    .with_client_auth_cert(vec![self.certificate.clone()], self.key.clone_key())
            });
        let mut config = config.map_err(|error| AgentError::Tls { why: error.to_string() })?;
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes certificate and key in one file that appears whole and is durable before it is used.
fn make(folder: &Path, path: &Path, who: &str) -> Result<(), Box<dyn std::error::Error>> {
    std::fs::create_dir_all(folder)?;
    let rcgen::CertifiedKey { cert, signing_key } = rcgen::generate_simple_self_signed([who.to_owned()])?;
    let fresh = path.with_extension("tmp");
    let _ = std::fs::remove_file(&fresh);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
    file.write_all(signing_key.serialize_pem().as_bytes())?;
    file.write_all(cert.pem().as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&fresh, path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}

/// Accepts the one server that the order names.
#[derive(Debug)]
struct NamedServer {
    provider: Arc<CryptoProvider>,
    peer: Digest,
}

impl ServerCertVerifier for NamedServer {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(end_entity) == self.peer {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Accepts every client that proves the key to the certificate it shows.
#[derive(Debug)]
struct AnyProvenClient {
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyProvenClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
