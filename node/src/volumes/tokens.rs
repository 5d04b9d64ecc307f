//! Service-account tokens for pods: asked of the API, bound to the pod, kept until most of their time is over.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use k8s_openapi::jiff;
use kube::api::{Api, PostParams};
use parking_lot::Mutex;

use crate::pod::spec;

/// How long a token is valid unless the pod asks for another time, in seconds.
const DEFAULT_EXPIRATION_SECONDS: i64 = 3600;
/// A token is renewed at this age even if it would last longer.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(24);
/// A failed renewal is tried again after this time, while the old token still holds.
const RETRY: SignedDuration = SignedDuration::from_secs(30);

/// Pod uid, audience, seconds.
type Key = (String, String, i64);

#[derive(Clone)]
struct Token {
    text: String,
    expires: Timestamp,
    refresh_at: Timestamp,
}

/// Tokens that pods hold now.
pub(crate) struct Tokens {
    client: kube::Client,
    held: Mutex<HashMap<Key, Token>>,
}

impl Tokens {
    pub(crate) fn new(client: kube::Client) -> Tokens {
        Tokens {
            client,
            held: Mutex::default(),
        }
    }

    pub(super) fn forget(&self, pod_uid: &str) {
        self.held.lock().retain(|(uid, _, _), _| uid != pod_uid);
    }

    /// A valid token and when to ask again.
    pub(super) async fn get(
        &self,
        pod: &Pod,
        projection: &ServiceAccountTokenProjection,
    ) -> Result<(String, Timestamp), String> {
        let audience = projection.audience.clone().unwrap_or_default();
        let seconds = projection
            .expiration_seconds
            .unwrap_or(DEFAULT_EXPIRATION_SECONDS);
        let key = (spec::uid(pod).to_string(), audience, seconds);
        let now = Timestamp::now();
        let held = self.held.lock().get(&key).cloned();
        if let Some(token) = held.as_ref().filter(|t| now < t.refresh_at) {
            return Ok((token.text.clone(), token.refresh_at));
        }
        match self.request(pod, &key.1, seconds, now).await {
            Ok(token) => {
                let answer = (token.text.clone(), token.refresh_at);
                self.held.lock().insert(key, token);
                Ok(answer)
            }
            Err(error) => match held.filter(|t| now < t.expires) {
                Some(token) => Ok((token.text, now + RETRY)),
                None => Err(format!(
                    "failed to fetch token: {}",
                    crate::api::message(&error)
                )),
            },
        }
    }

    async fn request(
        &self,
        pod: &Pod,
        audience: &str,
        seconds: i64,
        now: Timestamp,
    ) -> Result<Token, kube::Error> {
        let account = pod
            .spec
            .as_ref()
            .and_then(|s| s.service_account_name.clone())
            .unwrap_or_else(|| "default".into());
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), spec::namespace(pod));
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: (!audience.is_empty()).then(|| vec![audience.to_string()]),
                expiration_seconds: Some(seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".into()),
                    kind: Some("Pod".into()),
                    name: Some(spec::name(pod).into()),
                    uid: Some(spec::uid(pod).into()),
                }),
            }),
            ..Default::default()
        };
        let answer = api
            .create_token_request(&account, &PostParams::default(), &request)
            .await?;
        let status = answer.status.unwrap_or_default();
        let expires = status.expiration_timestamp.map_or(now, |t| t.0);
        let lifetime = expires.duration_since(now);
        // Renewed after four fifths of its time.
        let age = (lifetime * 4 / 5).min(MAX_AGE);
        Ok(Token {
            text: status.token.unwrap_or_default(),
            expires,
            refresh_at: now + age,
        })
    }
}
