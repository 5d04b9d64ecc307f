//! When a node last gave a sign of life, and what its status says once it has been silent for too long. Pure.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, NodeStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::support::Meta;

/// Conditions that only the node itself can know.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// The times by which the node says that it lives; only a change of them counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heartbeat {
    status: Option<Timestamp>,
    lease: Option<Timestamp>,
}

impl Heartbeat {
    pub(super) fn of(node: &Node, lease: Option<&Lease>) -> Self {
        Self {
            status: condition(node, "Ready")
                .and_then(|c| c.last_heartbeat_time.as_ref())
                .map(|t| t.0),
            lease: lease
                .and_then(|l| l.spec.as_ref()?.renew_time.as_ref())
                .map(|t| t.0),
        }
    }
}

/// What is remembered of a node.
#[derive(Debug)]
pub(super) struct NodeHealth {
    /// By this process's clock.
    pub(super) last_sign: Timestamp,
    heartbeat: Option<Heartbeat>,
    uid: String,
    /// None before its first look.
    pub(super) was_ready: Option<bool>,
    /// When the node is looked at again without any change.
    pub(super) timer: Option<Timestamp>,
}

impl NodeHealth {
    pub(super) fn new(node: &Node, now: Timestamp) -> Self {
        // A node that never reported is counted from its creation, any other from when it is first seen here.
        let last_sign = if ready_status(node).is_none() {
            node.created()
        } else {
            now
        };
        Self {
            last_sign,
            heartbeat: None,
            uid: node.uid().to_owned(),
            was_ready: None,
            timer: None,
        }
    }

    pub(super) fn observe(&mut self, node: &Node, heartbeat: Heartbeat, now: Timestamp) {
        if self.uid != node.uid() {
            *self = Self {
                timer: self.timer,
                ..Self::new(node, now)
            };
        }
        if self.heartbeat.is_some_and(|known| known != heartbeat) {
            self.last_sign = now;
        }
        self.heartbeat = Some(heartbeat);
    }
}

pub(super) fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a NodeCondition> {
    node.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

/// `True`, `False` or `Unknown`; none if the node never reported.
pub(super) fn ready_status(node: &Node) -> Option<&str> {
    condition(node, "Ready").map(|c| c.status.as_str())
}

/// The status of a node that has been silent for too long; none if it says so already.
pub(super) fn silence(node: &Node, now: Timestamp) -> Option<NodeStatus> {
    let mut status = node.status.clone().unwrap_or_default();
    let conditions = status.conditions.get_or_insert_default();
    for kind in REPORTED {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            Some(condition) if condition.status == "Unknown" => {}
            Some(condition) => {
                condition.status = "Unknown".into();
                condition.reason = Some("NodeStatusUnknown".into());
                condition.message = Some("Kubelet stopped posting node status.".into());
                condition.last_transition_time = Some(Time(now));
            }
            None => conditions.push(NodeCondition {
                type_: kind.into(),
                status: "Unknown".into(),
                reason: Some("NodeStatusNeverUpdated".into()),
                message: Some("Kubelet never posted node status.".into()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
        }
    }
    (node.status.as_ref() != Some(&status)).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("in range")
    }

    fn node(beat: i64) -> Node {
        serde_json::from_value(json!({"metadata": {"uid": "n", "creationTimestamp": at(0).to_string()}, "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": at(beat).to_string()}]}}))
        .expect("a node")
    }

    #[test]
    fn only_a_changed_heartbeat_is_a_sign_of_life() {
        let mut health = NodeHealth::new(&node(1), at(100));
        let mut look = |node: &Node, now| {
            health.observe(node, Heartbeat::of(node, None), at(now));
            health.last_sign.as_second()
        };
        assert_eq!(look(&node(1), 100), 100);
        assert_eq!(
            look(&node(1), 120),
            100,
            "the same heartbeat, however recent the look"
        );
        assert_eq!(
            look(&node(2), 130),
            130,
            "another heartbeat, whatever the node's clock says"
        );
    }

    #[test]
    fn a_silent_node_is_unknown() {
        let mut node = node(1);
        let status = silence(&node, at(200)).expect("a change");
        let text: Vec<_> = status
            .conditions
            .iter()
            .flatten()
            .map(|c| format!("{} {}", c.type_, c.status))
            .collect();
        assert_eq!(
            text,
            [
                "Ready Unknown",
                "MemoryPressure Unknown",
                "DiskPressure Unknown",
                "PIDPressure Unknown"
            ]
        );
        let reason = &status.conditions.as_ref().expect("conditions")[0].reason;
        assert_eq!(reason.as_deref(), Some("NodeStatusUnknown"));
        node.status = Some(status);
        assert_eq!(silence(&node, at(300)), None);
    }
}
