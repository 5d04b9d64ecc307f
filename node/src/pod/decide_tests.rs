//! Tables over the decision: a pod and what is observed of it, in short notation; the steps as text.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::*;
use crate::pod::backoff::Backoff;
use crate::pod::observed::ProbeResults;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).expect("in range")
}

fn pod(spec: Value) -> Pod {
    serde_json::from_value(
        json!({"metadata": {"name": "p", "namespace": "n", "uid": "u"}, "spec": spec}),
    )
    .expect("a pod")
}

fn sandbox(ready: bool) -> Sandbox {
    let ips = vec!["10.42.0.2".to_string()];
    Sandbox {
        id: "s".into(),
        attempt: 0,
        ready,
        host_network: false,
        ips,
        created_at: 1,
    }
}

/// `name state`: state is `running`, `created` or an exit code, ended at second 100.
fn container(notation: &str) -> Container {
    let (name, state) = notation.split_once(' ').expect("name state");
    let state_and_code = match state {
        "running" => (State::Running, 0),
        "created" => (State::Created, 0),
        "unknown" => (State::Unknown, 0),
        code => (State::Exited, code.parse().expect("an exit code")),
    };
    Container {
        id: format!("id-{name}"),
        sandbox_id: "s".into(),
        name: name.into(),
        image: String::new(),
        image_id: String::new(),
        state: state_and_code.0,
        created_at: 1,
        started_at: 1,
        finished_at: 100_000_000_000,
        exit_code: state_and_code.1,
        reason: String::new(),
        message: String::new(),
        restart_count: 0,
        hash: String::new(),
        log_path: String::new(),
    }
}

fn observed(containers: &[&str]) -> Observed {
    Observed {
        sandboxes: vec![sandbox(true)],
        containers: containers.iter().map(|n| container(n)).collect(),
        ..Default::default()
    }
}

fn text(actions: &[Action]) -> String {
    let one = |a: &Action| match a {
        Action::CreateSandbox { attempt } => format!("sandbox {attempt}"),
        Action::StopSandbox { id } => format!("stop {id}"),
        Action::RemoveSandbox { id } => format!("remove sandbox {id}"),
        Action::Kill { name, message, .. } => format!("kill {name} ({message})"),
        Action::Start {
            name,
            restart_count,
            ..
        } => format!("start {name} {restart_count}"),
        Action::Hold {
            name,
            until,
            waiting,
        } => format!("hold {name} {} {}", until.as_second(), waiting.message),
        Action::RemoveContainer { id } => format!("remove {id}"),
        Action::Finish => "finish".into(),
    };
    actions.iter().map(one).collect::<Vec<_>>().join("; ")
}

#[track_caller]
fn check(spec: Value, containers: &[&str], expect: &str) {
    assert_eq!(
        text(&decide(&pod(spec), &observed(containers), at(200))),
        expect
    );
}

#[test]
fn sandbox_first() {
    let p = pod(json!({"containers": [{"name": "a"}]}));
    assert_eq!(text(&decide(&p, &Observed::default(), at(1))), "sandbox 0");
    let mut lost = observed(&["a running"]);
    lost.sandboxes[0].ready = false;
    assert_eq!(
        text(&decide(&p, &lost, at(1))),
        "kill a (Pod sandbox changed, it will be killed and re-created.); sandbox 1"
    );
    let mut done = observed(&["a 0"]);
    done.sandboxes[0].ready = false;
    let never = pod(json!({"restartPolicy": "Never", "containers": [{"name": "a"}]}));
    assert_eq!(text(&decide(&never, &done, at(1))), "finish");
}

#[test]
fn restart_policies() {
    let spec = |policy: &str| json!({"restartPolicy": policy, "containers": [{"name": "a"}]});
    check(spec("Always"), &[], "start a 0");
    check(spec("Always"), &["a running"], "");
    check(spec("Always"), &["a 0"], "start a 1");
    check(spec("OnFailure"), &["a 0"], "finish");
    check(spec("OnFailure"), &["a 3"], "start a 1");
    check(spec("Never"), &["a 3"], "finish");
    check(spec("Never"), &["a created"], "start a 0");
}

#[test]
fn one_of_two_ended() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}, {"name": "b"}]});
    check(spec.clone(), &["a 0", "b running"], "");
    check(spec, &["a 0", "b 0"], "finish");
}

#[test]
fn init_containers_one_by_one() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]});
    check(spec.clone(), &[], "start i 0");
    check(spec.clone(), &["i running"], "");
    check(spec.clone(), &["i 0"], "start j 0");
    check(spec.clone(), &["i 0", "j 0"], "start a 0");
    check(spec.clone(), &["j 0"], "start a 0");
    check(spec.clone(), &["i 1"], "finish");
    check(spec, &["a running"], "");
}

#[test]
fn sidecars_stay_and_hold_back_until_started() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a"}],
        "initContainers": [{"name": "s", "restartPolicy": "Always", "startupProbe": {}}]});
    check(spec.clone(), &["s running"], "");
    let mut started = observed(&["s running"]);
    started.probes.insert(
        "id-s".into(),
        ProbeResults {
            startup: Some(true),
            ..Default::default()
        },
    );
    assert_eq!(
        text(&decide(&pod(spec.clone()), &started, at(1))),
        "start a 0"
    );
    check(spec.clone(), &["s 1", "a running"], "start s 1");
    check(spec, &["s running", "a 0"], "finish");
}

#[test]
fn crash_loop_holds_back() {
    let spec = json!({"containers": [{"name": "a"}]});
    let mut crashed = observed(&["a 1"]);
    crashed
        .backoff
        .insert("a".into(), Backoff::next(None, at(90), at(90)));
    assert_eq!(
        text(&decide(&pod(spec.clone()), &crashed, at(105))),
        "hold a 110 back-off 10s restarting failed container=a pod=p_n(u)"
    );
    assert_eq!(text(&decide(&pod(spec), &crashed, at(110))), "start a 1");
}

#[test]
fn failed_probes_kill() {
    let p = pod(json!({"containers": [{"name": "a"}]}));
    let mut sick = observed(&["a running"]);
    sick.probes.insert(
        "id-a".into(),
        ProbeResults {
            liveness: Some(false),
            ..Default::default()
        },
    );
    assert_eq!(
        text(&decide(&p, &sick, at(1))),
        "kill a (Container a failed liveness probe, will be restarted)"
    );
}

#[test]
fn changed_image_restarts() {
    let p = pod(json!({"containers": [{"name": "a", "image": "new"}]}));
    let mut old = observed(&["a running"]);
    old.containers[0].hash = "0".into();
    assert_eq!(
        text(&decide(&p, &old, at(1))),
        "kill a (Container a definition changed, will be restarted)"
    );
}

#[test]
fn the_dead_are_removed_but_one() {
    let spec = json!({"containers": [{"name": "a"}]});
    let mut many = observed(&["a running", "a 1", "a 2"]);
    many.containers[2].id = "oldest".into();
    assert_eq!(text(&decide(&pod(spec), &many, at(1))), "remove oldest");
}

#[test]
fn nothing_starts_in_a_terminating_pod() {
    let p = pod(json!({"containers": [{"name": "a"}]}));
    let ending = Observed {
        terminating: true,
        ..observed(&["a 1"])
    };
    assert_eq!(decide(&p, &ending, at(1)), vec![]);
}
