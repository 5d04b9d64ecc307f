//! The API as programs meet it: a kube-rs client (typed objects, patches, watches) against a control plane without a node.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{
    Api, DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use kube::core::response::StatusSummary;
use kube::{Client, Error, ResourceExt};
use serde_json::{Value, json};
use tests::{Cluster, eventually_async};

/// What a machine with two busy cores may take for anything in here.
const PATIENCE: Duration = Duration::from_secs(60);

fn config_map(name: &str, data: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            labels: Some(BTreeMap::from([("app".to_owned(), "test".to_owned())])),
            ..Default::default()
        },
        data: Some(BTreeMap::from([("data".to_owned(), data.to_owned())])),
        ..Default::default()
    }
}

/// The reason of an error that the API answered.
fn reason<T>(answer: Result<T, Error>) -> Result<(u16, String)> {
    match answer {
        Err(Error::Api(status)) => Ok((status.code, status.reason.clone())),
        Err(error) => Err(error.into()),
        Ok(_) => anyhow::bail!("it did not fail"),
    }
}

#[tokio::test]
async fn typed_objects_make_the_round() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let client = cluster.client().await?;
    let version = client.apiserver_version().await?;
    ensure!(version.git_version.starts_with("v1.36"), "{version:?}");
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let made = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await?;
    ensure!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let again = api
        .create(&PostParams::default(), &config_map("a", "1"))
        .await;
    ensure!(reason(again)? == (409, "AlreadyExists".to_owned()));

    let mut changed = made.clone();
    changed.data = config_map("a", "2").data;
    let replaced = api.replace("a", &PostParams::default(), &changed).await?;
    ensure!(replaced.resource_version() != made.resource_version());
    let stale = api.replace("a", &PostParams::default(), &changed).await;
    ensure!(reason(stale)? == (409, "Conflict".to_owned()));

    let merge = Patch::Merge(json!({"data": {"data": null, "more": "3"}}));
    let merged = api.patch("a", &PatchParams::default(), &merge).await?;
    ensure!(merged.data == Some(BTreeMap::from([("more".to_owned(), "3".to_owned())])));
    let applied = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"x": "y"},
    }));
    let parameters = PatchParams::apply("round");
    api.patch("b", &parameters, &applied).await?;
    let owned = api.get_metadata("b").await?;
    ensure!(
        owned.managed_fields()[0].manager.as_deref() == Some("round"),
        "{owned:?}"
    );

    paged_list(&api).await?;
    let missing = api.get("missing").await;
    ensure!(reason(missing)? == (404, "NotFound".to_owned()));
    let answer = api.delete("b", &DeleteParams::default()).await?;
    let status = answer.right().context("a Status")?;
    ensure!(status.status == Some(StatusSummary::Success), "{status:?}");
    let selected = ListParams::default().labels("app=test");
    api.delete_collection(&DeleteParams::default(), &selected)
        .await?;
    ensure!(api.list(&selected).await?.items.is_empty());
    namespace_goes_with_its_content(&client).await
}

async fn paged_list(api: &Api<ConfigMap>) -> Result<()> {
    for number in 0..25 {
        api.create(
            &PostParams::default(),
            &config_map(&format!("page-{number:02}"), ""),
        )
        .await?;
    }
    let mut names = Vec::new();
    let mut parameters = ListParams::default().labels("app=test").limit(10);
    loop {
        let page = api.list(&parameters).await?;
        names.extend(page.items.iter().map(ResourceExt::name_any));
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => break,
        }
    }
    let mut sorted = names.clone();
    sorted.sort();
    sorted.dedup();
    ensure!(names.len() == 26 && names == sorted, "{names:?}");
    Ok(())
}

async fn namespace_goes_with_its_content(client: &Client) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some("doomed".to_owned()),
            ..Default::default()
        },
        ..Default::default()
    };
    namespaces
        .create(&PostParams::default(), &namespace)
        .await?;
    let inside: Api<ConfigMap> = Api::namespaced(client.clone(), "doomed");
    inside
        .create(&PostParams::default(), &config_map("a", "1"))
        .await?;
    namespaces
        .delete("doomed", &DeleteParams::default())
        .await?;
    eventually_async("the namespace is gone", PATIENCE, || async {
        ensure!(namespaces.get_opt("doomed").await?.is_none());
        Ok(())
    })
    .await
}

