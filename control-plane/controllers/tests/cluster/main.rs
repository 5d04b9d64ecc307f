//! Controllers against a real API server over a store in memory, with real authorization: each acts as its own identity.
//!
//! There is no scheduler and no node agent here; [`agent`] stands in for both on one node.

mod agent;
mod certificates;
mod fixture;

use fixture::{Cluster, names};
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Endpoints, Namespace, Node, Pod, ReplicationController, Service, ServiceAccount,
};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;

fn template(app: &str, image: &str) -> serde_json::Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": {"containers": [{"name": "c", "image": image}]}})
}

fn selector(app: &str) -> serde_json::Value {
    json!({"matchLabels": {"app": app}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_namespace_is_furnished_and_later_emptied() {
    let cluster = Cluster::start().await;
    cluster
        .create::<Namespace>(json!({"metadata": {"name": "team"}}))
        .await;
    cluster
        .eventually::<ServiceAccount>("team", "default", |_| true)
        .await;
    let ca = |map: &ConfigMap| {
        map.data
            .as_ref()
            .is_some_and(|data| data["ca.crt"].contains("BEGIN CERTIFICATE"))
    };
    cluster
        .eventually::<ConfigMap>("team", "kube-root-ca.crt", ca)
        .await;
    cluster
        .create_in::<Deployment>("team", json!({"metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": selector("web"), "template": template("web", "one")}}))
        .await;
    cluster.eventually_count::<Pod>("team", 2).await;
    cluster.delete::<Namespace>("", "team", None).await;
    cluster.eventually_gone::<Namespace>("", "team").await;
    assert_eq!(cluster.list::<Pod>("team").await.len(), 0);
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_rolls_over_and_is_collected() {
    let cluster = Cluster::start().await;
    let deployment = |image: &str| {
        json!({"metadata": {"name": "web", "namespace": "default"},
            "spec": {"replicas": 3, "selector": selector("web"), "template": template("web", image)}})
    };
    cluster
        .create_in::<Deployment>("default", deployment("one"))
        .await;
    let done = |revision: &'static str| {
        move |d: &Deployment| {
            let status = d.status.clone().unwrap_or_default();
            let annotations = d.metadata.annotations.clone().unwrap_or_default();
            status.updated_replicas == Some(3)
                && status.available_replicas == Some(3)
                && status.replicas == Some(3)
                && annotations
                    .get("deployment.kubernetes.io/revision")
                    .is_some_and(|r| r == revision)
        }
    };
    cluster
        .eventually::<Deployment>("default", "web", done("1"))
        .await;
    cluster
        .merge::<Deployment>(
            "default",
            "web",
            json!({"spec": {"template": template("web", "two")}}),
        )
        .await;
    cluster
        .eventually::<Deployment>("default", "web", done("2"))
        .await;
    let sets = cluster.list::<ReplicaSet>("default").await;
    assert_eq!(
        sets.len(),
        2,
        "the old set is kept for undo: {:?}",
        names(&sets)
    );
    cluster.delete::<Deployment>("default", "web", None).await;
    cluster.eventually_count::<ReplicaSet>("default", 0).await;
    cluster.eventually_count::<Pod>("default", 0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_foreground_deletion_takes_the_owner_last() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<ReplicaSet>("default", json!({"metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": selector("web"), "template": template("web", "one")}}))
        .await;
    cluster.eventually_count::<Pod>("default", 2).await;
    cluster
        .delete::<ReplicaSet>("default", "web", Some("Foreground"))
        .await;
    cluster
        .eventually_gone::<ReplicaSet>("default", "web")
        .await;
    assert_eq!(cluster.list::<Pod>("default").await.len(), 0);
    cluster
        .create_in::<ReplicaSet>("default", json!({"metadata": {"name": "kept"},
            "spec": {"replicas": 2, "selector": selector("kept"), "template": template("kept", "one")}}))
        .await;
    cluster.eventually_count::<Pod>("default", 2).await;
    cluster
        .delete::<ReplicaSet>("default", "kept", Some("Orphan"))
        .await;
    cluster
        .eventually_gone::<ReplicaSet>("default", "kept")
        .await;
    let pods = cluster.list::<Pod>("default").await;
    assert_eq!(pods.len(), 2);
    assert!(
        pods.iter()
            .all(|pod| pod.metadata.owner_references.is_none()),
        "let go, not deleted"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_knows_its_endpoints() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<ReplicationController>("default", json!({"metadata": {"name": "web"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": template("web", "one")}}))
        .await;
    cluster
        .create_in::<Service>(
            "default",
            json!({"metadata": {"name": "web"},
            "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]}}),
        )
        .await;
    let both = |all: &[EndpointSlice]| {
        let own = all
            .iter()
            .filter(|s| s.metadata.generate_name.as_deref() == Some("web-"));
        let ready = own.flat_map(|s| s.endpoints.iter().flatten());
        ready
            .filter(|e| e.conditions.as_ref().and_then(|c| c.ready) == Some(true))
            .count()
            == 2
    };
    cluster
        .eventually_list::<EndpointSlice>("default", both)
        .await;
    let addresses = |e: &Endpoints| {
        let subsets = e.subsets.iter().flatten();
        subsets
            .map(|s| s.addresses.as_ref().map_or(0, Vec::len))
            .sum::<usize>()
            == 2
    };
    cluster
        .eventually::<Endpoints>("default", "web", addresses)
        .await;
    cluster
        .merge::<ReplicationController>("default", "web", json!({"spec": {"replicas": 0}}))
        .await;
    let none = |all: &[EndpointSlice]| {
        let own = all
            .iter()
            .filter(|s| s.metadata.generate_name.as_deref() == Some("web-"));
        own.flat_map(|s| s.endpoints.iter().flatten()).count() == 0
    };
    cluster
        .eventually_list::<EndpointSlice>("default", none)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_made_by_hand_are_mirrored() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<Service>(
            "default",
            json!({"metadata": {"name": "outside"}, "spec": {"ports": [{"port": 80}]}}),
        )
        .await;
    cluster
        .create_in::<Endpoints>(
            "default",
            json!({"metadata": {"name": "outside"},
            "subsets": [{"addresses": [{"ip": "192.0.2.7"}], "ports": [{"port": 80}]}]}),
        )
        .await;
    let mirrored = |all: &[EndpointSlice]| {
        let own = all
            .iter()
            .filter(|s| s.metadata.generate_name.as_deref() == Some("outside-"));
        own.flat_map(|s| s.endpoints.iter().flatten())
            .any(|e| e.addresses == ["192.0.2.7"])
    };
    cluster
        .eventually_list::<EndpointSlice>("default", mirrored)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_run_to_completion_and_are_counted_once() {
    let cluster = Cluster::start().await;
    let mut pod = template("batch", "succeeds");
    pod["spec"]["restartPolicy"] = json!("Never");
    cluster
        .create_in::<Job>("default", json!({"metadata": {"name": "sum"},
            "spec": {"completions": 5, "parallelism": 2, "completionMode": "Indexed", "template": pod}}))
        .await;
    let complete = |job: &Job| {
        let status = job.status.clone().unwrap_or_default();
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Complete" && c.status == "True")
    };
    let job = cluster.eventually::<Job>("default", "sum", complete).await;
    let status = job.status.expect("a status");
    assert_eq!(
        (status.succeeded, status.completed_indexes.as_deref()),
        (Some(5), Some("0-4"))
    );
    pod["spec"]["containers"][0]["image"] = json!("fails");
    cluster
        .create_in::<Job>(
            "default",
            json!({"metadata": {"name": "fail"}, "spec": {"backoffLimit": 0, "template": pod}}),
        )
        .await;
    let failed = |job: &Job| {
        let status = job.status.clone().unwrap_or_default();
        status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.type_ == "Failed")
    };
    let job = cluster.eventually::<Job>("default", "fail", failed).await;
    let status = job.status.expect("a status");
    assert_eq!(status.failed, Some(1));
    let failed = status
        .conditions
        .iter()
        .flatten()
        .find(|c| c.type_ == "Failed")
        .and_then(|c| c.reason.clone());
    assert_eq!(failed.as_deref(), Some("BackoffLimitExceeded"));
    let tracked = |pod: &&Pod| pod.metadata.finalizers.iter().flatten().next().is_some();
    let pods = cluster.list::<Pod>("default").await;
    assert_eq!(
        pods.iter().filter(tracked).count(),
        0,
        "no pod is held back"
    );
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stateful_set_keeps_its_names_through_an_update() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<StatefulSet>(
            "default",
            json!({"metadata": {"name": "db"}, "spec": {"replicas": 3,
            "serviceName": "db", "selector": selector("db"), "template": template("db", "one")}}),
        )
        .await;
    let ready = |revisions_agree: bool| {
        move |set: &StatefulSet| {
            let status = set.status.clone().unwrap_or_default();
            status.ready_replicas == Some(3)
                && status.observed_generation == set.metadata.generation
                && (!revisions_agree || status.current_revision == status.update_revision)
        }
    };
    cluster
        .eventually::<StatefulSet>("default", "db", ready(true))
        .await;
    let pods = cluster.list::<Pod>("default").await;
    assert_eq!(names(&pods), ["db-0", "db-1", "db-2"]);
    cluster
        .merge::<StatefulSet>(
            "default",
            "db",
            json!({"spec": {"template": template("db", "two")}}),
        )
        .await;
    let updated = |all: &[Pod]| {
        let image = |pod: &Pod| {
            pod.spec
                .as_ref()
                .and_then(|s| s.containers[0].image.clone())
        };
        all.len() == 3 && all.iter().all(|pod| image(pod).as_deref() == Some("two"))
    };
    cluster.eventually_list::<Pod>("default", updated).await;
    cluster
        .eventually::<StatefulSet>("default", "db", ready(true))
        .await;
    cluster.delete::<StatefulSet>("default", "db", None).await;
    cluster.eventually_count::<Pod>("default", 0).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_set_keeps_a_pod_on_every_node() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<DaemonSet>(
            "default",
            json!({"metadata": {"name": "logs"},
            "spec": {"selector": selector("logs"), "template": template("logs", "one")}}),
        )
        .await;
    let on_every_node = |set: &DaemonSet| set.status.as_ref().is_some_and(|s| s.number_ready == 1);
    cluster
        .eventually::<DaemonSet>("default", "logs", on_every_node)
        .await;
    cluster
        .merge::<DaemonSet>(
            "default",
            "logs",
            json!({"spec": {"template": template("logs", "two")}}),
        )
        .await;
    let updated = |set: &DaemonSet| {
        let status = set.status.clone().unwrap_or_default();
        status.number_ready == 1
            && status.updated_number_scheduled == Some(1)
            && status.observed_generation == Some(2)
    };
    cluster
        .eventually::<DaemonSet>("default", "logs", updated)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_get_addresses_and_schedules_make_jobs() {
    let cluster = Cluster::start().await;
    let addressed = |node: &Node| {
        node.spec.as_ref().and_then(|s| s.pod_cidr.as_deref()) == Some("10.42.0.0/24")
    };
    cluster.eventually::<Node>("", agent::NODE, addressed).await;
    let mut pod = template("tick", "succeeds");
    pod["spec"]["restartPolicy"] = json!("Never");
    cluster
        .create_in::<CronJob>(
            "default",
            json!({"metadata": {"name": "tick"},
            "spec": {"schedule": "@every 1s", "jobTemplate": {"spec": {"template": pod}}}}),
        )
        .await;
    let ran = |cron: &CronJob| {
        cron.status
            .as_ref()
            .is_some_and(|s| s.last_successful_time.is_some())
    };
    cluster.eventually::<CronJob>("default", "tick", ran).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_says_how_many_pods_may_go() {
    let cluster = Cluster::start().await;
    cluster
        .create_in::<Deployment>(
            "default",
            json!({"metadata": {"name": "web"},
            "spec": {"replicas": 3, "selector": selector("web"), "template": template("web", "one")}}),
        )
        .await;
    cluster
        .create_in::<PodDisruptionBudget>(
            "default",
            json!({"metadata": {"name": "web"},
            "spec": {"maxUnavailable": 1, "selector": selector("web")}}),
        )
        .await;
    let numbers = |budget: &PodDisruptionBudget| {
        let status = budget.status.clone().unwrap_or_default();
        (
            status.expected_pods,
            status.desired_healthy,
            status.current_healthy,
            status.disruptions_allowed,
        )
    };
    let whole =
        |budget: &PodDisruptionBudget| numbers(budget) == (Some(3), Some(2), Some(3), Some(1));
    cluster
        .eventually::<PodDisruptionBudget>("default", "web", whole)
        .await;
    let pod = names(&cluster.list::<Pod>("default").await)[0].clone();
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod}});
    cluster
        .client
        .create_subresource::<Pod>(Some("default"), &pod, "eviction", &eviction)
        .await
        .expect("evicted");
    cluster.eventually_gone::<Pod>("default", &pod).await;
    cluster
        .eventually::<PodDisruptionBudget>("default", "web", whole)
        .await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_node_is_marked_and_its_pods_get_no_traffic() {
    let cluster = Cluster::start_with(|options| {
        options.node_monitor_grace_period = std::time::Duration::from_secs(2);
    })
    .await;
    cluster
        .create_in::<ReplicaSet>(
            "default",
            json!({"metadata": {"name": "web"},
            "spec": {"replicas": 1, "selector": selector("web"), "template": template("web", "one")}}),
        )
        .await;
    let unreachable = |node: &Node| {
        let spec = node.spec.clone().unwrap_or_default();
        let conditions = node
            .status
            .iter()
            .filter_map(|s| s.conditions.as_ref())
            .flatten();
        let unknown = conditions.filter(|c| c.status == "Unknown").count();
        let key = "node.kubernetes.io/unreachable";
        unknown == 4
            && spec
                .taints
                .iter()
                .flatten()
                .any(|t| t.key == key && t.effect == "NoSchedule")
    };
    cluster
        .eventually::<Node>("", agent::NODE, unreachable)
        .await;
    let not_ready = |all: &[Pod]| {
        let conditions = all
            .iter()
            .filter_map(|p| p.status.as_ref()?.conditions.as_ref());
        !all.is_empty()
            && conditions
                .flatten()
                .any(|c| c.type_ == "Ready" && c.status == "False")
    };
    cluster.eventually_list::<Pod>("default", not_ready).await;
    cluster.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_cluster_is_not_written_to() {
    let cluster = Cluster::start().await;
    let spec =
        json!({"replicas": 2, "selector": selector("web"), "template": template("web", "one")});
    cluster
        .create_in::<Deployment>(
            "default",
            json!({"metadata": {"name": "web"}, "spec": spec}),
        )
        .await;
    let mut spec = json!({"replicas": 1, "serviceName": "db", "selector": selector("db"), "template": template("db", "one")});
    cluster
        .create_in::<StatefulSet>("default", json!({"metadata": {"name": "db"}, "spec": spec}))
        .await;
    spec = json!({"selector": selector("logs"), "template": template("logs", "one")});
    cluster
        .create_in::<DaemonSet>(
            "default",
            json!({"metadata": {"name": "logs"}, "spec": spec}),
        )
        .await;
    spec = json!({"selector": {"app": "web"}, "ports": [{"port": 80}]});
    cluster
        .create_in::<Service>(
            "default",
            json!({"metadata": {"name": "web"}, "spec": spec}),
        )
        .await;
    spec = json!({"minAvailable": 1, "selector": selector("web")});
    cluster
        .create_in::<PodDisruptionBudget>(
            "default",
            json!({"metadata": {"name": "web"}, "spec": spec}),
        )
        .await;
    let mut pod = template("batch", "succeeds");
    pod["spec"]["restartPolicy"] = json!("Never");
    cluster
        .create_in::<Job>(
            "default",
            json!({"metadata": {"name": "sum"}, "spec": {"template": pod}}),
        )
        .await;
    // Quiet for a second is settled; a controller that quarrels with itself or another never is.
    let quiet = async {
        let mut revision = cluster.revision().await;
        loop {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
            let now = cluster.revision().await;
            if now == revision {
                return;
            }
            revision = now;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), quiet)
        .await
        .expect("it settles");
    cluster.stop().await;
}
