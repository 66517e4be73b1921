//! The files of `strom.grpc.tls.*`: which they are, what is in them, and what it means.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;
use crate::Settings;

const PROTOCOL: &str = "strom.grpc.security.protocol";
const CERTIFICATE: &str = "strom.grpc.tls.certificate.file";
const KEY: &str = "strom.grpc.tls.key.file";
const AUTHORITIES: &str = "strom.grpc.tls.ca.file";

pub(super) struct Files {
    pub(super) certificate: PathBuf,
    key: PathBuf,
    authorities: PathBuf,
}

/// The files' bytes.
#[derive(PartialEq, Eq)]
pub(super) struct Material {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Vec<u8>,
}

pub(super) struct Parsed {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
    pub authorities: Arc<RootCertStore>,
}

impl Files {
    /// `None` = no TLS.
    pub(super) fn from_settings(settings: &Settings) -> Result<Option<Self>, TlsError> {
        let keys = [CERTIFICATE, KEY, AUTHORITIES];
        let set = keys.into_iter().find(|key| settings.text(key).is_some());
        match (settings.text(PROTOCOL).as_deref(), set) {
            (Some("PLAINTEXT"), Some(key)) => return Err(TlsError::Contradiction(key)),
            (Some("PLAINTEXT") | None, None) => return Ok(None),
            _ => {}
        }
        let path = |key| {
            let path = settings.text(key).map(PathBuf::from);
            path.ok_or(TlsError::Missing(key))
        };
        Ok(Some(Files {
            certificate: path(CERTIFICATE)?,
            key: path(KEY)?,
            authorities: path(AUTHORITIES)?,
        }))
    }

    pub(super) fn read(&self) -> Result<Material, TlsError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| problem(path, &error));
        Ok(Material {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            authorities: read(&self.authorities)?,
        })
    }
}

impl Material {
    pub(super) fn parse(&self, files: &Files) -> Result<Parsed, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|error| problem(&files.key, &error))?;
        let mut authorities = RootCertStore::empty();
        for authority in certificates(&self.authorities, &files.authorities)? {
            let added = authorities.add(authority);
            added.map_err(|error| problem(&files.authorities, &error))?;
        }
        Ok(Parsed {
            chain: certificates(&self.certificate, &files.certificate)?,
            key,
            authorities: Arc::new(authorities),
        })
    }
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| problem(path, &error))?;
    if found.is_empty() {
        return Err(problem(path, &"there is no certificate in it"));
    }
    Ok(found)
}

fn problem(path: &Path, problem: &dyn std::fmt::Display) -> TlsError {
    TlsError::File {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}
