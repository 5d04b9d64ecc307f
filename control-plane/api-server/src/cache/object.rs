//! One object at one revision, as the bytes that a client gets.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

use super::scan;
use crate::store::{Entry, Revision};

/// What the resourceVersion is written as.
const MEMBER: &[u8] = b"\"resourceVersion\":\"";

/// Key and value.
type Label = (Box<str>, Box<str>);

/// An object of the cache. Everything but its bytes is worked out when first asked for.
#[derive(Debug)]
pub(crate) struct CachedObject {
    /// The key below the kind's prefix: `NAMESPACE/NAME`, or `NAME` for cluster-scoped kinds.
    pub key: Arc<str>,
    /// The object in its storage version, resourceVersion included.
    pub json: Bytes,
    /// Where the digits of the resourceVersion lie in `json`.
    version_at: (u32, u8),
    pub revision: Revision,
    labels: OnceLock<Box<[Label]>>,
    value: OnceLock<Arc<Value>>,
}

impl CachedObject {
    /// `None` if the value is not an object with metadata.
    pub fn new(key: Arc<str>, entry: &Entry) -> Option<Self> {
        let (json, version_at) = splice(&entry.value, entry.mod_revision)?;
        Some(Self {
            key,
            json,
            version_at,
            revision: entry.mod_revision,
            labels: OnceLock::new(),
            value: OnceLock::new(),
        })
    }

    /// Empty for cluster-scoped kinds.
    pub fn namespace(&self) -> &str {
        self.key
            .split_once('/')
            .map_or("", |(namespace, _)| namespace)
    }

    pub fn name(&self) -> &str {
        self.key.split_once('/').map_or(&self.key, |(_, name)| name)
    }

    /// The object's bytes with another resourceVersion: its last state as a delete event shows it.
    pub fn json_at(&self, revision: Revision) -> Bytes {
        if revision == self.revision {
            return self.json.clone();
        }
        let (start, len) = (self.version_at.0 as usize, self.version_at.1 as usize);
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(revision).as_bytes();
        let mut out = BytesMut::with_capacity(self.json.len() + 8);
        out.put_slice(&self.json[..start]);
        out.put_slice(digits);
        out.put_slice(&self.json[start + len..]);
        out.freeze()
    }

    /// Sorted by key.
    fn labels(&self) -> &[Label] {
        self.labels.get_or_init(|| {
            let raw = scan::find(&self.json, &["metadata", "labels"]).unwrap_or_default();
            let mut labels: Vec<Label> = scan::members(raw)
                .filter_map(|(key, value)| {
                    Some((
                        std::str::from_utf8(key).ok()?.into(),
                        scan::text(value)?.into(),
                    ))
                })
                .collect();
            labels.sort();
            labels.into()
        })
    }

    /// The label's value.
    pub fn label(&self, key: &str) -> Option<&str> {
        let labels = self.labels();
        let at = labels.binary_search_by(|(k, _)| k.as_ref().cmp(key)).ok()?;
        Some(&labels[at].1)
    }

    /// The text of the scalar at a path (dots between names).
    pub fn field(&self, path: &str) -> Option<Cow<'_, str>> {
        let mut value: &[u8] = &self.json;
        for step in path.split('.') {
            value = scan::find(value, &[step])?;
        }
        scan::text(value)
    }

    /// The parsed object, kept and shared. For readers that come back; others parse [`CachedObject::json`] themselves.
    pub fn value(&self) -> &Arc<Value> {
        self.value.get_or_init(|| Arc::new(self.parse()))
    }

    /// The parsed object, not kept.
    pub fn parse(&self) -> Value {
        serde_json::from_slice(&self.json).unwrap_or_default()
    }
}

/// A stored value with a resourceVersion put in.
pub(crate) fn with_resource_version(stored: &[u8], revision: Revision) -> Option<Bytes> {
    splice(stored, revision).map(|(json, _)| json)
}

fn splice(stored: &[u8], revision: Revision) -> Option<(Bytes, (u32, u8))> {
    let (at, has_version) = scan::metadata_start(stored)?;
    if has_version {
        return splice(&without_version(stored)?, revision);
    }
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(revision).as_bytes();
    let mut out = BytesMut::with_capacity(stored.len() + MEMBER.len() + digits.len() + 2);
    out.put_slice(&stored[..at]);
    out.put_slice(MEMBER);
    let version_at = (u32::try_from(out.len()).ok()?, digits.len() as u8);
    out.put_slice(digits);
    out.put_u8(b'"');
    if stored.get(at) != Some(&b'}') {
        out.put_u8(b',');
    }
    out.put_slice(&stored[at..]);
    Some((out.freeze(), version_at))
}

/// Others may have written a resourceVersion into the store; it means nothing there.
fn without_version(stored: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(stored).ok()?;
    value
        .get_mut("metadata")?
        .as_object_mut()?
        .shift_remove("resourceVersion")?;
    serde_json::to_vec(&value).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: &'static str, revision: Revision) -> CachedObject {
        let entry = Entry {
            key: "/registry/pods/a/b".into(),
            value: value.into(),
            create_revision: 1,
            mod_revision: revision,
            lease: 0,
        };
        CachedObject::new("a/b".into(), &entry).expect("object")
    }

    #[test]
    fn versions_are_spliced_and_taken_out() {
        let stored = r#"{"kind":"Pod","metadata":{"name":"b","labels":{"x":"1"}},"spec":{"n":2}}"#;
        let pod = object(stored, 99);
        assert_eq!(
            pod.json,
            r#"{"kind":"Pod","metadata":{"resourceVersion":"99","name":"b","labels":{"x":"1"}},"spec":{"n":2}}"#
        );
        assert_eq!(
            pod.json_at(100),
            std::str::from_utf8(&pod.json)
                .expect("utf-8")
                .replace("99", "100")
        );
        assert_eq!((pod.label("x"), pod.label("y")), (Some("1"), None));
        assert_eq!(pod.field("spec.n").as_deref(), Some("2"));
    }

    #[test]
    fn a_version_in_the_store_is_ignored() {
        let pod = object(r#"{"metadata":{"name":"b","resourceVersion":"1"}}"#, 7);
        assert_eq!(
            pod.json,
            r#"{"metadata":{"resourceVersion":"7","name":"b"}}"#
        );
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for value in ["", "null", "{}", r#"{"metadata":1}"#, "k8s\0abc"] {
            assert!(
                with_resource_version(value.as_bytes(), 1).is_none(),
                "{value}"
            );
        }
    }
}
