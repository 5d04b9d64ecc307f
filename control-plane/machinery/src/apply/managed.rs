//! `metadata.managedFields`: who owns which fields, read and written.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::field_set::FieldSet;

/// Who owns fields. Appliers keep their fields when they come with another version of the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) applies: bool,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

/// What a manager owns.
#[derive(Clone, Debug, Default)]
pub(super) struct Owned {
    pub(super) fields: FieldSet,
    pub(super) api_version: String,
    /// RFC 3339 in whole seconds.
    pub(super) time: Option<String>,
}

pub(super) type Managers = BTreeMap<Manager, Owned>;

impl Manager {
    pub(super) fn new(name: &str, applies: bool, api_version: &str, subresource: &str) -> Manager {
        Manager {
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            applies,
            api_version: if applies { "" } else { api_version }.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// As conflicts name the manager.
    pub(super) fn show(&self) -> String {
        let mut text = format!("{:?}", self.name);
        if !self.subresource.is_empty() {
            text += &format!(" with subresource {:?}", self.subresource);
        }
        if !self.applies {
            text += &format!(" using {}", self.api_version);
        }
        text
    }
}

/// Reads the list.
///
/// # Errors
/// What is wrong with an entry.
pub(super) fn decode(list: Option<&Value>) -> Result<Managers, String> {
    let mut managers = Managers::new();
    for (index, entry) in list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .enumerate()
    {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
        let applies = match text("operation") {
            "Apply" => true,
            "Update" => false,
            _ => return Err("operation must be `Apply` or `Update`".to_owned()),
        };
        if text("apiVersion").is_empty() {
            return Err("apiVersion must not be empty".to_owned());
        }
        match text("fieldsType") {
            "FieldsV1" => {}
            "" => {
                return Err(format!(
                    "missing fieldsType in managed fields entry {index}"
                ));
            }
            other => {
                return Err(format!(
                    "invalid fieldsType {other:?} in managed fields entry {index}"
                ));
            }
        }
        let manager = Manager {
            name: text("manager").to_owned(),
            ..Manager::new("", applies, text("apiVersion"), text("subresource"))
        };
        let owned = Owned {
            fields: entry
                .get("fieldsV1")
                .map_or(Ok(FieldSet::default()), FieldSet::from_json)?,
            api_version: text("apiVersion").to_owned(),
            time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
        };
        managers.insert(manager, owned);
    }
    Ok(managers)
}

/// Writes the list: appliers first, older entries first.
pub(super) fn encode(managers: &Managers) -> Option<Value> {
    let mut entries: Vec<(&Manager, &Owned)> = managers.iter().collect();
    entries.sort_by_key(|(manager, owned)| {
        let names = (&manager.name, &owned.api_version, &manager.subresource);
        (
            !manager.applies,
            owned.time.as_deref().unwrap_or_default(),
            names,
        )
    });
    let list: Vec<Value> = entries
        .into_iter()
        .map(|(manager, owned)| {
            let mut entry = json!({
                "manager": manager.name,
                "operation": if manager.applies { "Apply" } else { "Update" },
                "apiVersion": owned.api_version,
            });
            if let Some(time) = &owned.time {
                entry["time"] = time.as_str().into();
            }
            entry["fieldsType"] = "FieldsV1".into();
            entry["fieldsV1"] = owned.fields.to_json();
            if !manager.subresource.is_empty() {
                entry["subresource"] = manager.subresource.as_str().into();
            }
            entry
        })
        .collect();
    (!list.is_empty()).then_some(Value::Array(list))
}

/// Whether a client asks to forget all ownership: an empty list, or one empty entry.
pub(super) fn is_reset(list: Option<&Value>) -> bool {
    match list.and_then(Value::as_array).map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(|entry| entry.is_empty()),
        _ => false,
    }
}
