//! Lifecycle hooks: what a container asks to be done after it started and before it is stopped.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};

use crate::cri::Cri;
use crate::http_get::Target;

/// How hooks name themselves to the container.
const USER_AGENT: &str = "kube-lifecycle/1.36";
/// How long an HTTP hook may take; its caller's grace period limits it further.
const HTTP_LIMIT: Duration = Duration::from_secs(60);
/// How long a command may take where nothing else limits it.
const EXEC_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Runs a hook to its end; an error says why it failed.
pub(crate) async fn run(
    cri: &Cri,
    hook: &LifecycleHandler,
    container: Option<&Container>,
    id: &str,
    pod_ip: &str,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let shown = command.join(" ");
        return match cri.exec_sync(id, command, EXEC_LIMIT).await {
            Ok(answer) if answer.exit_code == 0 => Ok(()),
            Ok(answer) => Err(format!(
                "command '{shown}' exited with {}: {}",
                answer.exit_code,
                String::from_utf8_lossy(&answer.stderr)
            )),
            Err(status) => Err(crate::pull::describe(&status)),
        };
    }
    if let Some(action) = &hook.http_get {
        let unnamed = Container::default();
        let target =
            Target::new(container.unwrap_or(&unnamed), action, pod_ip).ok_or("invalid port")?;
        return target.get(USER_AGENT, HTTP_LIMIT).await.map(|_| ());
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        return Ok(());
    }
    Err("invalid handler: no action".to_string())
}
