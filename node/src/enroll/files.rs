//! The node's certificates on disk: keys readable by root alone, each pair replaced as one.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kube::config::AuthInfo;
use kube::{Client, Config};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::request::{Pair, Purpose};
use super::{EnrollConfig, EnrollError};

/// The directory with the node's certificates.
#[derive(Debug, Clone)]
pub(super) struct Files {
    directory: PathBuf,
}

/// What matters of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Certificate {
    common_name: String,
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    pub(super) self_signed: bool,
    /// Which key has signed it, and which one it is of; where it says so.
    signed_by: Option<Vec<u8>>,
    key: Option<Vec<u8>>,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
}

impl Certificate {
    /// The node that it is for.
    pub(super) fn node_name(&self) -> String {
        let name = self.common_name.strip_prefix("system:node:");
        name.unwrap_or(&self.common_name).to_owned()
    }

    /// Whether it is known to be of another CA than that one.
    pub(super) fn is_of_another(&self, ca: &Certificate) -> bool {
        let (by, key) = (self.signed_by.as_ref(), ca.key.as_ref());
        by.zip(key).is_some_and(|(by, key)| by != key)
    }

    /// Whether it says what it should.
    pub(super) fn is_for(&self, config: &EnrollConfig, purpose: Purpose) -> bool {
        self.node_name() == config.node_name
            && (purpose == Purpose::Client
                || (self.names.contains(&config.node_name)
                    && self.addresses.contains(&config.node_ip)))
    }
}

impl Files {
    pub(super) fn open(directory: &Path) -> Result<Self, EnrollError> {
        let made = fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory);
        made.map_err(|source| EnrollError::File {
            path: directory.to_owned(),
            source,
        })?;
        Ok(Self {
            directory: directory.to_owned(),
        })
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.directory.join("ca.crt")
    }

    /// Certificate and key in one file each.
    pub(super) fn client_pair(&self) -> (PathBuf, PathBuf) {
        self.pair("client")
    }

    pub(super) fn serving_pair(&self) -> (PathBuf, PathBuf) {
        self.pair("serving")
    }

    /// Both lie in one file, so that a crash never leaves a certificate beside another one's key.
    fn pair(&self, name: &str) -> (PathBuf, PathBuf) {
        let path = self.directory.join(format!("{name}.pem"));
        (path.clone(), path)
    }

    pub(super) fn has_serving(&self) -> bool {
        self.serving_pair().0.is_file()
    }

    pub(super) fn client_certificate(&self) -> Result<Option<Certificate>, EnrollError> {
        read(&self.client_pair().0)
    }

    pub(super) fn serving_certificate(&self) -> Result<Option<Certificate>, EnrollError> {
        read(&self.serving_pair().0)
    }

    /// The CA that signs now.
    pub(super) fn ca_certificate(&self) -> Result<Option<Certificate>, EnrollError> {
        read(&self.ca())
    }

    /// The hashes of the CAs that are trusted.
    pub(super) fn ca_hashes(&self) -> Result<Vec<[u8; 32]>, EnrollError> {
        let path = self.ca();
        let held = fs::read_to_string(&path).map_err(|source| EnrollError::File {
            path: path.clone(),
            source,
        })?;
        let bad = |reason| EnrollError::Certificate(format!("{}: {reason}", path.display()));
        let hashed = super::trust::hashed(&held).map_err(bad)?;
        Ok(hashed.into_iter().map(|(hash, _)| hash).collect())
    }

    /// Whether the CA's file was another one.
    pub(super) fn replace_ca(&self, pem: &str) -> Result<bool, EnrollError> {
        let path = self.ca();
        let held =
            fs::read_to_string(&path).map_err(|source| EnrollError::File { path, source })?;
        if held == pem {
            return Ok(false);
        }
        self.write_ca(pem).map(|()| true)
    }

    pub(super) fn write_ca(&self, pem: &str) -> Result<(), EnrollError> {
        write(&self.ca(), pem)
    }

    pub(super) fn write_client(&self, pair: &Pair) -> Result<(), EnrollError> {
        write(
            &self.client_pair().0,
            &format!("{}{}", pair.certificate, pair.key),
        )
    }

    pub(super) fn write_serving(&self, pair: &Pair) -> Result<(), EnrollError> {
        write(
            &self.serving_pair().0,
            &format!("{}{}", pair.certificate, pair.key),
        )
    }

    /// A client of the API that trusts the cluster's CA alone.
    pub(super) fn client(&self, server: &str, auth: AuthInfo) -> Result<Client, EnrollError> {
        let bad = |e: &dyn std::fmt::Display| EnrollError::Certificate(e.to_string());
        let url = server.parse().map_err(|e: http::uri::InvalidUri| bad(&e))?;
        let path = self.ca();
        let ca = fs::read(&path).map_err(|source| EnrollError::File { path, source })?;
        let cas =
            x509_parser::pem::Pem::iter_from_buffer(&ca).map(|pem| pem.map(|pem| pem.contents));
        let mut config = Config::new(url);
        config.root_cert = Some(cas.collect::<Result<_, _>>().map_err(|e| bad(&e))?);
        config.auth_info = auth;
        Client::try_from(config).map_err(|e| bad(&e))
    }
}

