//! api-server: the Kubernetes API over a revisioned store.
//!
//! One pipeline serves every kind: parse the URL, authenticate, limit, authorize, find the kind in the table, run the
//! verb. It knows the store only as the [`Store`] trait and neighbours in the process only as `api_client::Backend`.

mod authn;
mod authz;
mod identity;
mod pki;
mod plugin;
mod rbac;
mod request;
mod rules;
mod store;
#[cfg(test)]
mod testing;
mod tokens;

pub use authn::{Authentication, impersonated};
pub use authz::{AccessQuery, Authorization};
pub use identity::{Authenticator, Authorizer, Decision, PeerCertificates, UserInfo, Verdict};
pub use pki::{
    ClientTrust,     CertificateUsage, CsrSummary, KeyPairPem, NodeIdentity, Pki, PkiConfig, PkiError, SignRequest, Signer, kubeconfig, parse_csr,
};
pub use plugin::{Admission, Attributes, ObjectReader, Operation};
pub use rbac::{BootstrapObject, PolicyRule, Rbac, aggregated_rules, bootstrap_objects, reconciled};
pub use request::RequestInfo;
pub use rules::Rules;
pub use store::{
    Compare, Entry, KeyRange, Op, RangeResult, Revision, Store, StoreError, StoreEvent, StoreWatch, Txn,
    TxnResult, WatchBatch,
};
pub use tokens::{KeyError, ServiceAccountTokens, SigningKey, TokenConfig};
