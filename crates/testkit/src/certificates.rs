//! Certificates for tests: an authority, and what it signs.

use std::fs::write;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use strom_runtime::InternalTls;
use strom_runtime::config::{Sources, load};
use strom_types::Identity;

/// Signs certificates, into files of one directory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
    file: PathBuf,
}

/// The files of one certificate and of whom it trusts.
#[derive(Clone, Debug)]
pub struct Credentials {
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub authority: PathBuf,
}

impl Authority {
    /// A new one, as `NAME.pem`.
    pub fn new(dir: &Path, name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = dir.join(format!("{name}.pem"));
        write(&file, certificate.pem()).expect("the authority is written");
        Authority {
            issuer: Issuer::new(params, key),
            dir: dir.to_owned(),
            file,
        }
    }

    /// A certificate that names these identities.
    pub fn issue(&self, name: &str, identities: &[Identity]) -> Credentials {
        self.issue_with(name, identities, |_| {})
    }

    /// The same, changed before it is signed.
    pub fn issue_with(
        &self,
        name: &str,
        identities: &[Identity],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Credentials {
        let mut params = CertificateParams::default();
        params.subject_alt_names = identities
            .iter()
            .map(|identity| SanType::URI(identity.to_string().try_into().expect("ASCII")))
            .collect();
        change(&mut params);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let credentials = Credentials {
            certificate: self.dir.join(format!("{name}.crt")),
            key: self.dir.join(format!("{name}.key")),
            authority: self.file.clone(),
        };
        write(&credentials.certificate, certificate.pem()).expect("the certificate is written");
        write(&credentials.key, key.serialize_pem()).expect("the key is written");
        credentials
    }
}

impl Credentials {
    /// The configuration keys that use them.
    pub fn settings(&self) -> Vec<(String, String)> {
        [
            ("strom.grpc.tls.certificate.file", &self.certificate),
            ("strom.grpc.tls.key.file", &self.key),
            ("strom.grpc.tls.ca.file", &self.authority),
        ]
        .into_iter()
        .map(|(key, path)| (key.to_owned(), path.display().to_string()))
        .collect()
    }

    /// What a process that is configured with them shows and expects.
    pub fn tls(&self) -> InternalTls {
        let settings = load(&Sources {
            flags: self.settings(),
            ..Sources::default()
        });
        let settings = settings.expect("the settings of a test");
        let tls = InternalTls::from_settings(&settings, Vec::new());
        tls.expect("good files").expect("files are set")
    }
}
