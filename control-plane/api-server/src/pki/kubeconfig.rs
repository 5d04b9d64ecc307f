//! The text of a kubeconfig with one cluster, one user and one context, everything embedded.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::KeyPairPem;

/// A kubeconfig for `user` with a client certificate. `name` is that of the cluster and of the context.
pub fn kubeconfig(
    name: &str,
    server_url: &str,
    ca_pem: &str,
    user: &str,
    pair: &KeyPairPem,
) -> String {
    let (ca, certificate, key) = (
        STANDARD.encode(ca_pem),
        STANDARD.encode(&pair.certificate),
        STANDARD.encode(&pair.key),
    );
    format!(
        "apiVersion: v1
kind: Config
clusters:
- name: {name}
  cluster:
    certificate-authority-data: {ca}
    server: {server_url}
users:
- name: {user}
  user:
    client-certificate-data: {certificate}
    client-key-data: {key}
contexts:
- name: {name}
  context:
    cluster: {name}
    user: {user}
current-context: {name}
preferences: {{}}
"
    )
}

/// The kubeconfig of `kube-public/cluster-info`: where the cluster is and how to trust it, without a user.
pub fn cluster_info(server_url: &str, ca_pem: &str) -> String {
    let ca = STANDARD.encode(ca_pem);
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {server_url}
  name: \"\"
contexts: null
current-context: \"\"
kind: Config
preferences: {{}}
users: null
"
    )
}

/// The same kubeconfig with this CA in place of the one that it names.
pub fn with_ca(kubeconfig: &str, ca_pem: &str) -> String {
    const FIELD: &str = "certificate-authority-data:";
    let ca = STANDARD.encode(ca_pem);
    let line = |line: &str| match line.split_once(FIELD) {
        Some((indent, _)) => format!("{indent}{FIELD} {ca}\n"),
        None => format!("{line}\n"),
    };
    kubeconfig.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ca_is_replaced() {
        let before = cluster_info("https://a:1", "OLD");
        assert_eq!(with_ca(&before, "NEW"), cluster_info("https://a:1", "NEW"));
    }
}
