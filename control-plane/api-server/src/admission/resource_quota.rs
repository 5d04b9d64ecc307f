//! ResourceQuota: what a namespace's quotas still allow is counted before an object is made.
//!
//! The count stands in each quota's status and is written with its resourceVersion, so that two servers never hand out
//! the same remainder. Runs last: what other plugins refuse must not be counted.

mod controller;
mod count;
mod scope;
mod usage;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use api_client::{Client, Verb};
use api_machinery::{ObjectExt, Quantity, Status};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::forbid;
use super::pod_resources::{ResourceList, add, quantities};
use crate::plugin::{Admission, Attributes, ObjectReader, Operation};

pub use controller::keep_quotas;

/// Namespaces that are counted at the same time; the lock only spares conflicts, the write decides.
const LOCKS: usize = 64;
/// Writes of one quota that may meet a change by someone else.
const ATTEMPTS: usize = 5;
/// Never counted, as upstream.
const IGNORED: [(&str, &str); 3] = [
    ("", "events"),
    ("events.k8s.io", "events"),
    ("", "bindings"),
];

pub(super) struct ResourceQuota {
    reader: Arc<dyn ObjectReader>,
    client: Client,
    locks: Box<[Mutex<()>]>,
    hasher: RandomState,
}

impl ResourceQuota {
    pub(super) fn new(reader: Arc<dyn ObjectReader>, client: Client) -> Self {
        let locks = std::iter::repeat_with(Mutex::default).take(LOCKS).collect();
        Self {
            reader,
            client,
            locks,
            hasher: RandomState::new(),
        }
    }

    /// The namespace's quotas as they are now.
    async fn quotas(&self, namespace: &str) -> Result<Vec<Arc<Value>>, Status> {
        // One read waits until the cache holds every write; the list is then as new.
        self.reader
            .get_latest("", "resourcequotas", namespace, "")
            .await?;
        Ok(self.reader.list("", "resourcequotas", Some(namespace)))
    }

    async fn charge(&self, attributes: &Attributes) -> Result<(), Status> {
        for attempt in 1.. {
            let quotas = self.quotas(&attributes.namespace).await?;
            match self.try_charge(attributes, &quotas).await {
                Err(status) if status.is_conflict() && attempt < ATTEMPTS => {}
                answer => return answer,
            }
        }
        unreachable!("the loop ends with an answer")
    }

    async fn try_charge(
        &self,
        attributes: &Attributes,
        quotas: &[Arc<Value>],
    ) -> Result<(), Status> {
        let Some(object) = &attributes.object else {
            return Ok(());
        };
        let mut changed = Vec::new();
        for quota in quotas {
            let Some(used) = self.check(attributes, object, quota)? else {
                continue;
            };
            let mut quota = (**quota).clone();
            quota["status"]["hard"] = quota["spec"]["hard"].clone();
            quota["status"]["used"] = to_value(&used);
            changed.push(quota);
        }
        if attributes.dry_run {
            return Ok(());
        }
        for quota in changed {
            self.write(&quota).await?;
        }
        Ok(())
    }

    async fn write(&self, quota: &Value) -> Result<(), Status> {
        let path = format!(
            "/api/v1/namespaces/{}/resourcequotas/{}/status",
            quota.namespace(),
            quota.name()
        );
        self.client
            .raw(
                Verb::Put,
                path,
                "application/json",
                quota.to_string().into(),
            )
            .await
            .map(drop)
    }

