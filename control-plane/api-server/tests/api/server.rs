//! An API server over a store in memory, and how the tests ask it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use api_client::{Call, User, Verb};
use api_machinery::Status;
use api_server::{
    ApiServer, Authenticator, Authorizer, Config, Decision, Impersonation, MemoryStore,
    PeerCertificates, RequestInfo, Security, Settings, UserInfo,
};
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

struct Everyone;

#[async_trait]
impl Authenticator for Everyone {
    async fn authenticate(
        &self,
        _: &HeaderMap,
        _: Option<&PeerCertificates>,
    ) -> Result<Option<UserInfo>, Status> {
        Ok(Some(UserInfo {
            name: "admin".into(),
            ..UserInfo::default()
        }))
    }
}

impl Authorizer for Everyone {
    fn authorize(&self, _: &UserInfo, _: &RequestInfo) -> Decision {
        Decision::allow("")
    }
}

impl Impersonation for Everyone {
    fn impersonate(&self, _: &UserInfo, _: &HeaderMap) -> Result<Option<UserInfo>, Status> {
        Ok(None)
    }
}

pub struct Server {
    pub api: ApiServer,
    pub store: MemoryStore,
}

pub async fn start() -> Server {
    let store = MemoryStore::default();
    let config = Config {
        listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
        tls: None,
        kubelet_tls: None,
        encryption_key: None,
        audit: None,
        settings: Settings {
            advertise_address: SocketAddr::from(([192, 0, 2, 1], 6443)),
            service_cidr: (IpAddr::V4(Ipv4Addr::new(10, 43, 0, 0)), 16),
            version: "v1.36.0+test".into(),
            commit: String::new(),
        },
        extensions: Vec::new(),
        documents: Vec::new(),
        security: Box::new(|_| Security {
            authenticator: Arc::new(Everyone),
            authorizer: Arc::new(Everyone),
            impersonation: Arc::new(Everyone),
            admission: Vec::new(),
            virtual_resources: Vec::new(),
        }),
    };
    let api = ApiServer::start(config, Arc::new(store.clone()))
        .await
        .expect("start");
    Server { api, store }
}

impl Server {
    pub async fn raw(
        &self,
        verb: Verb,
        path: &str,
        content_type: &'static str,
        body: String,
    ) -> Result<Value, Status> {
        let call = Call {
            user: User::component("test"),
            verb,
            path: path.into(),
            content_type,
            body: Bytes::from(body),
            fence: None,
        };
        let answer = self.api.backend().call(call).await?;
        Ok(serde_json::from_slice(&answer).expect("JSON"))
    }

    pub async fn get(&self, path: &str) -> Result<Value, Status> {
        self.raw(Verb::Get, path, "application/json", String::new())
            .await
    }

    pub async fn post(&self, path: &str, object: &Value) -> Result<Value, Status> {
        self.raw(Verb::Post, path, "application/json", object.to_string())
            .await
    }

    pub async fn put(&self, path: &str, object: &Value) -> Result<Value, Status> {
        self.raw(Verb::Put, path, "application/json", object.to_string())
            .await
    }

    pub async fn merge(&self, path: &str, patch: &Value) -> Result<Value, Status> {
        self.raw(
            Verb::Patch,
            path,
            "application/merge-patch+json",
            patch.to_string(),
        )
        .await
    }

    pub async fn delete(&self, path: &str, options: &Value) -> Result<Value, Status> {
        let body = if options.is_null() {
            String::new()
        } else {
            options.to_string()
        };
        self.raw(Verb::Delete, path, "application/json", body).await
    }

    /// One HTTP/1.1 request; the stream stands behind the answer's head.
    pub async fn http(&self, request: &str) -> (String, BufReader<TcpStream>) {
        let mut stream = TcpStream::connect(self.api.address().expect("listens"))
            .await
            .expect("connect");
        stream.write_all(request.as_bytes()).await.expect("write");
        let mut reader = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(
                reader.read_line(&mut head).await.expect("read") > 0,
                "ended in its head: {head}"
            );
        }
        (head, reader)
    }
}
