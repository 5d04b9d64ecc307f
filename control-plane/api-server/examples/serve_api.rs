//! An API server over a store in memory, on plain HTTP, that lets everyone do everything: to try clients against.
//!
//! `cargo run -p api-server --example serve_api [ADDRESS]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use api_machinery::Status;
use api_server::{
    ApiServer, Authenticator, Authorizer, Config, Decision, Impersonation, MemoryStore,
    PeerCertificates, RequestInfo, Security, Settings, UserInfo,
};
use async_trait::async_trait;
use http::HeaderMap;

struct Everyone;

#[async_trait]
impl Authenticator for Everyone {
    async fn authenticate(
        &self,
        _headers: &HeaderMap,
        _peer: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status> {
        Ok(Some(UserInfo {
            name: "admin".into(),
            groups: vec!["system:masters".into()],
            ..UserInfo::default()
        }))
    }
}

impl Authorizer for Everyone {
    fn authorize(&self, _user: &UserInfo, _info: &RequestInfo) -> Decision {
        Decision::allow("")
    }
}

impl Impersonation for Everyone {
    fn impersonate(
        &self,
        _user: &UserInfo,
        _headers: &HeaderMap,
    ) -> Result<Option<UserInfo>, Status> {
        Ok(None)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listen: SocketAddr = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:8080".into())
        .parse()?;
    let config = Config {
        listen: Some(listen),
        tls: None,
        kubelet_tls: None,
        extensions: Vec::new(),
        encryption_key: None,
        audit: None,
        documents: Vec::new(),
        settings: Settings {
            advertise_address: SocketAddr::from(([192, 0, 2, 1], listen.port())),
            service_cidr: (IpAddr::V4(Ipv4Addr::new(10, 43, 0, 0)), 16),
            version: "v1.36.0+xebec".into(),
            commit: String::new(),
        },
        security: Box::new(|_| Security {
            authenticator: Arc::new(Everyone),
            authorizer: Arc::new(Everyone),
            impersonation: Arc::new(Everyone),
            admission: Vec::new(),
            virtual_resources: Vec::new(),
        }),
    };
    let server = ApiServer::start(config, Arc::new(MemoryStore::default())).await?;
    println!("serving on {listen}, {} objects", server.object_count());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
