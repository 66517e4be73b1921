//! Mutual TLS between services: one certificate per process, which names its roles, signed by an authority that signs
//! for nothing else. The files are read again when they change.

mod files;
mod server_check;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};
use strom_types::Identity;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tonic::transport::{Channel, Endpoint};
use tracing::{info, warn};

use crate::{Settings, Shutdown};
use files::{Files, Material};
use server_check::ServiceCheck;

/// How often the files are looked at.
const RELOAD_EVERY: Duration = Duration::from_secs(10);
const ALPN: &[u8] = b"h2";
/// Services are told apart by the roles in their certificates, not by the hosts they run on.
const ANY_HOST: &str = "strom.internal";

#[derive(Debug, Error)]
pub enum TlsError {
    #[error("{0} is not set, and TLS between services needs it")]
    Missing(&'static str),
    #[error("strom.grpc.security.protocol is PLAINTEXT, but {0} is set")]
    Contradiction(&'static str),
    #[error("{path}: {problem}")]
    File { path: String, problem: String },
    #[error("{path} does not name this process: {missing} is not among its URIs")]
    OtherIdentity { path: String, missing: Identity },
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// What this process shows to the others and expects of them; cheap to clone.
#[derive(Clone)]
pub struct InternalTls {
    inner: Arc<Inner>,
}

struct Inner {
    files: Files,
    own: Vec<Identity>,
    current: ArcSwap<Loaded>,
}

impl fmt::Debug for InternalTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("InternalTls").field(&self.inner.own).finish()
    }
}

struct Loaded {
    material: Material,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl InternalTls {
    /// From `strom.grpc.*`; `None` = services talk in plain text. `own` is what the certificate must name.
    pub fn from_settings(settings: &Settings, own: Vec<Identity>) -> Result<Option<Self>, TlsError> {
        let Some(files) = Files::from_settings(settings)? else {
            return Ok(None);
        };
        let current = ArcSwap::from_pointee(load(files.read()?, &files, &own)?);
        Ok(Some(InternalTls {
            inner: Arc::new(Inner { files, own, current }),
        }))
    }

    /// Looks at the files until shutdown. New connections use what is newest; files that are no good are left alone.
    pub async fn watch(self, shutdown: Shutdown) {
        let mut told = String::new();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(RELOAD_EVERY) => {}
            }
            let this = self.clone();
            match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(false)) => told.clear(),
                Ok(Ok(true)) => info!("the certificates between services were renewed"),
                Ok(Err(error)) => {
                    let reason = error.to_string();
                    if reason != told {
                        warn!(%error, "the new certificates between services are not used");
                        told = reason;
                    }
                }
                Err(_) => return,
            }
        }
    }

    /// Takes the files in if they have changed, which is what it returns.
    pub fn reload(&self) -> Result<bool, TlsError> {
        let inner = &self.inner;
        let material = inner.files.read()?;
        if inner.current.load().material == material {
            return Ok(false);
        }
        let loaded = load(material, &inner.files, &inner.own)?;
        inner.current.store(Arc::new(loaded));
        Ok(true)
    }

    /// A channel that connects when it is first used, and again after a break.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        let this = self.clone();
        endpoint.connect_with_connector_lazy(tower::service_fn(move |uri| this.clone().dial(uri)))
    }

    /// A channel that is connected.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Channel, tonic::transport::Error> {
        let this = self.clone();
        let dial = tower::service_fn(move |uri| this.clone().dial(uri));
        endpoint.connect_with_connector(dial).await
    }

    async fn dial(self, uri: http::Uri) -> io::Result<TokioIo<client::TlsStream<TcpStream>>> {
        let host = uri.host().unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or_default();
        let socket = TcpStream::connect((host, port)).await?;
        socket.set_nodelay(true)?;
        let connector = TlsConnector::from(self.inner.current.load().client.clone());
        let name = ServerName::try_from(ANY_HOST).map_err(io::Error::other)?;
        Ok(TokioIo::new(connector.connect(name, socket).await?))
    }

    /// The server's side of a handshake: the stream, and what the caller's certificate names.
    pub(crate) async fn accept(
        &self,
        socket: TcpStream,
    ) -> io::Result<(server::TlsStream<TcpStream>, Vec<Identity>)> {
        socket.set_nodelay(true)?;
        let acceptor = TlsAcceptor::from(self.inner.current.load().server.clone());
        let stream = acceptor.accept(socket).await?;
        let (_, connection) = stream.get_ref();
        let certificate = connection.peer_certificates().and_then(<[_]>::first);
        let identities = certificate.map(identities).unwrap_or_default();
        Ok((stream, identities))
    }
}

/// What a certificate, checked already, names.
fn identities(certificate: &CertificateDer<'_>) -> Vec<Identity> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let names = certificate.valid_uri_names();
    names.filter_map(|name| name.parse().ok()).collect()
}

fn load(material: Material, files: &Files, own: &[Identity]) -> Result<Loaded, TlsError> {
    let unusable = |error: &dyn std::fmt::Display| TlsError::Unusable(error.to_string());
    let parsed = material.parse(files)?;
    let named = parsed.chain.first().map(identities).unwrap_or_default();
    if let Some(missing) = own.iter().find(|identity| !named.contains(identity)) {
        return Err(TlsError::OtherIdentity {
            path: files.certificate.display().to_string(),
            missing: *missing,
        });
    }
    let provider: Arc<CryptoProvider> = Arc::new(rustls::crypto::ring::default_provider());
    let callers = WebPkiClientVerifier::builder_with_provider(parsed.authorities.clone(), provider.clone())
        .build()
        .map_err(|error| unusable(&error))?;
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable(&error))?
        .with_client_cert_verifier(callers)
        .with_single_cert(parsed.chain.clone(), parsed.key.clone_key())
        .map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would outlive the authority that vouched for it.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    let services = ServiceCheck::new(parsed.authorities, provider.clone());
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unusable(&error))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(services))
        .with_client_auth_cert(parsed.chain, parsed.key)
        .map_err(|error| unusable(&error))?;
    client.alpn_protocols = vec![ALPN.to_vec()];
    client.enable_sni = false;
    client.resumption = Resumption::disabled();
    Ok(Loaded {
        material,
        server: Arc::new(server),
        client: Arc::new(client),
    })
}
