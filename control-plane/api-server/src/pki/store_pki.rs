//! Certificates of the store: one CA for its members among themselves, a second one for clients of etcd's API, so that a
//! client's certificate opens no way into the cluster's agreement. File names are k3s'.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::ServerConfig;

use super::authority::Authority;
use super::profile::Profile;
use super::tls::LiveCertificate;
use super::{PkiConfig, PkiError, files, tls};

/// TLS of the store. Files are replaced before they expire, and read anew by members for every connection.
#[derive(Clone, Debug)]
pub struct StoreTls {
    /// Shown between members by both sides.
    pub peer_certificate: PathBuf,
    pub peer_key: PathBuf,
    /// The CA that members' certificates must be of.
    pub peer_ca: PathBuf,
    /// For clients of etcd's API: a client must show a certificate of the second CA.
    pub server: Arc<ServerConfig>,
}

pub(super) struct StorePki {
    dir: PathBuf,
    peer_ca: Authority,
    server_ca: Authority,
    serving: LiveCertificate,
}

impl StorePki {
    pub(super) fn load_or_create(tls: &Path, config: &PkiConfig) -> Result<Self, PkiError> {
        let dir = tls.join("etcd");
        files::create_dir(&dir)?;
        let server_ca = Authority::load_or_create(&dir, "server-ca", "etcd-server-ca")?;
        let serving = server_ca.ensure(&dir, &Profile::store_server(config), SystemTime::now())?;
        Ok(Self {
            peer_ca: Authority::load_or_create(&dir, "peer-ca", "etcd-peer-ca")?,
            server_ca,
            serving: LiveCertificate::new(&serving)?,
            dir,
        })
    }

    /// Issues what is missing, will not last, or says what is no longer so.
    pub(super) fn renew(&self, config: &PkiConfig, now: SystemTime) -> Result<(), PkiError> {
        let Self {
            dir,
            peer_ca,
            server_ca,
            serving,
        } = self;
        peer_ca.ensure(dir, &Profile::store_peer(config), now)?;
        serving.replace(&server_ca.ensure(dir, &Profile::store_server(config), now)?)?;
        server_ca.ensure(dir, &Profile::store_client(), now)?;
        Ok(())
    }

    pub(super) fn tls(&self) -> Result<StoreTls, PkiError> {
        let peer = |name: &str| self.dir.join(name);
        Ok(StoreTls {
            peer_certificate: peer("peer-server-client.crt"),
            peer_key: peer("peer-server-client.key"),
            peer_ca: peer("peer-ca.crt"),
            server: tls::mutual_server_config(&self.serving, self.server_ca.der())?,
        })
    }
}
