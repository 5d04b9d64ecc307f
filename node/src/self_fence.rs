//! Ends this node's pods before the cluster starts others in their place, when no master can be reached.
//!
//! The cluster counts from the last renewal of the node's Lease: it waits for the grace period of nodes, then for as long as the
//! pod tolerates an unreachable node, then deletes the pod and makes another. This side counts from when the last successful
//! renewal was asked for, which is earlier, and does not wait for the grace period: its pods have ended by then. Pods that
//! tolerate an unreachable node without end, as those of DaemonSets, go on. It must not know how pods are ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Toleration};
use k8s_openapi::jiff;
use parking_lot::Mutex;

/// On Nodes whose agents do this: what they no longer answer for may be replaced.
pub(crate) const ANNOTATION: &str = "xebec.io/self-fence";
/// Why a pod was ended.
pub(crate) const REASON: &str = "NodeUnreachable";
/// No pod ends sooner than this: a Lease holds as long, and a short pause of the masters is no reason.
const PATIENCE: Duration = Duration::from_secs(40);

const UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// When the masters were last known to know that this node lives.
#[derive(Clone)]
pub(crate) struct Contact(Arc<Mutex<Instant>>);

impl Contact {
    /// Counts from now on.
    pub(crate) fn new() -> Contact {
        Contact(Arc::new(Mutex::new(Instant::now())))
    }

    /// A renewal that was asked for at `asked` has succeeded.
    pub(crate) fn made(&self, asked: Instant) {
        *self.0.lock() = asked;
    }

    /// When the pod must end unless there is contact before; none if it may run on. Wall-clock time, counted by a clock that
    /// never jumps.
    pub(crate) fn end_of(&self, pod: &Pod, now: Timestamp) -> Option<Timestamp> {
        let silent = self.0.lock().elapsed();
        let stays = tolerates_for(pod)?.max(PATIENCE);
        let left = stays.checked_sub(silent).unwrap_or_default();
        now.checked_add(left).ok()
    }
}

/// How long the pod tolerates that its node is unreachable; none if without end.
fn tolerates_for(pod: &Pod) -> Option<Duration> {
    let tolerations = pod.spec.as_ref()?.tolerations.iter().flatten();
    let mut matching = tolerations.filter(|t| tolerates_unreachable(t)).peekable();
    if matching.peek().is_none() {
        return Some(Duration::ZERO);
    }
    let seconds = matching.filter_map(|t| t.toleration_seconds).min()?;
    Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
}

/// Whether it matches the taint of an unreachable node, which has no value.
fn tolerates_unreachable(toleration: &Toleration) -> bool {
    let empty = |text: &Option<String>| text.as_deref().unwrap_or_default().is_empty();
    let exists = toleration.operator.as_deref() == Some("Exists");
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = match toleration.key.as_deref().unwrap_or_default() {
        "" => exists,
        key => key == UNREACHABLE,
    };
    key && matches!(effect, "" | "NoExecute") && (exists || empty(&toleration.value))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(tolerations: &Value) -> Pod {
        let pod = json!({"spec": {"containers": [], "tolerations": tolerations}});
        serde_json::from_value(pod).expect("a pod")
    }

    fn check(tolerations: &Value, seconds: Option<u64>) {
        let found = tolerates_for(&pod(tolerations));
        assert_eq!(found, seconds.map(Duration::from_secs), "{tolerations}");
    }

    #[test]
    fn pods_tolerate_as_the_cluster_counts() {
        let usual = json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300});
        let forever = json!({"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute"});
        check(&json!([]), Some(0));
        check(&json!([usual]), Some(300));
        check(&json!([forever]), None);
        check(&json!([forever, usual]), Some(300));
        check(&json!([{"operator": "Exists"}]), None);
        check(&json!([{"key": UNREACHABLE}]), None);
        check(&json!([{"key": UNREACHABLE, "value": "x"}]), Some(0));
        check(
            &json!([{"operator": "Exists", "effect": "NoSchedule"}]),
            Some(0),
        );
        check(
            &json!([{"key": UNREACHABLE, "operator": "Exists", "tolerationSeconds": -1}]),
            Some(0),
        );
    }

    #[test]
    fn contact_puts_the_end_off() {
        let contact = Contact::new();
        let silent = |seconds| {
            let asked = Instant::now().checked_sub(Duration::from_secs(seconds));
            contact.made(asked.expect("the machine has run for longer"));
        };
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let left = |pod: &Pod| {
            let end = contact.end_of(pod, now).expect("an end");
            end.duration_since(now).as_secs()
        };
        let five = json!([{"operator": "Exists", "tolerationSeconds": 300}]);
        silent(100);
        // Counting goes on while the test runs: a little less than the whole second.
        assert_eq!(left(&pod(&five)), 199);
        assert_eq!(left(&pod(&json!([]))), 0);
        silent(0);
        assert_eq!(left(&pod(&five)), 299);
        assert_eq!(left(&pod(&json!([]))), 39, "never at once");
        let forever = pod(&json!([{"operator": "Exists"}]));
        assert_eq!(contact.end_of(&forever, now), None);
    }
}
