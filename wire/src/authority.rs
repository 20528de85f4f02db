//! The certificate authority of a fleet: issues the certificates of masters and workers. Never issues one
//! for another authority, and never makes a key for somebody who has sent a request.

use crate::tls;
use muster_protocol::{
    Digest, GroupName, MasterId, WorkerId, entitlement::Entitlement, subject::Names,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateSigningRequestDer;
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How long an authority is valid: longer than the hosts that trust it are in use.
const AUTHORITY_LASTS: Duration = Duration::from_secs(3_650 * 24 * 3600);

/// Certificates are valid from a day ago on: clocks of edge hosts may be behind.
const BEFORE: Duration = Duration::from_secs(24 * 3600);

/// The longest request for a certificate, in bytes: more than ten times what Muster's own needs.
pub const REQUEST_SIZE_MAX: usize = 4 * 1024;

/// Why a certificate cannot be issued.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file cannot be read.
    #[error("cannot read {}: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's error.
        cause: std::io::Error,
    },
    /// The files of the authority, or a request, are malformed; or a name cannot be in a certificate.
    #[error("{what}: {cause}")]
    Malformed {
        /// What is malformed.
        what: &'static str,
        /// Why.
        cause: String,
    },
}

fn malformed<E: ToString>(what: &'static str) -> impl FnOnce(E) -> AuthorityError {
    move |cause| AuthorityError::Malformed { what, cause: cause.to_string() }
}

/// A certificate and its key, as PEM.
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

/// The authority, with its key in memory.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

/// Makes the authority of a fleet.
pub fn make(fleet: &GroupName) -> Result<Issued, AuthorityError> {
    let key = KeyPair::generate().map_err(malformed("cannot make a key"))?;
    let name = format!("Muster fleet {fleet}");
    let mut params = params(&name, Vec::new(), now(), AUTHORITY_LASTS)?;
    // The authority may sign masters and workers, but no further authorities.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(malformed("cannot make an authority"))?;
    Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
}

impl Authority {
    /// Reads the authority from its certificate and its key.
    pub fn read(cert: &Path, key: &Path) -> Result<Self, AuthorityError> {
        let read = |path: &Path| {
            fs::read_to_string(path)
                .map_err(|cause| AuthorityError::File { path: path.into(), cause })
        };
        let (pem, key) = (read(cert)?, read(key)?);
        let key = KeyPair::from_pem(&key);
        let key = key.map_err(malformed("the key of the certificate authority is malformed"))?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key);
        let issuer = issuer
            .map_err(malformed("the certificate of the certificate authority is malformed"))?;
        Ok(Authority { issuer })
    }

    /// Issues the certificate of a master.
    pub fn master(
        &self,
        names: &Names,
        name: &MasterId,
        lasts: Duration,
    ) -> Result<Issued, AuthorityError> {
        let host = names.master_host();
        let hosts = vec![format!("{name}.{host}"), host];
        let params = leaf(name.as_str(), hosts, ExtendedKeyUsagePurpose::ServerAuth, now(), lasts)?;
        self.issue(params)
    }

    /// Issues the certificate of a worker. The times of the entitlement are set here.
    pub fn worker(
        &self,
        names: &Names,
        name: &WorkerId,
        entitlement: &Entitlement,
        lasts: Duration,
    ) -> Result<Issued, AuthorityError> {
        self.issue(worker(names, name, entitlement, now(), lasts)?)
    }

    /// Issues the certificate of a worker that has sent this request (PKCS #10, DER), which proves that it
    /// has the key. Only the key is taken from the request. The certificate counts as issued at `issued`,
    /// but not before now.
    pub fn sign(
        &self,
        names: &Names,
        name: &WorkerId,
        entitlement: &Entitlement,
        issued: Duration,
        lasts: Duration,
        request: &[u8],
    ) -> Result<String, AuthorityError> {
        let key = read_request(request)?;
        let params = worker(names, name, entitlement, now().max(issued), lasts)?;
        let cert = params.signed_by(&key.public_key, &self.issuer);
        Ok(cert.map_err(malformed("cannot sign the certificate"))?.pem())
    }

    fn issue(&self, params: CertificateParams) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate().map_err(malformed("cannot make a key"))?;
        let cert = params.signed_by(&key, &self.issuer);
        let cert = cert.map_err(malformed("cannot sign the certificate"))?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }
}

/// Makes a key and a request for a certificate of it. Returns the key as PEM, and the request as DER.
pub fn request() -> Result<(String, Vec<u8>), AuthorityError> {
    let key = KeyPair::generate().map_err(malformed("cannot make a key"))?;
    let request = request_for(&key)?;
    Ok((key.serialize_pem(), request))
}

/// A request for a certificate of the key in this PEM, as DER.
pub fn request_of(key: &str) -> Result<Vec<u8>, AuthorityError> {
    request_for(&KeyPair::from_pem(key).map_err(malformed("the key is malformed"))?)
}

fn request_for(key: &KeyPair) -> Result<Vec<u8>, AuthorityError> {
    let request = CertificateParams::default().serialize_request(key);
    let request = request.map_err(malformed("cannot make a request for a certificate"))?;
    Ok(request.der().to_vec())
}

/// The SHA-256 of the public key in a request (its SubjectPublicKeyInfo), by which people and masters
/// recognise a worker's key. An error says that the request is not signed by its key.
pub fn key_of(request: &[u8]) -> Result<Digest, AuthorityError> {
    use rcgen::PublicKeyData as _;
    let key = read_request(request)?;
    Ok(tls::fingerprint(&key.public_key.subject_public_key_info()))
}

fn read_request(request: &[u8]) -> Result<CertificateSigningRequestParams, AuthorityError> {
    let what = "the request for a certificate is malformed";
    if request.len() > REQUEST_SIZE_MAX {
        return Err(malformed(what)(format!("it has {} bytes", request.len())));
    }
    let request = CertificateSigningRequestDer::from(request);
    CertificateSigningRequestParams::from_der(&request).map_err(malformed(what))
}

/// The time since 1970.
fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn worker(
    names: &Names,
    name: &WorkerId,
    entitlement: &Entitlement,
    issued: Duration,
    lasts: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let hosts = vec![names.worker_host(name.as_str())];
    let usage = ExtendedKeyUsagePurpose::ClientAuth;
    let mut params = leaf(name.as_str(), hosts, usage, issued, lasts)?;
    let (issued, ends) = (Some(issued.as_secs()), Some((issued + lasts).as_secs()));
    let entitlement = Entitlement { issued, ends, ..entitlement.clone() };
    let what = "the entitlement does not fit a certificate";
    let uri = entitlement.uri().map_err(malformed(what))?;
    params.subject_alt_names.push(SanType::URI(uri.try_into().map_err(malformed(what))?));
    Ok(params)
}

fn leaf(
    name: &str,
    hosts: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
    issued: Duration,
    lasts: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let mut params = params(name, hosts, issued, lasts)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    Ok(params)
}

fn params(
    name: &str,
    hosts: Vec<String>,
    issued: Duration,
    lasts: Duration,
) -> Result<CertificateParams, AuthorityError> {
    let params = CertificateParams::new(hosts);
    let mut params = params.map_err(malformed("a name cannot be in a certificate"))?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + issued.saturating_sub(BEFORE);
    params.not_after = epoch + (issued + lasts);
    Ok(params)
}