/// A watch that is cut by kill -9 goes on from the last resourceVersion that it saw: nothing twice, nothing lost.
#[tokio::test]
async fn watches_resume_after_kill() -> Result<()> {
    let mut cluster = Cluster::control_plane()?;
    let client = cluster.client().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let parameters = WatchParams::default().labels("app=test");
    let mut version = api
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version
        .context("a list has a version")?;
    let mut seen = Vec::new();
    for round in 0..3 {
        let watch = api.watch(&parameters, &version).await?;
        let mut watch = Box::pin(watch);
        for number in 0..5 {
            let name = format!("object-{round}-{number}");
            api.create(&PostParams::default(), &config_map(&name, ""))
                .await?;
        }
        // Three of five are seen before the server dies: the others must come after its return.
        for _ in 0..3 {
            let event = tokio::time::timeout(PATIENCE, watch.try_next()).await??;
            note(event.context("the watch goes on")?, &mut version, &mut seen)?;
        }
        cluster.kill()?;
        drop(watch);
        cluster.spawn()?;
        cluster.wait_ready()?;
        let mut watch = Box::pin(api.watch(&parameters, &version).await?);
        for _ in 3..5 {
            let event = tokio::time::timeout(PATIENCE, watch.try_next()).await??;
            note(event.context("the watch goes on")?, &mut version, &mut seen)?;
        }
    }
    let expected: Vec<String> = (0..3)
        .flat_map(|round| (0..5).map(move |number| format!("object-{round}-{number}")))
        .collect();
    ensure!(seen == expected, "{seen:?}");
    Ok(())
}

fn note(event: WatchEvent<ConfigMap>, version: &mut String, seen: &mut Vec<String>) -> Result<()> {
    match event {
        WatchEvent::Added(object) => {
            *version = object.resource_version().context("a version")?;
            seen.push(object.name_any());
        }
        WatchEvent::Bookmark(bookmark) => *version = bookmark.metadata.resource_version,
        other => anyhow::bail!("{other:?}"),
    }
    Ok(())
}

/// Watchers that never read hold up nobody, and the server holds no more than a bounded share for each.
#[tokio::test]
async fn slow_clients_cost_little() -> Result<()> {
    const SLOW: usize = 30;
    /// Each update brings this much to every watcher.
    const UPDATE_BYTES: usize = 200 << 10;
    const UPDATES: usize = 300;
    /// Far less than what 30 queues of 60 MB each would hold.
    const GROWTH_LIMIT_MIB: u64 = 256;
    let cluster = Cluster::control_plane()?;
    let pid = cluster.pid().context("running")?;
    let client = cluster.client().await?;
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    api.create(&PostParams::default(), &config_map("busy", ""))
        .await?;
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        // A connection of its own: what is not read fills its socket.
        let api: Api<ConfigMap> = Api::default_namespaced(cluster.client().await?);
        slow.push(api.watch(&WatchParams::default(), "0").await?);
    }
    let before = resident_mib(pid)?;
    for number in 0..UPDATES {
        let letter = char::from(b'a' + u8::try_from(number % 26)?);
        let patch = json!({"data": {"data": letter.to_string().repeat(UPDATE_BYTES)}});
        api.patch("busy", &PatchParams::default(), &Patch::Merge(patch))
            .await?;
    }
    let after = resident_mib(pid)?;
    ensure!(
        after < before + GROWTH_LIMIT_MIB,
        "{before} MiB before, {after} MiB after"
    );
    drop(slow);
    ensure!(api.get("busy").await?.data.is_some());
    Ok(())
}

fn resident_mib(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib >> 10)
}

/// A body in a language that the API does not speak, and an answer asked for in one.
#[tokio::test]
async fn media_types_that_nobody_speaks_are_named() -> Result<()> {
    let cluster = Cluster::control_plane()?;
    let client = cluster.client().await?;
    let ask = async |method: &str, content: &str, accept: &str, body: &str| -> Result<Value> {
        let request = kube::client::Body::from(body.as_bytes().to_vec());
        let request = http::Request::builder()
            .method(method)
            .uri("/api/v1/namespaces/default/configmaps")
            .header("content-type", content)
            .header("accept", accept)
            .body(request)?;
        let response = client.send(request).await?;
        let bytes = response.into_body().collect_bytes().await?;
        Ok(serde_json::from_slice(&bytes)?)
    };
    let status = ask("POST", "text/plain", "application/json", "a").await?;
    ensure!(
        status["code"] == 415 && status["reason"] == "UnsupportedMediaType",
        "{status}"
    );
    let status = ask("GET", "application/json", "text/csv", "").await?;
    ensure!(
        status["code"] == 406 && status["reason"] == "NotAcceptable",
        "{status}"
    );
    let status = ask("POST", "application/json", "application/json", "{").await?;
    ensure!(
        status["code"] == 400 && status["reason"] == "BadRequest",
        "{status}"
    );
    Ok(())
}
