//! DefaultTolerationSeconds: a pod stays for a while (five minutes, by default) on a node that is not ready or cannot be
//! reached, unless it says otherwise.

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::push;
use crate::plugin::{Admission, Attributes, Operation};

/// How long pods that do not say it themselves stay on a lost node, seconds.
#[derive(Clone, Copy, Debug)]
pub struct DefaultTolerations {
    pub not_ready_seconds: u32,
    pub unreachable_seconds: u32,
}

impl Default for DefaultTolerations {
    fn default() -> Self {
        Self {
            not_ready_seconds: 300,
            unreachable_seconds: 300,
        }
    }
}

pub(super) struct DefaultTolerationSeconds(pub DefaultTolerations);

#[async_trait]
impl Admission for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "pods")
            && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(pod) = &mut attributes.object else {
            return Ok(());
        };
        let taints = [
            ("node.kubernetes.io/not-ready", self.0.not_ready_seconds),
            ("node.kubernetes.io/unreachable", self.0.unreachable_seconds),
        ];
        for (taint, seconds) in taints {
            let tolerates = |t: &Value| {
                ["", taint].contains(&t.text(&["key"]))
                    && ["", "NoExecute"].contains(&t.text(&["effect"]))
            };
            if !pod.list(&["spec", "tolerations"]).iter().any(tolerates) {
                let toleration = json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
                push(&mut pod["spec"]["tolerations"], toleration);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
