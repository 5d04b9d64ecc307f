//! A web server on every node and a Service in front: whether pods of all nodes reach each other.

use std::time::Duration;

use anyhow::{Result, ensure};

use crate::command::contains;
use crate::kubectl::Kubectl;
use crate::wait::eventually;

/// What a busy machine may take for one step.
const PATIENCE: Duration = Duration::from_secs(90);

/// A web server on every node, and a Service in front.
pub const WEB: &str = r#"
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: xebec-example:1
        command: [sh, -c, 'mkdir -p /tmp/www; echo "on $NODE" > /tmp/www/index.html; exec httpd -f -p 8080 -h /tmp/www']
        env: [{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: 8080}]
"#;

/// Pods of all these nodes reach each other by the Service; logs and exec reach every node.
pub fn across_nodes(kubectl: &Kubectl, nodes: &[&str]) -> Result<()> {
    kubectl.run("rollout status daemonset/web --timeout=90s")?;
    let list = kubectl
        .run("get pods -l app=web -o jsonpath={range.items[*]}{.metadata.name}{\"\\n\"}{end}")?;
    let pods: Vec<&str> = list.lines().collect();
    ensure!(pods.len() == nodes.len(), "{list}");
    for pod in pods {
        eventually("all nodes answer", PATIENCE, || {
            let mut answers = String::new();
            for _ in 0..5 * nodes.len() {
                answers += &kubectl.run(&format!("exec {pod} -- wget -q -O - http://web"))?;
            }
            let mut nodes = nodes.iter();
            nodes.try_for_each(|node| contains(&answers, &format!("on {node}")))
        })?;
        kubectl.run(&format!("logs {pod}"))?;
    }
    Ok(())
}