fn write(path: &Path, text: &str) -> Result<(), EnrollError> {
    let temporary = path.with_extension("new");
    let written = || {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    };
    written().map_err(|source| EnrollError::File {
        path: path.to_owned(),
        source,
    })
}

fn read(path: &Path) -> Result<Option<Certificate>, EnrollError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(EnrollError::File {
                path: path.to_owned(),
                source,
            });
        }
    };
    let bad = |reason: String| EnrollError::Certificate(format!("{}: {reason}", path.display()));
    parse(&bytes).map(Some).map_err(bad)
}

fn parse(bytes: &[u8]) -> Result<Certificate, String> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(bytes).map_err(|e| e.to_string())?;
    let (_, x509) = X509Certificate::from_der(&pem.contents).map_err(|e| e.to_string())?;
    let common_name = x509
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default()
        .to_owned();
    let (mut names, mut addresses) = (Vec::new(), Vec::new());
    let alternatives = x509.subject_alternative_name().ok().flatten();
    for name in alternatives.iter().flat_map(|a| &a.value.general_names) {
        match name {
            GeneralName::DNSName(name) => names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => {
                let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
                addresses.extend(v4.or_else(|_| <[u8; 16]>::try_from(*bytes).map(IpAddr::from)));
            }
            _ => {}
        }
    }
    let time = |time: x509_parser::time::ASN1Time| {
        UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
    };
    Ok(Certificate {
        common_name,
        names,
        addresses,
        self_signed: x509.subject() == x509.issuer(),
        signed_by: key_identifier(&x509, |found| match found {
            ParsedExtension::AuthorityKeyIdentifier(by) => {
                by.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        }),
        key: key_identifier(&x509, |found| match found {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        }),
        not_before: time(x509.validity().not_before),
        not_after: time(x509.validity().not_after),
    })
}

fn key_identifier(
    x509: &X509Certificate<'_>,
    pick: impl Fn(&ParsedExtension<'_>) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    x509.extensions()
        .iter()
        .find_map(|extension| pick(extension.parsed_extension()))
}

#[cfg(test)]
mod tests {
    use super::super::request::{Subject, self_signed};
    use super::*;

    #[test]
    fn a_pair_is_read_as_it_was_written() {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Files::open(directory.path()).expect("the directory can be used");
        assert_eq!(files.client_certificate().expect("no error"), None);
        let config = EnrollConfig {
            server: "https://a:1".into(),
            token: None,
            node_name: "n1".into(),
            node_ip: [192, 0, 2, 1].into(),
            directory: directory.path().to_owned(),
        };
        let pair = self_signed(&Subject::of(&config, Purpose::Serving)).expect("a pair");
        files.write_serving(&pair).expect("written");
        let read = files
            .serving_certificate()
            .expect("readable")
            .expect("there");
        assert!(read.self_signed && read.is_for(&config, Purpose::Serving));
        let moved = EnrollConfig {
            node_ip: [192, 0, 2, 2].into(),
            ..config
        };
        assert!(!read.is_for(&moved, Purpose::Serving));
        assert!(read.is_for(&moved, Purpose::Client));
        fs::write(files.client_pair().0, "no PEM").expect("written");
        assert!(files.client_certificate().is_err());
    }
}
