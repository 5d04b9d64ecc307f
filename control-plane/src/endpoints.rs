//! Where the Service `default/kubernetes` leads: to the masters that live, kept by the one that leads.
//!
//! Who lives is told from outside; it must not know how that is found out.

mod objects;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use api_client::{Client, DeleteOptions, Verb};
use api_machinery::Status;
use bytes::Bytes;
use k8s_openapi::List;
use k8s_openapi::api::core::v1::Endpoints;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices\
                      ?labelSelector=kubernetes.io%2Fservice-name%3Dkubernetes";
/// The wait before a write that failed is tried again.
const RETRY: Duration = Duration::from_millis(300);

/// The addresses at which living masters' APIs answer, by the masters' names.
pub type LivingMasters = watch::Receiver<BTreeMap<String, SocketAddr>>;

/// Keeps both kinds of endpoints until `term` ends.
pub async fn keep(client: Client, mut living: LivingMasters, term: CancellationToken) {
    let work = async {
        loop {
            let masters = advertised(living.borrow_and_update().values());
            if !masters.is_empty()
                && let Err(status) = write(&client, &masters).await
            {
                tracing::warn!(%status, "the endpoints of the masters were not written");
                tokio::time::sleep(RETRY).await;
                continue;
            }
            if living.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    };
    tokio::select! {
        () = work => {}
        () = term.cancelled() => {}
    }
}

/// Endpoints may not be addresses that only one machine can use.
fn advertised<'a>(masters: impl Iterator<Item = &'a SocketAddr>) -> Vec<SocketAddr> {
    let mut masters: Vec<SocketAddr> = masters.copied().collect();
    masters.retain(|master| !master.ip().is_loopback() && !master.ip().is_unspecified());
    masters.sort();
    masters.dedup();
    masters
}

async fn write(client: &Client, masters: &[SocketAddr]) -> Result<(), Status> {
    write_endpoints(client, masters).await?;
    write_slices(client, masters).await
}

async fn write_endpoints(client: &Client, masters: &[SocketAddr]) -> Result<(), Status> {
    let subsets = Some(objects::subsets(masters));
    match client.get::<Endpoints>(Some(NAMESPACE), NAME).await {
        Ok(held) if held.subsets == subsets => Ok(()),
        Ok(held) => {
            let wanted = Endpoints { subsets, ..held };
            client.update(&wanted).await.map(drop)
        }
        Err(status) if status.is_not_found() => {
            let label = ("endpointslice.kubernetes.io/skip-mirror", "true");
            let made = Endpoints {
                metadata: objects::metadata(NAME.to_owned(), &[label]),
                subsets,
            };
            client.create(Some(NAMESPACE), &made).await.map(drop)
        }
        Err(status) => Err(status),
    }
}

async fn write_slices(client: &Client, masters: &[SocketAddr]) -> Result<(), Status> {
    let listed = client
        .raw(
            Verb::Get,
            SLICES.to_owned(),
            "application/json",
            Bytes::new(),
        )
        .await?;
    let held: List<EndpointSlice> =
        serde_json::from_slice(&listed).map_err(Status::internal_error)?;
    let wanted = objects::slices(masters, &held.items);
    for slice in &wanted {
        let same_name = |held: &&EndpointSlice| held.metadata.name == slice.metadata.name;
        match held.items.iter().find(same_name) {
            None => drop(client.create(Some(NAMESPACE), slice).await?),
            Some(held) if held.address_type != slice.address_type => {
                delete(client, &held.metadata).await?;
                client.create(Some(NAMESPACE), slice).await?;
            }
            Some(held) if held.endpoints == slice.endpoints && held.ports == slice.ports => {}
            Some(held) => {
                let metadata = held.metadata.clone();
                let slice = slice.clone();
                client.update(&EndpointSlice { metadata, ..slice }).await?;
            }
        }
    }
    // Last: what is in none of them for a moment could not be reached.
    for left in objects::left_over(&held.items, &wanted) {
        delete(client, &left.metadata).await?;
    }
    Ok(())
}

async fn delete(client: &Client, slice: &ObjectMeta) -> Result<(), Status> {
    let name = slice.name.as_deref().unwrap_or_default();
    let options = DeleteOptions::default();
    match client
        .delete::<EndpointSlice>(Some(NAMESPACE), name, &options)
        .await
    {
        Err(status) if status.is_not_found() => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_use_are_told() {
        let check = |masters: &[&str], expect: &[&str]| {
            let parse = |text: &&str| text.parse::<SocketAddr>().expect("an address");
            let masters: Vec<SocketAddr> = masters.iter().map(parse).collect();
            let expect: Vec<SocketAddr> = expect.iter().map(parse).collect();
            assert_eq!(advertised(masters.iter()), expect);
        };
        check(&["127.0.0.1:6443", "0.0.0.0:6443", "[::1]:6443"], &[]);
        check(
            &["10.0.0.2:6443", "10.0.0.1:6443", "10.0.0.2:6443"],
            &["10.0.0.1:6443", "10.0.0.2:6443"],
        );
        check(
            &["10.0.0.1:7443", "10.0.0.1:6443"],
            &["10.0.0.1:6443", "10.0.0.1:7443"],
        );
    }
}