    /// What the quota's usage becomes; none if the write does not change it.
    fn check(
        &self,
        attributes: &Attributes,
        object: &Value,
        quota: &Value,
    ) -> Result<Option<ResourceList>, Status> {
        let (group, resource) = (attributes.group.as_str(), attributes.resource.as_str());
        let hard = quantities(quota.field(&["spec", "hard"]));
        let counts = |name: &String| usage::counts(group, resource, name);
        let tracked: Vec<&String> = hard.keys().filter(|name| counts(name)).collect();
        if tracked.is_empty() || !scope::matches(quota, group, resource, object) {
            return Ok(None);
        }
        if (group, resource) == ("", "pods")
            && let Some(missing) = usage::missing_requests(object, &tracked)
        {
            return Err(forbid(
                attributes,
                format!("failed quota: {}: {missing}", quota.name()),
            ));
        }
        let mut delta = usage::of(group, resource, object);
        delta.retain(|name, _| hard.contains_key(name));
        if let Some(old) = attributes
            .old
            .as_deref()
            .filter(|old| scope::matches(quota, group, resource, old))
        {
            for (name, amount) in usage::of(group, resource, old) {
                if let Some(new) = delta.get_mut(&name) {
                    *new = (*new - amount).max(Quantity::ZERO);
                }
            }
        }
        delta.retain(|_, amount| !amount.is_zero());
        if delta.is_empty() {
            return Ok(None);
        }
        let used = quantities(quota.field(&["status", "used"]));
        if hard.keys().all(|name| used.contains_key(name))
            && let Ok(used) = exceed(quota, &hard, used, &delta)
        {
            return Ok(Some(used));
        }
        // Not counted yet, or counted before something went away: count anew before refusing.
        let used = count::usage(&*self.reader, quota);
        exceed(quota, &hard, used, &delta)
            .map(Some)
            .map_err(|reason| forbid(attributes, reason))
    }
}

/// The new usage, or the sentence about what does not fit.
fn exceed(
    quota: &Value,
    hard: &ResourceList,
    mut used: ResourceList,
    delta: &ResourceList,
) -> Result<ResourceList, String> {
    let before = used.clone();
    add(&mut used, delta);
    let over: Vec<&String> = delta
        .keys()
        .filter(|name| used.get(*name) > hard.get(*name))
        .collect();
    if over.is_empty() {
        return Ok(used);
    }
    let show = |list: &ResourceList| {
        let amount = |name: &&String| list.get(*name).copied().unwrap_or(Quantity::ZERO);
        over.iter()
            .map(|name| format!("{name}={}", amount(name)))
            .collect::<Vec<_>>()
            .join(",")
    };
    Err(format!(
        "exceeded quota: {}, requested: {}, used: {}, limited: {}",
        quota.name(),
        show(delta),
        show(&before),
        show(hard)
    ))
}

fn to_value(list: &ResourceList) -> Value {
    list.iter()
        .map(|(name, amount)| (name.clone(), json!(amount.to_string())))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, attributes: &Attributes) -> bool {
        let resource = (attributes.group.as_str(), attributes.resource.as_str());
        if attributes.namespace.is_empty()
            || IGNORED.contains(&resource)
            || attributes.group.ends_with("authorization.k8s.io")
        {
            return false;
        }
        match (attributes.operation, attributes.subresource.as_str()) {
            (Operation::Create, "") => true,
            (Operation::Update, "resize") => resource == ("", "pods"),
            (Operation::Update, "") if resource == ("", "pods") => {
                // Nothing else that counts can change in a running pod.
                let deadline = |pod: Option<&Value>| {
                    pod.and_then(|p| p.number(&["spec", "activeDeadlineSeconds"]))
                        .is_some()
                };
                deadline(attributes.object.as_ref()) != deadline(attributes.old.as_deref())
            }
            (Operation::Update, "") => {
                matches!(resource, ("", "services" | "persistentvolumeclaims"))
            }
            _ => false,
        }
    }

    async fn validate(&self, attributes: &Attributes) -> Result<(), Status> {
        if self
            .reader
            .list("", "resourcequotas", Some(&attributes.namespace))
            .is_empty()
        {
            return Ok(());
        }
        let lock = self.hasher.hash_one(&attributes.namespace) as usize % LOCKS;
        let _one = self.locks[lock].lock().await;
        self.charge(attributes).await
    }
}
