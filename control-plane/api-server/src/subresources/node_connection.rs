//! What the API server asks of a node's agent: logs, exec, attach, port-forward, and anything through `nodes/proxy`.

use std::net::IpAddr;

use api_machinery::{ObjectExt, Reason, Status};
use http::StatusCode;
use serde_json::Value;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::forward::{Target, forward};
use crate::request::{RequestInfo, query_pairs};
use crate::resource::Resource;
use crate::verbs;

/// The port of an agent that does not say.
const DEFAULT_PORT: u16 = 10250;
/// In which order a node's addresses are tried.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
/// Parameters of `log` that the agent understands.
const LOG_PARAMETERS: [&str; 9] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
    "stream",
    "insecureSkipTLSVerifyBackend",
];
/// Parameters of `exec` and `attach`: the API's name, the agent's name.
const STREAM_PARAMETERS: [(&str, &str); 4] = [
    ("stdin", "input"),
    ("stdout", "output"),
    ("stderr", "error"),
    ("tty", "tty"),
];

pub(super) async fn log(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let pod = verbs::latest(core, cx, resource).await?.parse();
    let container = container(&pod, parameter(cx, "container").as_deref())?;
    if pod.text(&["spec", "nodeName"]).is_empty() {
        return Ok(Answer::text(StatusCode::OK, ""));
    }
    let pairs = query_pairs(&cx.raw_query)
        .filter(|(key, _)| LOG_PARAMETERS.contains(&key.as_ref()))
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect::<Vec<_>>();
    let path = path("containerLogs", &pod, Some(&container), &pairs);
    let mut answer = forward(cx, target(core, &pod, path)?, body, true).await?;
    answer
        .headers
        .insert(http::header::CONTENT_TYPE, crate::answer::TEXT);
    Ok(answer)
}

pub(super) async fn stream(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    may_open(core, cx)?;
    let pod = verbs::latest(core, cx, resource).await?.parse();
    let verb = cx.info.subresource.as_str();
    let phase = pod.text(&["status", "phase"]);
    if matches!(phase, "Succeeded" | "Failed") {
        return Err(Status::bad_request(format!(
            "cannot {verb} into a container in a completed pod; current phase is {phase}"
        )));
    }
    scheduled(&pod)?;
    let container = container(&pod, parameter(cx, "container").as_deref())?;
    let mut pairs = Vec::new();
    for (key, value) in query_pairs(&cx.raw_query) {
        let own = STREAM_PARAMETERS.iter().find(|(api, _)| *api == key);
        match own {
            Some((_, agent)) if matches!(value.as_ref(), "true" | "1" | "") => {
                pairs.push(((*agent).to_owned(), "1".to_owned()));
            }
            None if key == "command" => pairs.push(("command".into(), value.into_owned())),
            _ => {}
        }
    }
    let path = path(verb, &pod, Some(&container), &pairs);
    forward(cx, target(core, &pod, path)?, body, false).await
}

pub(super) async fn port_forward(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    may_open(core, cx)?;
    let pod = verbs::latest(core, cx, resource).await?.parse();
    scheduled(&pod)?;
    let pairs: Vec<(String, String)> = query_pairs(&cx.raw_query)
        .filter(|(key, _)| key == "ports")
        .map(|(_, value)| ("port".to_owned(), value.into_owned()))
        .collect();
    let path = path("portForward", &pod, None, &pairs);
    forward(cx, target(core, &pod, path)?, body, false).await
}

pub(super) async fn node_proxy(
    core: &Core,
    cx: &Context,
    _: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let (name, port) = match cx.info.name.split_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (cx.info.name.as_str(), None),
    };
    let query = if cx.raw_query.is_empty() {
        String::new()
    } else {
        format!("?{}", cx.raw_query)
    };
    let rest = if cx.info.rest.is_empty() {
        "/"
    } else {
        &cx.info.rest
    };
    let mut target = node_target(core, name, format!("{rest}{query}"))?;
    target.port = port.unwrap_or(target.port);
    forward(cx, target, body, false).await
}

/// A stream that is opened by a GET (WebSocket) needs the same right as one that is opened by a POST.
fn may_open(core: &Core, cx: &Context) -> Result<(), Status> {
    let info = RequestInfo {
        verb: "create",
        ..cx.info.clone()
    };
    core.authorize(&cx.user, &info)
}

