//! An APIService for each group that the API server serves itself: `kubectl get apiservices` shows them as `Local`.

use api_client::Client;
use api_machinery::Status;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1::{
    APIService, APIServiceCondition, APIServiceSpec, APIServiceStatus,
};

/// Says that the object is ours: made at a start, not to be synchronized with anything.
const AUTOMANAGED: (&str, &str) = ("kube-aggregator.kubernetes.io/automanaged", "onstart");

/// Group, version, and upstream's priorities: of the group among groups, of the version in its group. The group of
/// APIServices itself is not among them, as upstream.
#[rustfmt::skip]
const LOCAL: [(&str, &str, i32, i32); 21] = [
    ("", "v1", 18_000, 1),
    ("apps", "v1", 17_800, 15),
    ("events.k8s.io", "v1", 17_750, 15),
    ("authentication.k8s.io", "v1", 17_700, 15),
    ("authorization.k8s.io", "v1", 17_600, 15),
    ("autoscaling", "v1", 17_500, 15),
    ("autoscaling", "v2", 17_500, 30),
    ("batch", "v1", 17_400, 15),
    ("certificates.k8s.io", "v1", 17_300, 15),
    ("networking.k8s.io", "v1", 17_200, 15),
    ("policy", "v1", 17_100, 15),
    ("rbac.authorization.k8s.io", "v1", 17_000, 15),
    ("storage.k8s.io", "v1", 16_800, 15),
    ("admissionregistration.k8s.io", "v1", 16_700, 15),
    ("apiextensions.k8s.io", "v1", 16_700, 15),
    ("scheduling.k8s.io", "v1", 16_600, 15),
    ("coordination.k8s.io", "v1", 16_500, 15),
    ("node.k8s.io", "v1", 16_300, 15),
    ("discovery.k8s.io", "v1", 16_200, 15),
    ("resource.k8s.io", "v1", 16_200, 21),
    ("flowcontrol.apiserver.k8s.io", "v1", 16_100, 21),
];

/// Makes the objects that are missing. What cannot be written is logged: only tools that look miss it.
pub async fn ensure(client: Client) {
    let ensured = LOCAL.map(|row| ensure_one(&client, row));
    for answer in futures::future::join_all(ensured).await {
        if let Err(status) = answer {
            tracing::warn!(%status, "an APIService was not written");
        }
    }
}

async fn ensure_one(client: &Client, row: (&str, &str, i32, i32)) -> Result<(), Status> {
    let wanted = local(row, Timestamp::now());
    let name = wanted.metadata.name.clone().unwrap_or_default();
    let mut held = match client.get::<APIService>(None, &name).await {
        Ok(found)
            if found
                .status
                .as_ref()
                .is_some_and(|s| s.conditions.is_some()) =>
        {
            return Ok(());
        }
        Ok(found) => found,
        Err(status) if status.is_not_found() => match client.create(None, &wanted).await {
            // Another master was faster.
            Err(status) if status.is_already_exists() => return Ok(()),
            answer => answer?,
        },
        Err(status) => return Err(status),
    };
    held.status = wanted.status;
    client.update_status(&held).await.map(drop)
}

fn local(
    (group, version, group_priority, priority): (&str, &str, i32, i32),
    now: Timestamp,
) -> APIService {
    APIService {
        metadata: ObjectMeta {
            name: Some(format!("{version}.{group}")),
            labels: Some([(AUTOMANAGED.0.to_owned(), AUTOMANAGED.1.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(APIServiceSpec {
            group: Some(group.to_owned()).filter(|group| !group.is_empty()),
            version: Some(version.to_owned()),
            group_priority_minimum: group_priority,
            version_priority: priority,
            ..APIServiceSpec::default()
        }),
        status: Some(APIServiceStatus {
            conditions: Some(vec![APIServiceCondition {
                type_: "Available".to_owned(),
                status: "True".to_owned(),
                reason: Some("Local".to_owned()),
                message: Some("Local APIServices are always available".to_owned()),
                last_transition_time: Some(Time(
                    Timestamp::from_second(now.as_second()).unwrap_or(now),
                )),
            }]),
        }),
    }
}
