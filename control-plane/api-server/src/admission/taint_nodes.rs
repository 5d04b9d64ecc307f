//! TaintNodesByCondition: a new node is not ready until the node lifecycle controller says so.

use api_machinery::{ObjectExt, Status};
use async_trait::async_trait;
use serde_json::json;

use super::push;
use crate::plugin::{Admission, Attributes, Operation};

const KEY: &str = "node.kubernetes.io/not-ready";
const EFFECT: &str = "NoSchedule";

pub(super) struct TaintNodesByCondition;

#[async_trait]
impl Admission for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        attributes.is("", "nodes") && attributes.operation == Operation::Create
    }

    async fn admit(&self, attributes: &mut Attributes) -> Result<(), Status> {
        let Some(node) = &mut attributes.object else {
            return Ok(());
        };
        let tainted = node
            .list(&["spec", "taints"])
            .iter()
            .any(|t| t["key"] == KEY && t["effect"] == EFFECT);
        if !tainted {
            push(
                &mut node["spec"]["taints"],
                json!({"key": KEY, "effect": EFFECT}),
            );
        }
        Ok(())
    }
}
