//! What a write must change besides its object, in the same transaction: addresses and ports of Services.
//!
//! An address is taken by creating its IPAddress object, a node port by creating a key of its own; two Services that want
//! the same cannot both commit. Kinds other than Service have no companions.

mod addresses;
mod ports;

pub(crate) use addresses::first_address;

use api_machinery::{FieldError, ObjectExt, ObjectMutExt, Status};
use serde_json::Value;

use crate::core::Core;
use crate::resource::Resource;
use crate::write::Companions;

/// Writes that lost a race for an address or port are planned again this often at most.
pub(crate) const PLANS_LIMIT: usize = 16;

/// Fills in what is allocated and says what must be written beside the object. `attempt` grows when a race was lost.
///
/// # Errors
/// 422 for addresses and ports that cannot be had, 500 where none is free.
pub(crate) fn plan(
    core: &Core,
    resource: &Resource,
    old: Option<&Value>,
    new: Option<&mut Value>,
    attempt: usize,
) -> Result<Companions, Status> {
    let mut companions = Companions::default();
    if resource.is("", "services") {
        match (old, new) {
            (old, Some(new)) => {
                addresses::plan(core, old, new, &mut companions)?;
                ports::plan(core, old, new, attempt, &mut companions)?;
            }
            (Some(old), None) => {
                addresses::release(old, &mut companions);
                ports::release(old, &[], &mut companions);
            }
            (None, None) => {}
        }
    }
    Ok(companions)
}

/// Gives a changed Service the addresses and ports that it had and does not name, as upstream does for clients that
/// never learnt of them.
pub(crate) fn carry_over(resource: &Resource, object: &mut Value, old: &Value) {
    if !resource.is("", "services") {
        return;
    }
    if needs_address(object) && needs_address(old) {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if object.field(&["spec", field]).is_none()
                && let Some(value) = old.field(&["spec", field])
            {
                object.set(&["spec", field], value.clone());
            }
        }
    }
    ports::carry_over(object, old);
}

fn service_type(service: &Value) -> &str {
    match service.text(&["spec", "type"]) {
        "" => "ClusterIP",
        other => other,
    }
}

/// All Services but aliases have an address (or state that they want none).
fn needs_address(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

fn invalid(service: &Value, error: FieldError) -> Status {
    Status::invalid("", "Service", service.name(), &[error])
}
