//! Who may ask the agent: identity by client certificate or bearer token, permission by the cluster (SubjectAccessReview on `nodes`),
//! remembered for a while.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::State;
use axum::http::{Method, Request, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec,
};
use kube::api::{Api, PostParams};
use parking_lot::Mutex;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Context, PeerCertificates, refuse};

/// How long a permission holds, as the kubelet's.
const ALLOWED_FOR: Duration = Duration::from_secs(300);
/// How long a refusal holds, as the kubelet's.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// How long a token's review holds, as the kubelet's.
const TOKEN_FOR: Duration = Duration::from_secs(120);
/// Decisions that are remembered at a time.
const CACHE_LIMIT: usize = 1024;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct User {
    name: String,
    uid: String,
    groups: Vec<String>,
}

type Decisions<K, V> = Mutex<HashMap<K, (V, Instant)>>;

/// Asks the cluster, and remembers.
pub(super) struct Access {
    client: kube::Client,
    node: String,
    tokens: Decisions<String, Option<User>>,
    /// User, verb and subresource.
    permissions: Decisions<(User, &'static str, &'static str), bool>,
}

fn recall<K: std::hash::Hash + Eq, V: Clone>(cache: &Decisions<K, V>, key: &K) -> Option<V> {
    let cache = cache.lock();
    cache
        .get(key)
        .filter(|(_, until)| Instant::now() < *until)
        .map(|(value, _)| value.clone())
}

fn remember<K: std::hash::Hash + Eq, V>(
    cache: &Decisions<K, V>,
    key: K,
    value: V,
    limit: Duration,
) {
    let mut cache = cache.lock();
    if cache.len() >= CACHE_LIMIT {
        let now = Instant::now();
        cache.retain(|_, (_, until)| now < *until);
        if cache.len() >= CACHE_LIMIT {
            cache.clear();
        }
    }
    cache.insert(key, (value, Instant::now() + limit));
}

impl Access {
    pub(super) fn new(client: kube::Client, node: &str) -> Access {
        Access {
            client,
            node: node.into(),
            tokens: Mutex::default(),
            permissions: Mutex::default(),
        }
    }

    async fn by_token(&self, token: &str) -> Result<Option<User>, kube::Error> {
        use sha2::Digest;
        // Tokens are remembered by their hash: the memory holds no secret.
        let key = hex::encode(sha2::Sha256::digest(token));
        if let Some(known) = recall(&self.tokens, &key) {
            return Ok(known);
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: token.into(),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let status = api
            .create(&PostParams::default(), &review)
            .await?
            .status
            .unwrap_or_default();
        let user = status
            .user
            .filter(|_| status.authenticated == Some(true))
            .map(|u| User {
                name: u.username.unwrap_or_default(),
                uid: u.uid.unwrap_or_default(),
                groups: u.groups.unwrap_or_default(),
            });
        remember(&self.tokens, key, user.clone(), TOKEN_FOR);
        Ok(user)
    }

    async fn allowed(
        &self,
        user: &User,
        verb: &'static str,
        subresources: &[&'static str],
    ) -> Result<bool, kube::Error> {
        for subresource in subresources {
            let key = (user.clone(), verb, *subresource);
            let allowed = match recall(&self.permissions, &key) {
                Some(known) => known,
                None => {
                    let allowed = self.review(user, verb, subresource).await?;
                    remember(
                        &self.permissions,
                        key,
                        allowed,
                        if allowed { ALLOWED_FOR } else { REFUSED_FOR },
                    );
                    allowed
                }
            };
            if allowed {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn review(
        &self,
        user: &User,
        verb: &str,
        subresource: &str,
    ) -> Result<bool, kube::Error> {
        let attributes = ResourceAttributes {
            verb: Some(verb.into()),
            version: Some("v1".into()),
            resource: Some("nodes".into()),
            subresource: Some(subresource.into()),
            name: Some(self.node.clone()),
            ..Default::default()
        };
        let review = SubjectAccessReview {
            spec: SubjectAccessReviewSpec {
                user: Some(user.name.clone()),
                uid: (!user.uid.is_empty()).then(|| user.uid.clone()),
                groups: Some(user.groups.clone()),
                resource_attributes: Some(attributes),
                ..Default::default()
            },
            ..Default::default()
        };
        let api: Api<SubjectAccessReview> = Api::all(self.client.clone());
        let answer = api.create(&PostParams::default(), &review).await?;
        Ok(answer.status.is_some_and(|s| s.allowed))
    }
}

/// The name and groups in a certificate that the TLS layer has verified.
fn by_certificate(peer: &PeerCertificates) -> Option<User> {
    let (_, certificate) = X509Certificate::from_der(peer.0.first()?).ok()?;
    let subject = certificate.subject();
    let name = subject
        .iter_common_name()
        .next()?
        .as_str()
        .ok()?
        .to_string();
    let mut groups: Vec<String> = subject
        .iter_organization()
        .filter_map(|o| o.as_str().ok())
        .map(str::to_string)
        .collect();
    groups.push("system:authenticated".into());
    Some(User {
        name,
        uid: String::new(),
        groups,
    })
}

fn verb(method: &Method) -> &'static str {
    match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    }
}

/// The subresources of `nodes` that open a path, the narrowest first (KEP-2862).
fn subresources(path: &str) -> &'static [&'static str] {
    let begins = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}/"));
    match path {
        _ if begins("/stats") => &["stats"],
        _ if begins("/metrics") => &["metrics"],
        _ if begins("/logs") => &["log"],
        _ if begins("/healthz") => &["healthz", "proxy"],
        _ if begins("/pods") || begins("/runningpods") => &["pods", "proxy"],
        _ => &["proxy"],
    }
}

/// Lets a request through if the cluster allows it.
pub(super) async fn require(
    State(context): State<Context>,
    request: Request<Body>,
    next: Next,
) -> Response {
    let access: &Arc<Access> = &context.access;
    let peer = request
        .extensions()
        .get::<PeerCertificates>()
        .cloned()
        .unwrap_or_default();
    let header = request
        .headers()
        .get(http::header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok());
    let token = header
        .and_then(|v| v.strip_prefix("Bearer "))
        .map(|t| t.trim().to_string());
    let user = match (by_certificate(&peer), token) {
        (Some(user), _) => Ok(Some(user)),
        (None, Some(token)) => access.by_token(&token).await,
        (None, None) => Ok(None),
    };
    let user = match user {
        Ok(Some(user)) => user,
        Ok(None) => return refuse(StatusCode::UNAUTHORIZED, "Unauthorized"),
        Err(error) => {
            tracing::warn!(%error, "cannot review a token");
            return refuse(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
    };
    let (verb, needed) = (verb(request.method()), subresources(request.uri().path()));
    match access.allowed(&user, verb, needed).await {
        Ok(true) => next.run(request).await,
        Ok(false) => {
            let attributes = needed.join(" ");
            refuse(
                StatusCode::FORBIDDEN,
                format!(
                    "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{attributes}])",
                    user.name
                ),
            )
        }
        Err(error) => {
            let message = format!(
                "Authorization error (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                user.name,
                needed.join(" ")
            );
            tracing::warn!(%error, "{message}");
            refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_and_verbs() {
        assert_eq!(subresources("/exec/a/b/c"), ["proxy"]);
        assert_eq!(subresources("/stats/summary"), ["stats"]);
        assert_eq!(subresources("/statsx"), ["proxy"]);
        assert_eq!(subresources("/pods"), ["pods", "proxy"]);
        assert_eq!([verb(&Method::GET), verb(&Method::POST)], ["get", "create"]);
    }
}