fn parameter(cx: &Context, key: &str) -> Option<String> {
    query_pairs(&cx.raw_query)
        .find(|(k, _)| k == key)
        .map(|(_, v)| v.into_owned())
        .filter(|v| !v.is_empty())
}

fn scheduled(pod: &Value) -> Result<(), Status> {
    match pod.text(&["spec", "nodeName"]) {
        "" => Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            pod.name()
        ))),
        _ => Ok(()),
    }
}

/// The container that is meant: the named one, or the only one.
fn container(pod: &Value, named: Option<&str>) -> Result<String, Status> {
    let names = |field: &str| -> Vec<String> {
        pod.list(&["spec", field])
            .iter()
            .map(|c| c.text(&["name"]).to_owned())
            .collect()
    };
    let (main, init, ephemeral) = (
        names("containers"),
        names("initContainers"),
        names("ephemeralContainers"),
    );
    if let Some(named) = named {
        if [&main, &init, &ephemeral]
            .iter()
            .any(|list| list.iter().any(|n| n == named))
        {
            return Ok(named.to_owned());
        }
        return Err(Status::bad_request(format!(
            "container {named} is not valid for pod {}",
            pod.name()
        )));
    }
    if let [only] = main.as_slice() {
        return Ok(only.clone());
    }
    let mut message = format!(
        "a container name must be specified for pod {}, choose one of: [{}]",
        pod.name(),
        main.join(" ")
    );
    if !init.is_empty() {
        message.push_str(&format!(
            " or one of the init containers: [{}]",
            init.join(" ")
        ));
    }
    Err(Status::bad_request(message))
}

fn path(verb: &str, pod: &Value, container: Option<&str>, pairs: &[(String, String)]) -> String {
    let mut path = format!("/{verb}/{}/{}", pod.namespace(), pod.name());
    if let Some(container) = container {
        path.push('/');
        path.push_str(container);
    }
    for (i, (key, value)) in pairs.iter().enumerate() {
        path.push(if i == 0 { '?' } else { '&' });
        path.push_str(key);
        path.push('=');
        encode_into(value, &mut path);
    }
    path
}

fn encode_into(text: &str, out: &mut String) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(byte as char)
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
}

fn target(core: &Core, pod: &Value, path: String) -> Result<Target, Status> {
    node_target(core, pod.text(&["spec", "nodeName"]), path)
}

fn node_target(core: &Core, name: &str, path: String) -> Result<Target, Status> {
    let nodes = core
        .resources
        .preferred("", "nodes")
        .ok_or_else(Status::no_such_path)?;
    let node = nodes
        .stored("get")?
        .get(name)
        .ok_or_else(|| nodes.not_found(name))?
        .parse();
    let tls = core.kubelet_tls.clone().ok_or_else(|| {
        Status::service_unavailable("this server has no certificate for connections to nodes")
    })?;
    let host = address(&node).ok_or_else(|| {
        let message = format!("no preferred addresses found; known addresses: [] of node {name}");
        Status::new(500, Reason::InternalError, message)
    })?;
    let port = node.number(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]);
    let port = port
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0)
        .unwrap_or(DEFAULT_PORT);
    Ok(Target {
        host,
        port,
        tls: Some(tls),
        path,
    })
}

fn address(node: &Value) -> Option<IpAddr> {
    let addresses = node.list(&["status", "addresses"]);
    ADDRESS_TYPES.iter().find_map(|wanted| {
        let of_type = addresses.iter().filter(|a| a.text(&["type"]) == *wanted);
        of_type
            .filter_map(|a| a.text(&["address"]).parse().ok())
            .next()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_are_the_agents() {
        let pod = json!({"metadata": {"namespace": "a", "name": "b"}});
        let pairs = [
            ("command".to_owned(), "sh -c".to_owned()),
            ("tty".to_owned(), "1".to_owned()),
        ];
        assert_eq!(
            path("exec", &pod, Some("c"), &pairs),
            "/exec/a/b/c?command=sh%20-c&tty=1"
        );
    }

    #[test]
    fn the_only_container_needs_no_name() {
        let one = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}]}});
        assert_eq!(container(&one, None).expect("container"), "c");
        assert_eq!(
            container(&one, Some("x")).expect_err("unknown").message,
            "container x is not valid for pod p"
        );
        let two = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c"}, {"name": "d"}]}});
        assert_eq!(
            container(&two, None).expect_err("two").message,
            "a container name must be specified for pod p, choose one of: [c d]"
        );
    }
}
