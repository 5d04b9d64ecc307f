//! DefaultTolerationSeconds: a pod stays for five minutes on a node that is not ready or cannot be reached, unless it
//! says otherwise.

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;
use serde_json::{Value, json};

use super::push;
use crate::plugin::{Admission, Attributes, Operation};

const TAINTS: [&str; 2] = [
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
const SECONDS: i64 = 300;

pub(super) struct DefaultTolerationSeconds;

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
        for taint in TAINTS {
            let tolerates = |t: &Value| {
                ["", taint].contains(&t.text(&["key"]))
                    && ["", "NoExecute"].contains(&t.text(&["effect"]))
            };
            if !pod.list(&["spec", "tolerations"]).iter().any(tolerates) {
                let toleration = json!({"key": taint, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": SECONDS});
                push(&mut pod["spec"]["tolerations"], toleration);
            }
        }
        Ok(())
    }
}
