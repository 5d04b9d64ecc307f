//! The metadata of an object in JSON bytes, borrowed from them, without making anything of the rest.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::ObjectExt;
use crate::selector::LabelLookup;

/// Text that borrows from the input where it has no escapes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Str<'a>(Cow<'a, str>);

impl Str<'_> {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn into_owned(self) -> String {
        self.0.into_owned()
    }
}

impl<'a> From<&'a str> for Str<'a> {
    fn from(text: &'a str) -> Self {
        Str(Cow::Borrowed(text))
    }
}

impl Deref for Str<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Str<'_> {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Str<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StrVisitor;
        impl<'de> Visitor<'de> for StrVisitor {
            type Value = Str<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Str<'de>, E> {
                Ok(Str(Cow::Owned(text.to_owned())))
            }

            fn visit_unit<E>(self) -> Result<Str<'de>, E> {
                Ok(Str::default())
            }

            fn visit_none<E>(self) -> Result<Str<'de>, E> {
                Ok(Str::default())
            }
        }
        deserializer.deserialize_any(StrVisitor)
    }
}

/// An object of which only type and metadata were read.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartialObject<'a> {
    #[serde(borrow)]
    pub api_version: Str<'a>,
    #[serde(borrow)]
    pub kind: Str<'a>,
    #[serde(borrow, deserialize_with = "nullable")]
    pub metadata: PartialMeta<'a>,
}

impl<'a> PartialObject<'a> {
    /// Reads type and metadata and skips the rest.
    ///
    /// # Errors
    /// When the bytes are no JSON object with well-typed metadata.
    pub fn from_json(bytes: &'a [u8]) -> Result<PartialObject<'a>, serde_json::Error> {
        serde_json::from_slice(bytes)
    }
}

/// What the machinery reads of `ObjectMeta`; empty where it is not set.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PartialMeta<'a> {
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub generate_name: Str<'a>,
    #[serde(borrow)]
    pub namespace: Str<'a>,
    #[serde(borrow)]
    pub uid: Str<'a>,
    #[serde(borrow)]
    pub resource_version: Str<'a>,
    #[serde(deserialize_with = "nullable")]
    pub generation: i64,
    #[serde(borrow)]
    pub creation_timestamp: Str<'a>,
    #[serde(borrow)]
    pub deletion_timestamp: Option<Str<'a>>,
    pub deletion_grace_period_seconds: Option<i64>,
    #[serde(borrow, deserialize_with = "pairs")]
    pub labels: Vec<(Str<'a>, Str<'a>)>,
    #[serde(borrow, deserialize_with = "pairs")]
    pub annotations: Vec<(Str<'a>, Str<'a>)>,
    #[serde(borrow, deserialize_with = "nullable")]
    pub finalizers: Vec<Str<'a>>,
    #[serde(borrow, deserialize_with = "nullable")]
    pub owner_references: Vec<OwnerReference<'a>>,
}

/// One of an object's owners.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference<'a> {
    #[serde(borrow)]
    pub api_version: Str<'a>,
    #[serde(borrow)]
    pub kind: Str<'a>,
    #[serde(borrow)]
    pub name: Str<'a>,
    #[serde(borrow)]
    pub uid: Str<'a>,
    #[serde(deserialize_with = "nullable")]
    pub controller: bool,
    #[serde(deserialize_with = "nullable")]
    pub block_owner_deletion: bool,
}

impl<'a> OwnerReference<'a> {
    /// The same view of a reference that is parsed already.
    pub fn of(owner: &'a Value) -> OwnerReference<'a> {
        OwnerReference {
            api_version: owner.text(&["apiVersion"]).into(),
            kind: owner.text(&["kind"]).into(),
            name: owner.text(&["name"]).into(),
            uid: owner.text(&["uid"]).into(),
            controller: owner.flag(&["controller"]),
            block_owner_deletion: owner.flag(&["blockOwnerDeletion"]),
        }
    }
}

impl PartialMeta<'_> {
    /// The owner that controls the object, if one does.
    pub fn controller(&self) -> Option<&OwnerReference<'_>> {
        self.owner_references.iter().find(|owner| owner.controller)
    }

    pub fn is_being_deleted(&self) -> bool {
        self.deletion_timestamp.is_some()
    }

    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations
            .iter()
            .find(|(k, _)| k.as_str() == key)
            .map(|(_, v)| v.as_str())
    }
}

/// The labels of the object.
impl LabelLookup for PartialMeta<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_slice().label(key)
    }
}

fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn pairs<'de: 'a, 'a, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<(Str<'a>, Str<'a>)>, D::Error> {
    struct PairsVisitor;
    impl<'de> Visitor<'de> for PairsVisitor {
        type Value = Vec<(Str<'de>, Str<'de>)>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map of strings")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut pairs = Vec::with_capacity(map.size_hint().unwrap_or(0));
            while let Some(pair) = map.next_entry()? {
                pairs.push(pair);
            }
            Ok(pairs)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(PairsVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_is_read_and_the_rest_skipped() {
        let bytes = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","labels":{"app":"a\"b"},"finalizers":null,
            "ownerReferences":[{"kind":"ReplicaSet","uid":"u","controller":true}],"generation":3,"deletionTimestamp":null},
            "spec":{"containers":[{"name":"x"}]}}"#;
        let object = PartialObject::from_json(bytes).expect("valid");
        assert_eq!(
            (object.kind.as_str(), object.metadata.name.as_str()),
            ("Pod", "web")
        );
        assert!(matches!(object.metadata.name.0, Cow::Borrowed(_)));
        assert_eq!(object.metadata.label("app"), Some("a\"b"));
        assert_eq!(
            object.metadata.controller().map(|o| o.uid.as_str()),
            Some("u")
        );
        assert!(!object.metadata.is_being_deleted());
        assert_eq!(object.metadata.generation, 3);

        let value: Value = serde_json::from_slice(bytes).expect("valid");
        let same = PartialMeta::of(&value);
        assert_eq!(same.labels, object.metadata.labels);
        assert!(PartialObject::from_json(br#"{"metadata":{"name":3}}"#).is_err());
        assert!(PartialObject::from_json(br#"{"metadata":null}"#).is_ok());
    }
}
