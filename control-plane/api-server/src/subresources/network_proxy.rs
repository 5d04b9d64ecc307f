//! `pods/proxy` and `services/proxy`: HTTP to a pod, or to an endpoint of a service, through the API server.

use api_machinery::{ObjectExt, Status};
use serde_json::Value;

use crate::answer::{Answer, Context};
use crate::body::RequestBody;
use crate::core::Core;
use crate::forward::{Target, forward};
use crate::resource::Resource;

/// A name as it stands in the URL: `NAME`, `NAME:PORT` or `SCHEME:NAME:PORT`.
fn parts(text: &str) -> (&str, &str, &str) {
    let fields: Vec<&str> = text.split(':').collect();
    match fields.as_slice() {
        [name, port] => ("http", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => ("http", text, ""),
    }
}

pub(super) async fn pod(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let (scheme, name, port) = parts(&cx.info.name);
    let pod = object(core, cx, resource, name).await?;
    let ports = || {
        pod.list(&["spec", "containers"])
            .iter()
            .flat_map(|c| c.list(&["ports"]))
    };
    let port = match port.parse::<u16>() {
        Ok(port) => port,
        Err(_) if port.is_empty() => ports()
            .next()
            .and_then(|p| number(p, "containerPort"))
            .unwrap_or(80),
        Err(_) => ports()
            .find(|p| p.text(&["name"]) == port)
            .and_then(|p| number(p, "containerPort"))
            .ok_or_else(|| Status::service_unavailable(format!("no such port {port:?}")))?,
    };
    let host = pod
        .text(&["status", "podIP"])
        .parse()
        .map_err(|_| Status::service_unavailable(format!("pod {name} has no address")))?;
    send(
        cx,
        scheme,
        Target {
            host,
            port,
            tls: None,
            path: path(cx),
        },
        body,
    )
    .await
}

pub(super) async fn service(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    body: RequestBody,
) -> Result<Answer, Status> {
    let (scheme, name, port) = parts(&cx.info.name);
    let service = object(core, cx, resource, name).await?;
    let ports = service.list(&["spec", "ports"]);
    let chosen = ports.iter().find(|p| {
        port.is_empty() && ports.len() == 1
            || p.text(&["name"]) == port
            || port.parse() == Ok(p["port"].as_u64().unwrap_or(0))
    });
    let unavailable = |why: String| Status::service_unavailable(why);
    let chosen = chosen.ok_or_else(|| {
        unavailable(format!(
            "no service port {port:?} found for service {name:?}"
        ))
    })?;
    let endpoints = core
        .resources
        .preferred("", "endpoints")
        .ok_or_else(Status::no_such_path)?;
    let key = endpoints.key(&cx.info.namespace, name);
    let none =
        || Status::service_unavailable(format!("no endpoints available for service {name:?}"));
    let found = endpoints.stored("get")?.get(&key).ok_or_else(none)?.parse();
    let place = found.list(&["subsets"]).iter().find_map(|subset| {
        let port = subset
            .list(&["ports"])
            .iter()
            .find(|p| p.text(&["name"]) == chosen.text(&["name"]))?;
        let addresses = subset.list(&["addresses"]);
        let address = addresses.get(rand::random_range(0..addresses.len().max(1)))?;
        Some((address.text(&["ip"]).parse().ok()?, number(port, "port")?))
    });
    let (host, port) = place.ok_or_else(none)?;
    send(
        cx,
        scheme,
        Target {
            host,
            port,
            tls: None,
            path: path(cx),
        },
        body,
    )
    .await
}

async fn send(
    cx: &Context,
    scheme: &str,
    target: Target,
    body: RequestBody,
) -> Result<Answer, Status> {
    if scheme == "https" {
        return Err(Status::not_implemented("proxying to an https endpoint"));
    }
    forward(cx, target, body, false).await
}

async fn object(
    core: &Core,
    cx: &Context,
    resource: &Resource,
    name: &str,
) -> Result<Value, Status> {
    core.caches
        .catch_up()
        .await
        .map_err(crate::errors::from_feed)?;
    let key = resource.key(&cx.info.namespace, name);
    Ok(resource
        .stored("get")?
        .get(&key)
        .ok_or_else(|| resource.not_found(name))?
        .parse())
}

fn number(value: &Value, field: &str) -> Option<u16> {
    value.number(&[field]).and_then(|n| u16::try_from(n).ok())
}

fn path(cx: &Context) -> String {
    let rest = if cx.info.rest.is_empty() {
        "/"
    } else {
        &cx.info.rest
    };
    if cx.raw_query.is_empty() {
        rest.to_owned()
    } else {
        format!("{rest}?{}", cx.raw_query)
    }
}
