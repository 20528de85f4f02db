//! The certificates of masters and workers, verified on both sides. Never TLS below 1.3, and never
//! session tickets or early data, because neither verifies the certificate again.

use crate::link::Connection;
use muster_protocol::{Digest, entitlement::Entitlement, frame::Encoding, message::JOIN_ALPN};
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier},
    sign::CertifiedKey,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Why TLS cannot be set up. No connection was opened.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{} cannot be used as a PEM file: {cause}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// The parser's error.
        cause: rustls_pki_types::pem::Error,
    },
    /// The certificates do not fit together.
    #[error("the certificates cannot be used: {0}")]
    Unusable(String),
}

/// The files that prove a process's identity, and its trusted authority.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate authority of the fleet.
    pub ca: PathBuf,
    /// This process' certificate.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

struct Loaded {
    roots: RootCertStore,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Files {
    fn load(&self) -> Result<Loaded, TlsError> {
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca)? {
            roots.add(root).map_err(|error| TlsError::Unusable(error.to_string()))?;
        }
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|cause| TlsError::File { path: self.key.clone(), cause })?;
        Ok(Loaded { roots, chain, key })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|cause| TlsError::File { path: path.into(), cause })
}

/// The SHA-256 by which a certificate or a key is recognised.
pub fn fingerprint(der: &[u8]) -> Digest {
    let hash = ring::digest::digest(&ring::digest::SHA256, der);
    Digest(hash.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn unusable(error: impl ToString) -> TlsError {
    TlsError::Unusable(error.to_string())
}

/// The encodings of frames, the preferred one first.
fn protocols() -> Vec<Vec<u8>> {
    Encoding::ALL.map(|encoding| encoding.alpn().to_vec()).into()
}

/// TLS for a master: every peer that presents a certificate must present one of the fleet's authority. A
/// peer without one can only join: [`Identity::of_peer`] fails for it.
pub fn server(files: &Files) -> Result<ServerConfig, TlsError> {
    let Loaded { roots, chain, key } = files.load()?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(unusable)?;
    let own = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
    let mut for_joining = chain;
    for_joining.extend(certificates(&files.ca)?);
    let for_joining = CertifiedKey::from_der(for_joining, key, &provider());
    let (own, for_joining) =
        (Arc::new(own.map_err(unusable)?), Arc::new(for_joining.map_err(unusable)?));
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Chains { own, for_joining }));
    config.alpn_protocols = protocols();
    config.alpn_protocols.push(JOIN_ALPN.to_vec());
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The certificates that a master presents. A program that joins has only the fingerprint of the authority,
/// so it is sent the authority's certificate, too.
#[derive(Debug)]
struct Chains {
    own: Arc<CertifiedKey>,
    for_joining: Arc<CertifiedKey>,
}

impl ResolvesServerCert for Chains {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let joins = hello.alpn().is_some_and(|mut names| names.any(|name| name == JOIN_ALPN));
        Some(if joins { self.for_joining.clone() } else { self.own.clone() })
    }
}

/// TLS for a program that joins: it knows the fleet by the fingerprint of the authority's certificate, and
/// presents no certificate.
pub fn joining(authority: Digest) -> Result<ClientConfig, TlsError> {
    let verifier = Arc::new(ByFingerprint { authority, provider: provider() });
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.alpn_protocols = vec![JOIN_ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Accepts a master whose certificate is signed by the authority with this fingerprint.
#[derive(Debug)]
struct ByFingerprint {
    authority: Digest,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        stapled: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let is_it = |cert: &&CertificateDer<'_>| fingerprint(cert) == self.authority;
        let authority = intermediates.iter().find(is_it).ok_or_else(|| {
            rustls::Error::General("the master belongs to another fleet than the token".into())
        })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), self.provider.clone())
                .build()
                .map_err(|error| rustls::Error::General(error.to_string()))?;
        verifier.verify_server_cert(end_entity, &[], name, stapled, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The fingerprint of the authority's certificate in a PEM text.
pub fn authority_of(pem: &str) -> Result<Digest, TlsError> {
    let cert = CertificateDer::from_pem_slice(pem.as_bytes());
    cert.map(|cert| fingerprint(&cert)).map_err(|error| unusable(format!("{error:?}")))
}

/// TLS for a worker.
pub fn client(files: &Files) -> Result<ClientConfig, TlsError> {
    let Loaded { roots, chain, key } = files.load()?;
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(unusable)?;
    config.alpn_protocols = protocols();
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// What the certificate of a peer, or of this process, says.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its DNS names.
    pub names: Vec<String>,
    /// What it permits a worker to offer.
    pub entitlement: Entitlement,
}

impl Identity {
    fn of(leaf: &CertificateDer<'_>) -> Result<Self, TlsError> {
        let leaf = webpki::EndEntityCert::try_from(leaf).map_err(unusable)?;
        let entitlement = Entitlement::among(leaf.valid_uri_names());
        let entitlement = entitlement
            .map_err(|error| unusable(format!("what one permits is unknown: {error}")))?;
        Ok(Identity { names: leaf.valid_dns_names().map(String::from).collect(), entitlement })
    }

    /// That of the peer of a connection, whose certificate was verified.
    pub fn of_peer(connection: &Connection) -> Result<Self, TlsError> {
        let leaf = connection.peer_certificate();
        Identity::of(&leaf.ok_or_else(|| unusable("the peer has none"))?)
    }

    /// That of the first certificate in a file.
    pub fn of_file(path: &Path) -> Result<Self, TlsError> {
        let chain = certificates(path)?;
        Identity::of(chain.first().ok_or_else(|| unusable("there is none"))?)
    }
}
