//! What the controllers are told from outside: the cluster's addresses, its certificates and the times they wait.
//!
//! Only the composition of the process fills this in; no controller reads flags, files or the environment.

use std::net::IpAddr;
use std::time::Duration;

/// A block of addresses, e.g. `10.42.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressBlock {
    pub address: IpAddr,
    /// Number of leading bits that are fixed.
    pub prefix: u8,
}

/// A text that is no address block.
#[derive(Debug, thiserror::Error)]
#[error("invalid CIDR address: {0}")]
pub struct InvalidAddressBlock(String);

impl std::str::FromStr for AddressBlock {
    type Err = InvalidAddressBlock;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidAddressBlock(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(invalid)?;
        let address: IpAddr = address.parse().map_err(|_| invalid())?;
        let prefix: u8 = prefix.parse().map_err(|_| invalid())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits {
            Err(invalid())
        } else {
            Ok(Self { address, prefix })
        }
    }
}

/// The authority that signs certificates for clients and kubelets.
#[derive(Clone)]
pub struct SigningAuthority {
    pub certificate_pem: String,
    pub key_pem: String,
    /// Goes out behind each certificate, for those who trust only the CA of before; empty mostly.
    pub chain_pem: String,
}

/// Settings of all controllers. The defaults are those of kube-controller-manager 1.36.
#[derive(Clone)]
pub struct Options {
    /// Pod addresses are cut out of these, one block per node and address family.
    pub cluster_cidrs: Vec<AddressBlock>,
    /// Size of a node's block in bits, for IPv4 and IPv6.
    pub node_cidr_mask_ipv4: u8,
    pub node_cidr_mask_ipv6: u8,
    /// The CA that pods use to verify the API server, published as `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// None: certificate requests are approved but not signed.
    pub signing_authority: Option<SigningAuthority>,
    /// Longest validity of a signed certificate.
    pub signing_duration: Duration,
    /// How long a node may be silent before it counts as unreachable.
    pub node_monitor_grace_period: Duration,
    /// How long a new node may take until its first sign of life.
    pub node_startup_grace_period: Duration,
    /// Finished pods that are kept before the oldest are removed.
    pub terminated_pod_gc_threshold: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            cluster_cidrs: Vec::new(),
            node_cidr_mask_ipv4: 24,
            node_cidr_mask_ipv6: 64,
            root_ca_pem: String::new(),
            signing_authority: None,
            signing_duration: Duration::from_secs(365 * 24 * 3600),
            node_monitor_grace_period: Duration::from_secs(50),
            node_startup_grace_period: Duration::from_secs(60),
            terminated_pod_gc_threshold: 12_500,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::AddressBlock;

    #[test]
    fn address_blocks_are_checked() {
        for (text, valid) in [
            ("10.42.0.0/16", true),
            ("fd00::/48", true),
            ("10.42.0.0", false),
            ("10.0.0.0/33", false),
            ("x/8", false),
        ] {
            assert_eq!(text.parse::<AddressBlock>().is_ok(), valid, "{text}");
        }
    }
}
