//! Tables over the status: what is observed in, phase, states and conditions out as text.

use expect_test::{Expect, expect};
use serde_json::{Value, json};

use super::*;
use crate::pod::observed::{ProbeResults, Sandbox, Waiting};

fn container(name: &str, state: State, exit_code: i32) -> Container {
    Container {
        id: format!("id-{name}"),
        sandbox_id: "s".into(),
        name: name.into(),
        image: "img".into(),
        image_id: "sha256:0".into(),
        state,
        created_at: 1,
        started_at: 2_000_000_000,
        finished_at: 3_000_000_000,
        exit_code,
        reason: String::new(),
        message: String::new(),
        restart_count: 1,
        hash: String::new(),
        log_path: String::new(),
    }
}

fn observed(containers: Vec<Container>) -> Observed {
    let ips = vec!["10.42.0.2".to_string()];
    let sandbox = Sandbox {
        id: "s".into(),
        attempt: 0,
        ready: true,
        host_network: false,
        ips,
        created_at: 1,
    };
    Observed {
        sandboxes: vec![sandbox],
        containers,
        ..Default::default()
    }
}

#[track_caller]
fn check(spec: Value, observed: &Observed, expect: Expect) {
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
    )
    .expect("a pod");
    let facts = NodeFacts {
        host_ips: vec!["1.2.3.4".into()],
        runtime_name: "containerd".into(),
    };
    let status = generate(
        &pod,
        observed,
        &PodStatus::default(),
        &facts,
        Timestamp::UNIX_EPOCH,
    );
    let mut text = format!(
        "{} {}\n",
        status.phase.unwrap_or_default(),
        status.pod_ip.unwrap_or_default()
    );
    for s in status
        .init_container_statuses
        .iter()
        .flatten()
        .chain(status.container_statuses.iter().flatten())
    {
        let state = serde_json::to_value(&s.state).expect("json");
        let (kind, body) = state
            .as_object()
            .and_then(|o| o.iter().next())
            .expect("a state");
        let reason = body.get("reason").and_then(Value::as_str).unwrap_or("-");
        text += &format!(
            "{} {kind} {reason} ready={} started={:?}\n",
            s.name,
            s.ready,
            s.started.unwrap_or_default()
        );
    }
    for c in status
        .conditions
        .iter()
        .flatten()
        .filter(|c| c.type_ != "PodScheduled")
    {
        text += &format!(
            "{}={} {} {}\n",
            c.type_,
            c.status,
            c.reason.as_deref().unwrap_or("-"),
            c.message.as_deref().unwrap_or("-")
        );
    }
    expect.assert_eq(&text);
}

#[test]
fn nothing_yet() {
    check(
        json!({"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
        &Observed::default(),
        expect![[r#"
            Pending 
            i waiting PodInitializing ready=false started=false
            a waiting PodInitializing ready=false started=false
            PodReadyToStartContainers=False - -
            Initialized=False ContainersNotInitialized containers with incomplete status: [i]
            Ready=False ContainersNotReady containers with unready status: [a]
            ContainersReady=False ContainersNotReady containers with unready status: [a]
        "#]],
    );
}

#[test]
fn ready_needs_its_probe() {
    let spec = json!({"containers": [{"name": "a", "readinessProbe": {}}, {"name": "b"}]});
    let mut seen = observed(vec![
        container("a", State::Running, 0),
        container("b", State::Running, 0),
    ]);
    check(
        spec.clone(),
        &seen,
        expect![[r#"
            Running 10.42.0.2
            a running - ready=false started=true
            b running - ready=true started=true
            PodReadyToStartContainers=True - -
            Initialized=True - -
            Ready=False ContainersNotReady containers with unready status: [a]
            ContainersReady=False ContainersNotReady containers with unready status: [a]
        "#]],
    );
    seen.probes.insert(
        "id-a".into(),
        ProbeResults {
            readiness: Some(true),
            ..Default::default()
        },
    );
    check(
        spec,
        &seen,
        expect![[r#"
            Running 10.42.0.2
            a running - ready=true started=true
            b running - ready=true started=true
            PodReadyToStartContainers=True - -
            Initialized=True - -
            Ready=True - -
            ContainersReady=True - -
        "#]],
    );
}

#[test]
fn crash_loop_keeps_the_pod_running() {
    let mut seen = observed(vec![container("a", State::Exited, 1)]);
    let waiting = Waiting {
        reason: "CrashLoopBackOff".into(),
        message: "back-off".into(),
    };
    seen.waiting.insert("a".into(), waiting);
    check(
        json!({"containers": [{"name": "a"}]}),
        &seen,
        expect![[r#"
            Running 10.42.0.2
            a waiting CrashLoopBackOff ready=false started=false
            PodReadyToStartContainers=True - -
            Initialized=True - -
            Ready=False ContainersNotReady containers with unready status: [a]
            ContainersReady=False ContainersNotReady containers with unready status: [a]
        "#]],
    );
}

#[test]
fn completed() {
    let mut seen = observed(vec![container("a", State::Exited, 0)]);
    seen.finished = true;
    check(
        json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}),
        &seen,
        expect![[r#"
            Succeeded 10.42.0.2
            a terminated Completed ready=false started=false
            PodReadyToStartContainers=False - -
            Initialized=True PodCompleted -
            Ready=False PodCompleted -
            ContainersReady=False PodCompleted -
        "#]],
    );
}

#[test]
fn failed_init_fails_the_pod() {
    check(
        json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}),
        &observed(vec![container("i", State::Exited, 2)]),
        expect![[r#"
            Failed 10.42.0.2
            i terminated Error ready=false started=false
            a waiting PodInitializing ready=false started=false
            PodReadyToStartContainers=True - -
            Initialized=False ContainersNotInitialized containers with incomplete status: [i]
            Ready=False PodFailed -
            ContainersReady=False PodFailed -
        "#]],
    );
}
