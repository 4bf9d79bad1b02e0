//! The certificate authority of one lab: made at the first start, and what it signs.
//!
//! Its files are `ca`, `server` and `admin` (`.crt`, `.key`) and `sa.key`, which signs tokens. The authority and the token
//! key are kept for good, because kubeconfigs and tokens refer to them; the rest is made anew whenever it no longer fits.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use super::files::Files;
use super::token::{TokenError, TokenSigner};

/// How long the authority is good for.
const CA_DAYS: i64 = 3650;
/// How long what it signs is good for.
const LEAF_DAYS: i64 = 365;
/// What has fewer days left than this at a start is made anew.
const RENEW_DAYS: i64 = 30;
/// Clocks of clients may be behind ours.
const BACKDATE: SignedDuration = SignedDuration::from_hours(24);
/// The authority's name; each lab has its own key.
const CA_NAME: &str = "minisvc";

/// Why there is no certificate authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// A file cannot be read or written.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file is there but is not what it should be.
    #[error(
        "{path} is damaged ({why}); remove it and its neighbours to have new ones made, and fetch a new kubeconfig"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate could not be made.
    #[error("a certificate could not be made")]
    Sign(#[from] rcgen::Error),
    /// A time is outside of what certificates can say.
    #[error("the clock cannot be right")]
    Clock(#[from] jiff::Error),
    /// The TLS library refuses what we made.
    #[error("TLS cannot be set up")]
    Tls(#[from] rustls::Error),
    /// The key for tokens cannot be used.
    #[error("tokens cannot be signed")]
    Token(#[from] TokenError),
}

/// The names and addresses that the server answers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerNames {
    /// DNS names.
    pub dns: BTreeSet<String>,
    /// IP addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl ServerNames {
    /// What every lab answers to: loopback, and the `kubernetes` Service in all its spellings.
    ///
    /// `addresses` are the Service's own and the control plane's.
    #[must_use]
    pub fn new(cluster_domain: &str, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"];
        let mut dns: BTreeSet<String> = service.into_iter().map(str::to_owned).collect();
        dns.insert("localhost".to_owned());
        dns.insert(format!("kubernetes.default.svc.{cluster_domain}"));
        let mut all = BTreeSet::from([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        all.extend(addresses);
        Self { dns, addresses: all }
    }
}

/// A client's certificate and key, as PEM.
#[derive(Clone)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The certificate authority with what it signed for this lab.
pub struct Ca {
    certificate: String,
    key: KeyPair,
    server: ClientCertificate,
    admin: ClientCertificate,
    tokens: Arc<TokenSigner>,
}

impl std::fmt::Debug for Ca {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ca").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

impl Ca {
    /// Reads the files in `directory` and makes those that are missing or about to expire; `None` keeps nothing.
    ///
    /// # Errors
    /// See [`CaError`].
    pub fn open(directory: Option<&Path>, names: &ServerNames, now: Timestamp) -> Result<Self, CaError> {
        let files = Files::open(directory)?;
        let (certificate, key) = match load_authority(&files, now)? {
            Some(existing) => existing,
            None => make_authority(&files, now)?,
        };
        let signer = Signer { issuer: Issuer::new(authority(now)?, &key), now };
        let server = signer.keep(&files, "server", server(names, now)?)?;
        let admin = signer.keep(&files, "admin", client("kubernetes-admin", Some("system:masters"), now)?)?;
        let tokens = Arc::new(load_tokens(&files)?);
        Ok(Self { certificate, key, server, admin, tokens })
    }

    /// The authority's certificate, as PEM, for whoever is to trust the server.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// The certificate of `kubernetes-admin` in `system:masters`.
    #[must_use]
    pub fn admin(&self) -> &ClientCertificate {
        &self.admin
    }

    /// Signs and checks the tokens of ServiceAccounts.
    #[must_use]
    pub fn tokens(&self) -> &Arc<TokenSigner> {
        &self.tokens
    }

    /// A certificate for another user, good for a year, not kept anywhere.
    ///
    /// # Errors
    /// When it cannot be made, for instance because of characters that names cannot have.
    pub fn issue_client(&self, user: &str, group: Option<&str>, now: Timestamp) -> Result<ClientCertificate, CaError> {
        Signer { issuer: Issuer::new(authority(now)?, &self.key), now }.sign(&client(user, group, now)?)
    }

    /// A kubeconfig for the administrator with everything embedded; cluster, context and user are called `lab`.
    #[must_use]
    pub fn kubeconfig(&self, server_url: &str, lab: &str) -> String {
        super::kubeconfig::render(server_url, lab, &self.certificate, &self.admin)
    }

    /// What [`serve_tls`](super::serve_tls) needs: HTTP/1.1 only, since upgrades need it and nothing needs HTTP/2.
    /// Clients may show a certificate of this authority; one of another is refused in the handshake.
    ///
    /// # Errors
    /// When the TLS library refuses the certificates.
    pub fn server_config(&self) -> Result<Arc<ServerConfig>, CaError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(certificate_der(&self.certificate)?)?;
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .allow_unauthenticated()
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let key = PrivateKeyDer::from_pem_slice(self.server.key.as_bytes())
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![certificate_der(&self.server.certificate)?], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificate_der(pem: &str) -> Result<CertificateDer<'static>, rustls::Error> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| rustls::Error::General(error.to_string()))
}

/// What is in the authority's certificate; also tells its name and key to whoever signs with it.
fn authority(now: Timestamp) -> Result<CertificateParams, CaError> {
    let mut params = params(CA_NAME, None, now, CA_DAYS)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = false;
    Ok(params)
}

fn server(names: &ServerNames, now: Timestamp) -> Result<CertificateParams, CaError> {
    let mut params = params("minisvc-apiserver", None, now, LEAF_DAYS)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for name in &names.dns {
        params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
    }
    params.subject_alt_names.extend(names.addresses.iter().copied().map(SanType::IpAddress));
    Ok(params)
}

fn client(user: &str, group: Option<&str>, now: Timestamp) -> Result<CertificateParams, CaError> {
    let mut params = params(user, group, now, LEAF_DAYS)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn params(name: &str, group: Option<&str>, now: Timestamp, days: i64) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(group) = group {
        params.distinguished_name.push(DnType::OrganizationName, group);
    }
    params.distinguished_name.push(DnType::CommonName, name);
    let (year, month, date) = day(now.checked_sub(BACKDATE)?);
    params.not_before = rcgen::date_time_ymd(year, month, date);
    let (year, month, date) = day(now.checked_add(SignedDuration::from_hours(24 * days))?);
    params.not_after = rcgen::date_time_ymd(year, month, date);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// Year, month and day in UTC.
fn day(at: Timestamp) -> (i32, u8, u8) {
    let date = at.to_zoned(TimeZone::UTC).date();
    // Months are 1 to 12 and days 1 to 31: neither has a sign to lose.
    (date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn load_authority(files: &Files, now: Timestamp) -> Result<Option<(String, KeyPair)>, CaError> {
    // The key is written first: without a certificate it was never used.
    let (Some(certificate), Some(key)) = (files.read("ca.crt")?, files.read("ca.key")?) else { return Ok(None) };
    let damaged = |name: &str, why: String| CaError::Damaged { path: files.path(name), why };
    let key = KeyPair::from_pem(&key).map_err(|error| damaged("ca.key", error.to_string()))?;
    let facts = Facts::read(&certificate).ok_or_else(|| damaged("ca.crt", "no certificate".to_owned()))?;
    if facts.public_key != key.subject_public_key_info() {
        return Err(damaged("ca.crt", "it belongs to another key".to_owned()));
    }
    Ok(facts.lasts(now).then_some((certificate, key)))
}

fn make_authority(files: &Files, now: Timestamp) -> Result<(String, KeyPair), CaError> {
    let key = KeyPair::generate()?;
    let certificate = authority(now)?.self_signed(&key)?.pem();
    files.write("ca.key", &key.serialize_pem())?;
    files.write("ca.crt", &certificate)?;
    Ok((certificate, key))
}

fn load_tokens(files: &Files) -> Result<TokenSigner, CaError> {
    let key = match files.read("sa.key")? {
        Some(pem) => KeyPair::from_pem(&pem)
            .map_err(|error| CaError::Damaged { path: files.path("sa.key"), why: error.to_string() })?,
        None => {
            let key = KeyPair::generate()?;
            files.write("sa.key", &key.serialize_pem())?;
            key
        }
    };
    Ok(TokenSigner::new(key.serialized_der())?)
}

struct Signer<'a> {
    issuer: Issuer<'static, &'a KeyPair>,
    now: Timestamp,
}

impl Signer<'_> {
    /// The kept certificate of that name, if it still is what `wanted` says, else a new one.
    fn keep(&self, files: &Files, name: &str, wanted: CertificateParams) -> Result<ClientCertificate, CaError> {
        let (certificate_file, key_file) = (format!("{name}.crt"), format!("{name}.key"));
        if let (Some(certificate), Some(key)) = (files.read(&certificate_file)?, files.read(&key_file)?)
            && self.fits(&certificate, &key, &wanted)
        {
            return Ok(ClientCertificate { certificate, key });
        }
        let made = self.sign(&wanted)?;
        files.write(&key_file, &made.key)?;
        files.write(&certificate_file, &made.certificate)?;
        Ok(made)
    }

    fn fits(&self, certificate: &str, key: &str, wanted: &CertificateParams) -> bool {
        let (Some(facts), Ok(key)) = (Facts::read(certificate), KeyPair::from_pem(key)) else { return false };
        let issuer = wanted.key_identifier(*self.issuer.key());
        facts.public_key == key.subject_public_key_info()
            && facts.issuer_key.as_deref() == Some(&issuer[..])
            && facts.lasts(self.now)
            && facts.names == wanted.subject_alt_names.iter().map(spelled).collect()
    }

    fn sign(&self, params: &CertificateParams) -> Result<ClientCertificate, CaError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        Ok(ClientCertificate { certificate, key: key.serialize_pem() })
    }
}

/// What we look at in a certificate that we made earlier.
struct Facts {
    public_key: Vec<u8>,
    issuer_key: Option<Vec<u8>>,
    names: BTreeSet<String>,
    /// Seconds since 1970.
    not_after: i64,
}

impl Facts {
    fn read(pem: &str) -> Option<Self> {
        let der = certificate_der(pem).ok()?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        let issuer_key = certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(found) => found.key_identifier.as_ref().map(|key| key.0.to_vec()),
            _ => None,
        });
        let names = match certificate.subject_alternative_name().ok()? {
            Some(found) => found.value.general_names.iter().filter_map(spelled_general).collect(),
            None => BTreeSet::new(),
        };
        Some(Self {
            public_key: certificate.public_key().raw.to_vec(),
            issuer_key,
            names,
            not_after: certificate.validity().not_after.timestamp(),
        })
    }

    fn lasts(&self, now: Timestamp) -> bool {
        self.not_after - now.as_second() > RENEW_DAYS * 24 * 3600
    }
}

fn spelled(name: &SanType) -> String {
    match name {
        SanType::DnsName(name) => name.to_string(),
        SanType::IpAddress(address) => address.to_string(),
        other => format!("{other:?}"),
    }
}

fn spelled_general(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)).ok().map(|address| address.to_string())
        }
        other => Some(format!("{other:?}")),
    }
}
