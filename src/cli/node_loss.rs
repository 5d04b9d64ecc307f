//! When a node counts as lost, and how long its pods wait for it: flags named as kube-controller-manager's and
//! kube-apiserver's.

use std::time::Duration;

use api_server::DefaultTolerations;
use clap::Args;

use super::state::parse_duration;

/// Flags of what follows the loss of a node. The same on all masters.
#[derive(Args, Debug, Clone)]
pub struct NodeLossArgs {
    /// How long a node may be silent before it counts as unreachable. Nodes say that they live every 10 s; ones with
    /// --self-fence need 40s or more here.
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = time)]
    pub node_monitor_grace_period: Duration,
    /// How long a pod stays on a node that is not ready, unless it says so itself.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub default_not_ready_toleration_seconds: u32,
    /// How long a pod stays on a node that is unreachable, unless it says so itself.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub default_unreachable_toleration_seconds: u32,
}

impl NodeLossArgs {
    pub fn default_tolerations(&self) -> DefaultTolerations {
        DefaultTolerations {
            not_ready_seconds: self.default_not_ready_toleration_seconds,
            unreachable_seconds: self.default_unreachable_toleration_seconds,
        }
    }
}

fn time(text: &str) -> Result<Duration, &'static str> {
    parse_duration(text).ok_or("not a time such as 1m30s")
}
