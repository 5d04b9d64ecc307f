//! api-machinery: what Kubernetes' API is made of, as pure data and functions.
//!
//! Kinds, discovery, errors, selectors, quantities, names, tables, schemas. Nothing here does I/O, reads a clock or draws a
//! random number: whatever changes is handed in. Must not know the store, HTTP libraries or who calls.

mod apply;
mod columns;
mod discovery;
mod intstr;
mod kind;
mod kinds;
mod meta;
mod names;
mod openapi;
mod patch;
mod protobuf;
mod quantity;
mod schema;
mod selector;
mod status;
mod strategic_merge;
mod table;
mod time;

pub use apply::{
    ApplyError, Conflict, FieldSet, PathElement, Scalar, Writer, apply, reset_fields,
    update_managed_fields,
};
pub use columns::ColumnSet;
pub use discovery::{
    AGGREGATED_V2, AGGREGATED_V2BETA1, ApiGroup, ApiGroupDiscoveryList, ApiGroupList,
    ApiResourceList, ApiVersions, aggregated_api, aggregated_apis, api_group, api_group_list,
    api_resource_list, api_versions, storage_version_hash,
};
pub use intstr::{IntOrString, IntOrStringError};
pub use kind::{
    FieldRef, FieldSelectorErrors, Kind, KindConflict, KindTable, STORAGE_ROOT, SelectableField,
    Subresource, Text, Verb, Verbs, group_version,
};
pub use meta::{
    ObjectExt, ObjectMutExt, OwnerReference, PartialMeta, PartialObject, Str,
    TOTAL_ANNOTATION_SIZE_LIMIT, controller_of, parse_resource_version, validate_meta_create,
    validate_meta_update,
};
pub use names::{
    GENERATED_SUFFIX_LENGTH, MAX_GENERATED_BASE_LENGTH, MAX_LABEL_LENGTH, MAX_SUBDOMAIN_LENGTH,
    config_map_key_errors, dns_1035_label_errors, dns_label_errors, dns_subdomain_errors,
    env_var_name_errors, generate_name, http_header_name_errors, label_value_errors,
    path_segment_errors, port_name_errors, port_number_errors, qualified_name_errors,
    wildcard_subdomain_errors,
};
pub use openapi::{
    openapi_v2, openapi_v2_protobuf, openapi_v3_hash, openapi_v3_index, write_openapi_v3,
};
pub use patch::{JsonPatch, MAX_JSON_PATCH_OPERATIONS, apply_merge_patch, parse_merge_patch};
pub use protobuf::{
    PROTOBUF_MAGIC, PROTOBUF_MEDIA_TYPE, ProtobufError, decode_protobuf, is_protobuf,
};
pub use quantity::{Quantity, QuantityError, QuantityFormat, canonical_quantity};
pub use schema::{
    DecodeError, Definition, DefinitionForm, DefinitionKind, Field, Form, List, ListId, ListType,
    Map, MapId, MapType, ParsedJson, Schema, StrictError, SyntaxError, TimeError, Type, TypeId,
    apply_defaults, decode, parse_json, parse_time, strict_decoding_message,
};
pub use selector::{
    FieldMatcher, FieldSelector, FieldTerm, LabelLookup, LabelSelector, Operator, Requirement,
    SelectorError,
};
pub use status::{
    DeniedRequest, FieldError, FieldErrorType, FieldPath, OBJECT_MODIFIED, Reason, Status,
    StatusCause, StatusDetails, StatusResult, aggregate_message, go_json, go_quote,
};
pub use strategic_merge::{StrategicMergeError, go_value, strategic_merge};
pub use table::{
    Column, IncludeObject, ListMeta, META_V1, Table, TableRow, columns_of, partial_object_metadata,
    scale_columns,
};
pub use time::{Timestamp, format_micro_time, format_time, human_duration, human_seconds};
