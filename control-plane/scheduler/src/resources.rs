//! Amounts of resources, in the units that the scheduler counts in.

use std::collections::BTreeMap;

use api_machinery::Quantity;
use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

/// What a container without a CPU request is counted with when nodes are scored (100 millicores).
const DEFAULT_CPU_MILLI: i64 = 100;
/// What a container without a memory request is counted with when nodes are scored (200 MB).
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// CPU in thousandths of a core, memory and storage in bytes, the rest in units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    pub cpu_milli: i64,
    pub memory: i64,
    pub ephemeral_storage: i64,
    /// Pods: the number that a node takes, or 1 for a pod.
    pub pods: i64,
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    pub fn from_map(map: &BTreeMap<String, ApiQuantity>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in map {
            resources.set(name, quantity);
        }
        resources
    }

    fn set(&mut self, name: &str, quantity: &ApiQuantity) {
        // A quantity that does not parse cannot be in the store; it counts as nothing.
        let Ok(parsed) = Quantity::parse(&quantity.0) else {
            return;
        };
        match name {
            "cpu" => self.cpu_milli = clamp(parsed.milli_value()),
            "memory" => self.memory = clamp(parsed.value()),
            "ephemeral-storage" => self.ephemeral_storage = clamp(parsed.value()),
            "pods" => self.pods = clamp(parsed.value()),
            _ => {
                self.others.insert(name.to_owned(), clamp(parsed.value()));
            }
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_add(b));
    }

    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, |a, b| a.saturating_sub(b));
    }

    /// The larger of both, resource by resource.
    pub fn raise_to(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: fn(i64, i64) -> i64) {
        self.cpu_milli = with(self.cpu_milli, other.cpu_milli);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = with(self.pods, other.pods);
        for (name, amount) in &other.others {
            let mine = self.others.entry(name.clone()).or_default();
            *mine = with(*mine, *amount);
        }
    }
}

fn clamp(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

fn requests_of(container: &Container) -> Resources {
    let requests = container
        .resources
        .as_ref()
        .and_then(|r| r.requests.as_ref());
    requests.map(Resources::from_map).unwrap_or_default()
}

/// What a container counts with in scoring: defaults stand in for what it does not ask for.
fn scored_requests_of(container: &Container) -> Resources {
    let mut requests = requests_of(container);
    let asks = |name: &str| {
        let map = container
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref());
        map.is_some_and(|m| m.contains_key(name))
    };
    if !asks("cpu") {
        requests.cpu_milli = DEFAULT_CPU_MILLI;
    }
    if !asks("memory") {
        requests.memory = DEFAULT_MEMORY;
    }
    requests
}

/// What a whole pod asks for: its containers and sidecars together, or its largest init step where that is more.
fn total(spec: &PodSpec, of: fn(&Container) -> Resources) -> Resources {
    let mut running = Resources::default();
    spec.containers.iter().for_each(|c| running.add(&of(c)));
    let mut sidecars = Resources::default();
    let mut largest_step = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let mut step = of(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&step);
            step = sidecars.clone();
        } else {
            step.add(&sidecars);
        }
        largest_step.raise_to(&step);
    }
    running.add(&sidecars);
    running.raise_to(&largest_step);
    if let Some(requests) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let whole = Resources::from_map(requests);
        if requests.contains_key("cpu") {
            running.cpu_milli = whole.cpu_milli;
        }
        if requests.contains_key("memory") {
            running.memory = whole.memory;
        }
    }
    if let Some(overhead) = &spec.overhead {
        running.add(&Resources::from_map(overhead));
    }
    running.pods = 1;
    running
}

/// What must be free on a node for the pod to fit.
pub fn pod_requests(spec: &PodSpec) -> Resources {
    total(spec, requests_of)
}

/// What the pod counts with when nodes are compared.
pub fn pod_scored_requests(spec: &PodSpec) -> Resources {
    total(spec, scored_requests_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(spec: serde_json::Value, cpu_milli: i64, memory: i64) {
        let spec: PodSpec = serde_json::from_value(spec).unwrap();
        let requests = pod_requests(&spec);
        assert_eq!((requests.cpu_milli, requests.memory), (cpu_milli, memory));
    }

    #[test]
    fn a_pod_asks_for_the_larger_of_running_and_starting() {
        let container = |cpu: &str, memory: &str| json!({"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}});
        check(
            json!({"containers": [container("100m", "1Ki"), container("1", "1Ki")]}),
            1100,
            2048,
        );
        check(
            json!({"containers": [container("100m", "1Ki")], "initContainers": [container("500m", "0")]}),
            500,
            1024,
        );
        let mut sidecar = container("200m", "1Ki");
        sidecar["restartPolicy"] = json!("Always");
        check(
            json!({"containers": [container("100m", "1Ki")], "initContainers": [sidecar, container("500m", "0")]}),
            700,
            2048,
        );
    }

    #[test]
    fn scoring_counts_containers_without_requests() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}]})).unwrap();
        assert_eq!(pod_requests(&spec).cpu_milli, 0);
        assert_eq!(pod_scored_requests(&spec).cpu_milli, 100);
    }
}
