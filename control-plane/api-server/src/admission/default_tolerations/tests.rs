//! What the cluster is told of lost nodes reaches its pods, through the table of plugins.

use std::sync::Arc;

use api_client::{Client, User};

use super::super::{AdmissionContext, admission_plugins};
use super::*;
use crate::authz::Authorization;
use crate::identity::UserInfo;
use crate::testing::{Calls, Objects};

/// The tolerations of a new pod as `KEY=SECONDS`, where pods without any get these seconds.
async fn check(not_ready: u32, unreachable: u32, own: Value, expect: &[&str]) {
    let objects = Arc::new(Objects::default());
    let context = AdmissionContext {
        reader: objects.clone(),
        authorization: Authorization::new(objects),
        client: Client::new(Arc::new(Calls::default()), User::component("test")),
        default_tolerations: DefaultTolerations {
            not_ready_seconds: not_ready,
            unreachable_seconds: unreachable,
        },
    };
    let plugin = admission_plugins(&context)
        .into_iter()
        .find(|plugin| plugin.name() == "DefaultTolerationSeconds")
        .expect("in the table");
    let mut attributes = Attributes {
        operation: Operation::Create,
        group: String::new(),
        version: "v1".into(),
        kind: "Pod".into(),
        resource: "pods".into(),
        subresource: String::new(),
        namespace: "a".into(),
        name: "p".into(),
        object: Some(json!({"spec": {"containers": [], "tolerations": own}})),
        old: None,
        user: Arc::new(UserInfo::default()),
        dry_run: false,
        options: Value::Null,
        warnings: Vec::new(),
    };
    assert!(plugin.handles(&attributes));
    plugin.admit(&mut attributes).await.expect("admitted");
    let pod = attributes.object.expect("kept");
    let shown = |toleration: &Value| {
        let (key, seconds) = (&toleration["key"], &toleration["tolerationSeconds"]);
        format!("{}={seconds}", key.as_str().unwrap_or_default())
    };
    let tolerations = pod.list(&["spec", "tolerations"]);
    let found: Vec<String> = tolerations.iter().map(shown).collect();
    assert_eq!(found, expect);
}

#[tokio::test]
async fn pods_get_the_times_that_the_cluster_was_told() {
    let (not_ready, unreachable) = (
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
    );
    let (own_not_ready, own_unreachable) = (format!("{not_ready}=1"), format!("{unreachable}=1"));
    let (seven, eight) = (format!("{not_ready}=7"), format!("{unreachable}=8"));
    let own = |key: &str| json!([{"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]);
    check(7, 8, json!([]), &[&seven, &eight]).await;
    check(7, 8, own(not_ready), &[&own_not_ready, &eight]).await;
    check(7, 8, own(unreachable), &[&own_unreachable, &seven]).await;
    check(7, 8, json!([{"operator": "Exists"}]), &["=null"]).await;
    let at_once = [format!("{not_ready}=0"), format!("{unreachable}=0")];
    check(0, 0, json!([]), &[&at_once[0], &at_once[1]]).await;
}
