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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        node_loss: NodeLossArgs,
    }

    #[test]
    fn each_flag_says_what_it_is_named_for() {
        let check = |flags: &[&str], expect: [u32; 2]| {
            let flags = Flags::parse_from([&["xebec"], flags].concat());
            let told = flags.node_loss.default_tolerations();
            assert_eq!([told.not_ready_seconds, told.unreachable_seconds], expect);
        };
        check(&[], [300, 300]);
        check(&["--default-not-ready-toleration-seconds=7"], [7, 300]);
        check(&["--default-unreachable-toleration-seconds=8"], [300, 8]);
    }
}
