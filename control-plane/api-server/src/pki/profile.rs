//! What each certificate of the cluster says: subject, names, use, lifetime.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SerialNumber,
};

use super::PkiConfig;

const DAY: Duration = Duration::from_secs(24 * 3600);
pub(super) const AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3650);
pub(super) const LEAF_LIFETIME: Duration = DAY.saturating_mul(365);
/// After a renewal that failed.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(3600);
/// Certificates are good from a little before now: other machines' clocks may be behind.
const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// One leaf certificate of the cluster.
pub(super) struct Profile {
    /// Name of its files, without ending.
    pub(super) file: String,
    pub(super) common_name: String,
    pub(super) organization: Option<&'static str>,
    pub(super) sans: Vec<String>,
    pub(super) usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Profile {
    fn client(file: &str, common_name: &str, organization: Option<&'static str>) -> Self {
        Self {
            file: file.into(),
            common_name: common_name.into(),
            organization,
            sans: Vec::new(),
            usages: vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
    }

    pub(super) fn kubelet_client() -> Self {
        Self::client(
            "apiserver-kubelet-client",
            "kube-apiserver-kubelet-client",
            Some("system:masters"),
        )
    }

    pub(super) fn admin() -> Self {
        Self::client("admin", "kubernetes-admin", Some("system:masters"))
    }

    pub(super) fn front_proxy_client() -> Self {
        Self::client("front-proxy-client", "front-proxy-client", None)
    }

    pub(super) fn node_client(name: &str) -> Self {
        Self::client(
            "kubelet-client",
            &format!("system:node:{name}"),
            Some("system:nodes"),
        )
    }

    pub(super) fn node_serving(name: &str, addresses: &[IpAddr]) -> Self {
        let mut sans = vec![name.to_owned()];
        sans.extend(addresses.iter().map(IpAddr::to_string));
        Self {
            file: "kubelet-serving".into(),
            common_name: format!("system:node:{name}"),
            organization: Some("system:nodes"),
            sans,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }

    pub(super) fn apiserver(config: &PkiConfig) -> Self {
        let domain = &config.cluster_domain;
        let mut sans: Vec<String> = [
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "localhost",
        ]
        .map(String::from)
        .into();
        sans.push(format!("kubernetes.default.svc.{domain}"));
        sans.push(config.node_name.clone());
        sans.extend(
            [
                Ipv4Addr::LOCALHOST.into(),
                config.service_address,
                config.advertise_address,
            ]
            .map(|a: IpAddr| a.to_string()),
        );
        sans.extend(config.tls_sans.iter().cloned());
        let mut seen = std::collections::HashSet::new();
        sans.retain(|name| seen.insert(name.clone()));
        Self {
            file: "apiserver".into(),
            common_name: "kube-apiserver".into(),
            organization: None,
            sans,
            usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        }
    }

    /// What store members show each other, whoever connects.
    pub(super) fn store_peer(config: &PkiConfig) -> Self {
        Self {
            file: "peer-server-client".into(),
            common_name: "etcd-peer".into(),
            organization: None,
            sans: store_names(config),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    /// What the store shows to clients of etcd's API.
    pub(super) fn store_server(config: &PkiConfig) -> Self {
        Self {
            file: "server-client".into(),
            common_name: "etcd-server".into(),
            organization: None,
            sans: store_names(config),
            usages: vec![
                ExtendedKeyUsagePurpose::ServerAuth,
                ExtendedKeyUsagePurpose::ClientAuth,
            ],
        }
    }

    /// What clients of etcd's API on this machine show.
    pub(super) fn store_client() -> Self {
        Self::client("client", "etcd-client", None)
    }

    pub(super) fn params(&self, now_unix_seconds: u64) -> Result<CertificateParams, rcgen::Error> {
        let mut params = CertificateParams::new(self.sans.clone())?;
        params.distinguished_name = subject(&self.common_name, self.organization);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = self.usages.clone();
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, now_unix_seconds, LEAF_LIFETIME);
        Ok(params)
    }
}

fn store_names(config: &PkiConfig) -> Vec<String> {
    let mut names = vec![
        "localhost".to_owned(),
        config.node_name.clone(),
        Ipv4Addr::LOCALHOST.to_string(),
    ];
    let own = config.advertise_address.to_string();
    if !names.contains(&own) {
        names.push(own);
    }
    names
}

/// A self-signed CA.
pub(super) fn authority(common_name: &str, now_unix_seconds: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(common_name, None);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    set_validity(&mut params, now_unix_seconds, AUTHORITY_LIFETIME);
    params
}

/// Valid from now (less the clocks' skew) for `lifetime`, under a random serial number.
pub(super) fn set_validity(
    params: &mut CertificateParams,
    now_unix_seconds: u64,
    lifetime: Duration,
) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(now_unix_seconds);
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + lifetime;
    let mut serial: [u8; 16] = rand::random();
    // Positive, and without a leading zero.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}
