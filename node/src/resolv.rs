//! A pod's DNS configuration and hostname by its policies. Pure: the node's own `resolv.conf` is handed in as text.

use k8s_cri::v1::DnsConfig;
use k8s_openapi::api::core::v1::Pod;

use crate::pod::spec;

/// The most nameservers that the C library uses.
const MAX_NAMESERVERS: usize = 3;
/// The most search domains that Kubernetes allows.
const MAX_SEARCHES: usize = 32;
/// The longest host name of the kernel, in bytes.
const MAX_HOSTNAME: usize = 63;

/// What DNS is on this cluster and this node.
#[derive(Debug, Clone, Default)]
pub(crate) struct ClusterDns {
    pub(crate) server: Option<String>,
    pub(crate) domain: String,
    /// The node's `resolv.conf`.
    pub(crate) host: String,
}

/// Reads `nameserver`, `search` and `options` lines.
fn parse(text: &str) -> DnsConfig {
    let mut config = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let rest =
            |words: std::str::SplitWhitespace<'_>| words.map(str::to_string).collect::<Vec<_>>();
        match words.next() {
            Some("nameserver") => config.servers.extend(words.next().map(str::to_string)),
            Some("search") => config.searches = rest(words),
            Some("options") => config.options.extend(rest(words)),
            _ => {}
        }
    }
    config
}

/// What the pod's `resolv.conf` shall say.
pub(crate) fn dns_config(pod: &Pod, dns: &ClusterDns) -> DnsConfig {
    let host = parse(&dns.host);
    let policy = pod
        .spec
        .as_ref()
        .and_then(|s| s.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let cluster_first = match policy {
        "ClusterFirst" => !spec::host_network(pod),
        "ClusterFirstWithHostNet" => true,
        _ => false,
    };
    let mut config = match (
        policy,
        cluster_first.then_some(dns.server.as_ref()).flatten(),
    ) {
        ("None", _) => DnsConfig::default(),
        (_, Some(server)) => {
            let own = format!("{}.svc.{}", spec::namespace(pod), dns.domain);
            let mut searches = vec![own, format!("svc.{}", dns.domain), dns.domain.clone()];
            searches.extend(host.searches.into_iter().filter(|s| s != "."));
            DnsConfig {
                servers: vec![server.clone()],
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => host,
    };
    if let Some(extra) = pod.spec.as_ref().and_then(|s| s.dns_config.as_ref()) {
        append(&mut config.servers, extra.nameservers.iter().flatten());
        append(&mut config.searches, extra.searches.iter().flatten());
        for option in extra.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            config
                .options
                .retain(|o| o.split(':').next() != Some(&name));
            config.options.push(
                option
                    .value
                    .as_ref()
                    .map_or(name.clone(), |v| format!("{name}:{v}")),
            );
        }
    }
    config.servers.truncate(MAX_NAMESERVERS);
    config.searches.truncate(MAX_SEARCHES);
    config
}

fn append<'a>(list: &mut Vec<String>, more: impl Iterator<Item = &'a String>) {
    for item in more {
        if !list.contains(item) {
            list.push(item.clone());
        }
    }
}

/// The pod's host name, and its domain if it has a subdomain.
pub(crate) fn hostname(pod: &Pod, cluster_domain: &str) -> (String, Option<String>) {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec
        .and_then(|s| s.hostname_override.clone())
        .filter(|n| !n.is_empty())
    {
        return (name, None);
    }
    let name = spec
        .and_then(|s| s.hostname.clone())
        .filter(|n| !n.is_empty());
    let name = name.unwrap_or_else(|| {
        let name = spec::name(pod);
        name[..name.len().min(MAX_HOSTNAME)]
            .trim_end_matches(['-', '.'])
            .to_string()
    });
    let subdomain = spec
        .and_then(|s| s.subdomain.clone())
        .filter(|n| !n.is_empty());
    let domain = subdomain.map(|s| format!("{s}.{}.svc.{cluster_domain}", spec::namespace(pod)));
    (name, domain)
}

/// The `/etc/hosts` of a pod; `host` is the node's own file, for pods on its network.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], host: &str, cluster_domain: &str) -> String {
    let mut text = if spec::host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{host}")
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
             fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let (name, domain) = hostname(pod, cluster_domain);
        let names = domain.map_or(name.clone(), |d| format!("{name}.{d}\t{name}"));
        ips.iter()
            .for_each(|ip| text += &format!("{ip}\t{names}\n"));
        text
    };
    let aliases = pod
        .spec
        .as_ref()
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        for alias in aliases {
            text += &format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.clone().unwrap_or_default().join("\t")
            );
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "p", "namespace": "n"}, "spec": spec}))
            .expect("a pod")
    }

    #[test]
    fn policies() {
        let host = "nameserver 9.9.9.9\nsearch lan\noptions edns0\n".to_string();
        let dns = ClusterDns {
            server: Some("10.43.0.10".into()),
            domain: "cluster.local".into(),
            host,
        };
        let check = |spec: Value, expect: &str| {
            let c = dns_config(&pod(spec), &dns);
            assert_eq!(
                format!("{:?} {:?} {:?}", c.servers, c.searches, c.options),
                expect
            );
        };
        let cluster = r#"["10.43.0.10"] ["n.svc.cluster.local", "svc.cluster.local", "cluster.local", "lan"] ["ndots:5"]"#;
        check(json!({"containers": []}), cluster);
        check(
            json!({"containers": [], "hostNetwork": true}),
            r#"["9.9.9.9"] ["lan"] ["edns0"]"#,
        );
        check(
            json!({"containers": [], "hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}),
            cluster,
        );
        check(
            json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots", "value": "2"}]}}),
            r#"["1.1.1.1"] [] ["ndots:2"]"#,
        );
    }

    #[test]
    fn names() {
        let (name, domain) = hostname(
            &pod(json!({"containers": [], "hostname": "h", "subdomain": "s"})),
            "c",
        );
        assert_eq!((name.as_str(), domain.as_deref()), ("h", Some("s.n.svc.c")));
        let text = hosts_file(
            &pod(json!({"containers": []})),
            &["10.0.0.1".into()],
            "",
            "c",
        );
        assert!(text.ends_with("10.0.0.1\tp\n"), "{text}");
    }
}
