//! `events.k8s.io/v1` over the stored core `v1` events: the same fields under other names.

use serde_json::Value;

use super::Conversion;

pub(super) const V1: Conversion = Conversion {
    to_stored,
    from_stored,
};

/// Name in `events.k8s.io/v1`, name in core `v1`.
const FIELDS: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
    ("reportingController", "reportingComponent"),
];

fn to_stored(object: &mut Value) {
    rename(object, "v1", |(new, old)| (new, old));
}

fn from_stored(object: &mut Value) {
    rename(object, "events.k8s.io/v1", |(new, old)| (old, new));
}

fn rename(
    object: &mut Value,
    api_version: &str,
    way: impl Fn((&'static str, &'static str)) -> (&'static str, &'static str),
) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in FIELDS.map(way) {
        if let Some(value) = map.shift_remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
    map.insert("apiVersion".into(), api_version.into());
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn there_and_back_is_the_same() {
        let new = json!({"apiVersion": "events.k8s.io/v1", "note": "n", "regarding": {"kind": "Pod"}, "reason": "R"});
        let mut event = new.clone();
        to_stored(&mut event);
        assert_eq!(
            event,
            json!({"apiVersion": "v1", "message": "n", "involvedObject": {"kind": "Pod"}, "reason": "R"})
        );
        from_stored(&mut event);
        assert_eq!(event, new);
    }
}
