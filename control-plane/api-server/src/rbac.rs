//! Role-based access control: who may do what, by roles and bindings, as Kubernetes' RBAC (`rbac.authorization.k8s.io/v1`).
//!
//! Reads roles and bindings from the watch caches only. Evaluation is pure over a compiled form; what the cluster starts
//! with is data (`bootstrap_policy.txt`). Knows nothing of HTTP, tokens or certificates.

mod aggregation;
mod bootstrap;
mod escalation;
mod policy;
mod reconcile;
mod rule;

pub use aggregation::{aggregate_cluster_roles, aggregated_rules};
pub use bootstrap::{BootstrapObject, bootstrap_objects};
pub(crate) use escalation::RbacEscalation;
pub use policy::Rbac;
pub use reconcile::reconciled;
pub use rule::PolicyRule;
