//! The kubelet's own labels and annotations on sandboxes and containers. All state that must outlive a restart of the agent is in
//! them, so another kubelet can take over the node, and this one its containers.

/// Label: the pod's name.
pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
/// Label: the pod's namespace.
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Label: the pod's uid.
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
/// Label: the container's name in the pod.
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
/// Annotation: a hash over the container's definition, to see that it changed.
pub(crate) const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
/// Annotation: how often this container was started before.
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
/// Annotation: where the container may write its termination message.
pub(crate) const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Annotation: `File` or `FallbackToLogsOnError`.
pub(crate) const TERMINATION_MESSAGE_POLICY: &str =
    "io.kubernetes.container.terminationMessagePolicy";
/// Annotation: the pod's grace period, in seconds, for a pod whose API object is gone.
pub(crate) const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
/// Annotation: the pod's deletion grace period, in seconds.
pub(crate) const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
/// Annotation: the container's preStop hook, as JSON, for a pod whose API object is gone.
pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
/// Annotation: the container's ports, as JSON.
pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
