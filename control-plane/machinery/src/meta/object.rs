//! Reading and writing the metadata of an object that is a JSON value.

use serde_json::{Map, Value};

use super::{PartialMeta, Str};

/// Metadata of an object, empty where it is not set.
pub trait ObjectExt {
    /// The value at a chain of fields.
    fn field(&self, path: &[&str]) -> Option<&Value>;

    /// The text at a chain of fields; empty where it is no text.
    fn text(&self, path: &[&str]) -> &str {
        self.field(path).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number at a chain of fields.
    fn number(&self, path: &[&str]) -> Option<i64> {
        self.field(path).and_then(Value::as_i64)
    }

    /// The flag at a chain of fields; `false` where it is not set.
    fn flag(&self, path: &[&str]) -> bool {
        self.field(path)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    /// The elements of the list at a chain of fields; none where it is no list.
    fn list(&self, path: &[&str]) -> &[Value] {
        self.field(path)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    /// The map at a chain of fields.
    fn map(&self, path: &[&str]) -> Option<&Map<String, Value>> {
        self.field(path).and_then(Value::as_object)
    }

    fn api_version(&self) -> &str {
        self.text(&["apiVersion"])
    }

    fn kind(&self) -> &str {
        self.text(&["kind"])
    }

    fn name(&self) -> &str {
        self.text(&["metadata", "name"])
    }

    fn namespace(&self) -> &str {
        self.text(&["metadata", "namespace"])
    }

    fn uid(&self) -> &str {
        self.text(&["metadata", "uid"])
    }

    fn resource_version(&self) -> &str {
        self.text(&["metadata", "resourceVersion"])
    }

    fn generation(&self) -> i64 {
        self.number(&["metadata", "generation"]).unwrap_or_default()
    }

    fn labels(&self) -> Option<&Map<String, Value>> {
        self.map(&["metadata", "labels"])
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels()?.get(key)?.as_str()
    }

    fn annotations(&self) -> Option<&Map<String, Value>> {
        self.map(&["metadata", "annotations"])
    }

    fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations()?.get(key)?.as_str()
    }

    fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.list(&["metadata", "finalizers"])
            .iter()
            .filter_map(Value::as_str)
    }

    fn owner_references(&self) -> &[Value] {
        self.list(&["metadata", "ownerReferences"])
    }

    fn creation_timestamp(&self) -> &str {
        self.text(&["metadata", "creationTimestamp"])
    }

    fn deletion_timestamp(&self) -> Option<&str> {
        Some(self.text(&["metadata", "deletionTimestamp"])).filter(|t| !t.is_empty())
    }

    fn is_being_deleted(&self) -> bool {
        self.deletion_timestamp().is_some()
    }
}

impl ObjectExt for Value {
    fn field(&self, path: &[&str]) -> Option<&Value> {
        path.iter()
            .try_fold(self, |value, step| value.get(step))
            .filter(|value| !value.is_null())
    }
}

/// Changing an object that is a JSON value.
pub trait ObjectMutExt {
    /// The map at a chain of fields, made where it is missing. What stands there and is no map is replaced.
    fn map_mut(&mut self, path: &[&str]) -> &mut Map<String, Value>;

    /// Sets the last field of a chain.
    fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        if let Some((last, parents)) = path.split_last() {
            self.map_mut(parents)
                .insert((*last).to_owned(), value.into());
        }
    }

    /// Sets the last field of a chain unless it has a value. Nothing is made where a parent is missing.
    fn set_default(&mut self, path: &[&str], value: impl Into<Value>);

    /// Takes the last field of a chain out.
    fn remove_field(&mut self, path: &[&str]) -> Option<Value>;
}

impl ObjectMutExt for Value {
    fn map_mut(&mut self, path: &[&str]) -> &mut Map<String, Value> {
        if !self.is_object() {
            *self = Value::Object(Map::new());
        }
        let map = self.as_object_mut().expect("made an object above");
        match path.split_first() {
            None => map,
            Some((first, rest)) => map
                .entry(*first)
                .or_insert_with(|| Value::Object(Map::new()))
                .map_mut(rest),
        }
    }

    fn set_default(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, parents)) = path.split_last() else {
            return;
        };
        let parent = parents
            .iter()
            .try_fold(self, |value, step| value.get_mut(step));
        if let Some(map) = parent.and_then(Value::as_object_mut) {
            let slot = map.entry(*last).or_insert(Value::Null);
            if slot.is_null() {
                *slot = value.into();
            }
        }
    }

    fn remove_field(&mut self, path: &[&str]) -> Option<Value> {
        let (last, parents) = path.split_last()?;
        let parent = parents
            .iter()
            .try_fold(self, |value, step| value.get_mut(step))?;
        parent.as_object_mut()?.shift_remove(*last)
    }
}

/// The owner that controls an object, if one does.
pub fn controller_of(object: &Value) -> Option<&Value> {
    object
        .owner_references()
        .iter()
        .find(|owner| owner.flag(&["controller"]))
}

impl<'a> PartialMeta<'a> {
    /// The same view of an object that is parsed already.
    pub fn of(object: &'a Value) -> PartialMeta<'a> {
        let text = |field: &str| Str::from(object.text(&["metadata", field]));
        let pairs = |map: Option<&'a Map<String, Value>>| {
            let entries = map.into_iter().flatten();
            entries
                .map(|(k, v)| {
                    (
                        Str::from(k.as_str()),
                        Str::from(v.as_str().unwrap_or_default()),
                    )
                })
                .collect()
        };
        PartialMeta {
            name: text("name"),
            generate_name: text("generateName"),
            namespace: text("namespace"),
            uid: text("uid"),
            resource_version: text("resourceVersion"),
            generation: object.generation(),
            creation_timestamp: text("creationTimestamp"),
            deletion_timestamp: object.deletion_timestamp().map(Str::from),
            deletion_grace_period_seconds: object
                .number(&["metadata", "deletionGracePeriodSeconds"]),
            labels: pairs(object.labels()),
            annotations: pairs(object.annotations()),
            finalizers: object.finalizers().map(Str::from).collect(),
            owner_references: object
                .owner_references()
                .iter()
                .map(super::OwnerReference::of)
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_set_and_taken() {
        let mut object = json!({"spec": {"type": null}});
        object.set(&["metadata", "labels", "app"], "web");
        object.set_default(&["spec", "type"], "ClusterIP");
        object.set_default(&["spec", "type"], "NodePort");
        object.set_default(&["status", "phase"], "Pending");
        assert_eq!(
            object,
            json!({"spec": {"type": "ClusterIP"}, "metadata": {"labels": {"app": "web"}}})
        );
        assert_eq!(
            object.remove_field(&["spec", "type"]),
            Some(json!("ClusterIP"))
        );
        assert_eq!(object.remove_field(&["spec", "type"]), None);
        assert_eq!(object.label("app"), Some("web"));
    }
}
