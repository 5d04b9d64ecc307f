//! api-server: the Kubernetes API over a revisioned store.
//!
//! One pipeline serves every kind: parse the URL, authenticate, limit, authorize, find the kind in the table, run the
//! verb. It knows the store only as the [`Store`] trait and neighbours in the process only as `api_client::Backend`.

mod admission;
mod allocation;
mod answer;
mod audit;
mod authn;
mod authz;
mod backend;
mod body;
mod bootstrap;
mod cache;
mod chain;
mod compaction;
mod compression;
mod conditions;
mod config;
mod conversion;
mod core;
mod decoding;
mod encryption;
mod errors;
mod flow;
mod forward;
mod identity;
mod listener;
mod memory;
mod metrics;
mod negotiate;
mod nonresource;
mod options;
mod ownership;
mod pipeline;
mod pki;
mod plugin;
mod prepare;
mod protobuf;
mod rbac;
mod render;
mod request;
mod resource;
mod reviews;
mod rules;
mod security;
mod selection;
mod server;
mod store;
mod strategy;
mod subresources;
mod table;
#[cfg(test)]
mod testing;
mod tokens;
mod ttl;
mod verbs;
mod virtuals;
mod write;
mod yaml;

pub use admission::{DefaultTolerations, keep_quotas};
pub use audit::{AuditConfig, AuditError};
pub use config::{Config, Document, Inside, Security, Settings};
pub use encryption::{ENCRYPTION_KEY_FILE, EncryptionError};
pub use identity::{
    Authenticator, Authorizer, Decision, Impersonation, PeerCertificates, UserInfo, Verdict,
};
#[doc(hidden)]
pub use memory::MemoryStore;
pub use pki::{
    CA_RETIRED, CertificateUsage, CsrSummary, KeyPairFiles, KeyPairPem, NodeIdentity, Pki,
    PkiConfig, PkiError, ROTATED_FILES, Rotated, RotatedFiles, RotationError, RotationStatus,
    RotationStep, SignRequest, Signer, StoreTls, certificates, kubeconfig, parse_csr, rotate,
};
pub use plugin::{
    Admission, Attributes, Extension, ExtensionRequest, ObjectReader, Operation, VirtualRequest,
    VirtualResource,
};
pub use rbac::aggregate_cluster_roles;
pub use request::RequestInfo;
pub use rules::Rules;
pub use security::{SecurityConfig, SecurityParts, ensure_security_objects};
pub use server::{ApiServer, StartError};
pub use store::{
    Compare, Entry, KeyRange, Op, RangeResult, Revision, Store, StoreError, StoreEvent, StoreWatch,
    Txn, TxnResult, WatchBatch,
};
pub use tokens::{KeyError, TokenKeys};
