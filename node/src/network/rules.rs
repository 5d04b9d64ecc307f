//! The node's own rules: pod traffic on the bridge is routed, what leaves the cluster is masqueraded, the loopback
//! network stays inside.
//!
//! A frame from one pod to another on the same bridge would pass by connection tracking, and the answer to a translated
//! connection would arrive untranslated. Instead of relying on the `br_netfilter` module such frames are addressed to the
//! bridge itself, which routes them. It must not know Services.

use super::bridge::Plan;
use super::{BRIDGE, NetworkError, nft};

const TABLE: &str = "xebec-pods";
/// The table that masquerades, as `nft` names it.
pub(super) const WATCHED_TABLE: &str = "ip xebec-pods";

/// The rules as text: a replacement of whatever was there.
pub(super) fn render(plan: &Plan) -> String {
    let Plan {
        pod_cidr,
        cluster_cidr,
        gateway,
        ..
    } = plan;
    let mac = plan.mac_text();
    format!(
        r#"table bridge {TABLE}
delete table bridge {TABLE}
table bridge {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority -300; policy accept;
    ip saddr {pod_cidr} ip daddr {pod_cidr} ip daddr != {gateway} ether daddr != {mac} meta pkttype != {{ broadcast, multicast }} ether daddr set {mac} meta pkttype set host
  }}
}}
table ip {TABLE}
delete table ip {TABLE}
table ip {TABLE} {{
  chain prerouting {{
    type filter hook prerouting priority raw; policy accept;
    iifname != "lo" ip daddr 127.0.0.0/8 drop
    iifname != "lo" ip saddr 127.0.0.0/8 drop
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept;
    iifname "{BRIDGE}" ct state invalid drop
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
    ip saddr {pod_cidr} ip daddr != {{ {cluster_cidr}, 224.0.0.0/4 }} oifname != {{ "{BRIDGE}", "lo" }} masquerade fully-random
  }}
}}
"#
    )
}

pub(super) async fn apply(plan: &Plan) -> Result<(), NetworkError> {
    nft::apply(TABLE, &render(plan)).await
}
