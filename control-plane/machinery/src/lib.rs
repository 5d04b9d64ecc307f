//! api-machinery: what Kubernetes' API is made of, as pure data and functions.
//!
//! Kinds, discovery, errors, selectors, quantities, names, tables, schemas. Nothing here does I/O, reads a clock or draws a
//! random number: whatever changes is handed in. Must not know the store, HTTP libraries or who calls.

mod discovery;
mod kind;
mod kinds;
mod quantity;
mod schema;
mod status;

pub use discovery::{
    AGGREGATED_V2, AGGREGATED_V2BETA1, ApiGroup, ApiGroupDiscoveryList, ApiGroupList, ApiResourceList, ApiVersions,
    aggregated_api, aggregated_apis, api_group, api_group_list, api_resource_list, api_versions, storage_version_hash,
};
pub use kind::{
    FieldRef, FieldSelectorErrors, Kind, KindConflict, KindTable, STORAGE_ROOT, SelectableField, Subresource, Text, Verb,
    Verbs, group_version,
};
pub use quantity::{Quantity, QuantityError, QuantityFormat, canonical_quantity};
pub use schema::{
    DecodeError, Definition, DefinitionForm, DefinitionKind, Field, Form, List, ListId, ListType, Map, MapId, MapType,
    ParsedJson, Schema, StrictError, SyntaxError, TimeError, Type, TypeId, apply_defaults, decode, parse_json, parse_time,
    strict_decoding_message,
};
pub use status::{
    DeniedRequest, FieldError, FieldErrorType, FieldPath, OBJECT_MODIFIED, Reason, Status, StatusCause, StatusDetails,
    StatusResult, aggregate_message, go_json, go_quote,
};
