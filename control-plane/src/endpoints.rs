//! Where the Service `default/kubernetes` leads: to the masters that live, kept by the one that leads.
//!
//! Who lives is told from outside; it must not know how that is found out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use api_client::Client;
use api_machinery::Status;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointPort as SlicePort, EndpointSlice,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

const NAMESPACE: &str = "default";
const NAME: &str = "kubernetes";
const PORT: (&str, &str) = ("https", "TCP");
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
    let subsets = Some(subsets(masters));
    match client.get::<Endpoints>(Some(NAMESPACE), NAME).await {
        Ok(held) if held.subsets == subsets => {}
        Ok(held) => drop(client.update(&Endpoints { subsets, ..held }).await?),
        Err(status) if status.is_not_found() => {
            let label = ("endpointslice.kubernetes.io/skip-mirror", "true");
            let made = Endpoints {
                metadata: metadata(label),
                subsets,
            };
            drop(client.create(Some(NAMESPACE), &made).await?);
        }
        Err(status) => return Err(status),
    }
    let wanted = slice(masters);
    match client.get::<EndpointSlice>(Some(NAMESPACE), NAME).await {
        Ok(held) if held.endpoints == wanted.endpoints && held.ports == wanted.ports => Ok(()),
        Ok(held) => {
            let metadata = held.metadata;
            let wanted = EndpointSlice { metadata, ..wanted };
            client.update(&wanted).await.map(drop)
        }
        Err(status) if status.is_not_found() => {
            client.create(Some(NAMESPACE), &wanted).await.map(drop)
        }
        Err(status) => Err(status),
    }
}

fn metadata((label, value): (&str, &str)) -> ObjectMeta {
    ObjectMeta {
        name: Some(NAME.to_owned()),
        namespace: Some(NAMESPACE.to_owned()),
        labels: Some([(label.to_owned(), value.to_owned())].into()),
        ..ObjectMeta::default()
    }
}

/// One subset for each port.
fn subsets(masters: &[SocketAddr]) -> Vec<EndpointSubset> {
    let mut by_port = BTreeMap::<u16, Vec<IpAddr>>::new();
    for master in masters {
        by_port.entry(master.port()).or_default().push(master.ip());
    }
    let subset = |(port, addresses): (u16, Vec<IpAddr>)| EndpointSubset {
        addresses: Some(
            addresses
                .iter()
                .map(|ip| EndpointAddress {
                    ip: ip.to_string(),
                    ..EndpointAddress::default()
                })
                .collect(),
        ),
        ports: Some(vec![EndpointPort {
            name: Some(PORT.0.to_owned()),
            port: port.into(),
            protocol: Some(PORT.1.to_owned()),
            ..EndpointPort::default()
        }]),
        not_ready_addresses: None,
    };
    by_port.into_iter().map(subset).collect()
}

/// A slice has one list of ports: masters on another port than the first's are left out.
fn slice(masters: &[SocketAddr]) -> EndpointSlice {
    let port = masters.first().map_or(0, SocketAddr::port);
    let is_ipv4 = masters.first().is_none_or(SocketAddr::is_ipv4);
    let family = |master: &&SocketAddr| master.is_ipv4() == is_ipv4 && master.port() == port;
    let endpoint = |master: &SocketAddr| Endpoint {
        addresses: vec![master.ip().to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(true),
            ..EndpointConditions::default()
        }),
        ..Endpoint::default()
    };
    EndpointSlice {
        metadata: metadata(("kubernetes.io/service-name", NAME)),
        address_type: if is_ipv4 { "IPv4" } else { "IPv6" }.to_owned(),
        endpoints: Some(masters.iter().filter(family).map(endpoint).collect()),
        ports: Some(vec![SlicePort {
            name: Some(PORT.0.to_owned()),
            port: Some(port.into()),
            protocol: Some(PORT.1.to_owned()),
            ..SlicePort::default()
        }]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_use_are_told() {
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let check = |masters: &[&str], expect: &str| {
            let masters: Vec<SocketAddr> = masters.iter().map(|text| parse(text)).collect();
            let masters = advertised(masters.iter());
            let told: Vec<String> = slice(&masters)
                .endpoints
                .iter()
                .flatten()
                .flat_map(|endpoint| endpoint.addresses.clone())
                .collect();
            assert_eq!(told.join(" "), expect);
            let in_subsets: usize = subsets(&masters)
                .iter()
                .flat_map(|subset| subset.addresses.clone())
                .map(|addresses| addresses.len())
                .sum();
            assert_eq!(in_subsets, masters.len());
        };
        check(&["127.0.0.1:6443", "0.0.0.0:6443"], "");
        check(
            &["10.0.0.2:6443", "10.0.0.1:6443", "10.0.0.2:6443"],
            "10.0.0.1 10.0.0.2",
        );
        check(&["10.0.0.1:6443", "10.0.0.2:7443"], "10.0.0.1");
    }
}
