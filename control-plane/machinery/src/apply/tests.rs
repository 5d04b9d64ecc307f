//! Stories of managers that write the same object, after the documented behaviour of server-side apply.

use serde_json::json;

use super::*;

struct Story {
    kind: (&'static str, &'static str, &'static str),
    live: Option<Value>,
    seconds: u32,
}

impl Story {
    fn new(group: &'static str, version: &'static str, kind: &'static str) -> Story {
        Story {
            kind: (group, version, kind),
            live: None,
            seconds: 0,
        }
    }

    fn with_writer<T>(
        &mut self,
        manager: &str,
        subresource: &str,
        act: impl FnOnce(&Writer<'_>, Option<&Value>) -> T,
    ) -> T {
        self.seconds += 1;
        let (group, version, kind) = self.kind;
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let now = format!("2026-01-01T00:00:{:02}Z", self.seconds);
        let reset = match subresource {
            "status" => FieldSet::of_fields(&[&["spec"]]),
            _ => FieldSet::of_fields(&[&["status"]]),
        };
        let writer = Writer {
            id: Schema::global()
                .kind(group, version, kind)
                .expect("a known kind"),
            api_version: &api_version,
            manager,
            subresource,
            reset: &reset,
            now: &now,
        };
        act(&writer, self.live.as_ref())
    }

    fn object(&self, rest: Value) -> Value {
        let (group, version, kind) = self.kind;
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        let mut object =
            json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": "a"}});
        for (key, value) in rest.as_object().expect("an object") {
            if key == "metadata" {
                for (key, value) in value.as_object().expect("an object") {
                    object["metadata"][key] = value.clone();
                }
            } else {
                object[key] = value.clone();
            }
        }
        object
    }

    fn apply(&mut self, manager: &str, rest: Value, force: bool) -> Result<(), ApplyError> {
        let config = self.object(rest);
        let mut new = self.with_writer(manager, "", |writer, live| {
            apply(writer, live, &config, force)
        })?;
        self.store(&mut new);
        Ok(())
    }

    fn update(&mut self, manager: &str, subresource: &str, change: impl FnOnce(&mut Value)) {
        let mut new = self.live.clone().unwrap_or_else(|| self.object(json!({})));
        change(&mut new);
        self.decode(&mut new);
        let mut new = self.with_writer(manager, subresource, |writer, live| {
            update_managed_fields(writer, live, new)
        });
        self.store(&mut new);
    }

    fn decode(&self, value: &mut Value) {
        let (group, version, kind) = self.kind;
        let id = Schema::global()
            .kind(group, version, kind)
            .expect("a known kind");
        let unknown = decode(Schema::global(), id, value, Form::Complete).expect("fits");
        assert_eq!(unknown, vec![]);
    }

    fn store(&mut self, new: &mut Value) {
        self.decode(new);
        self.live = Some(new.clone());
    }

    fn get(&self, pointer: &str) -> Value {
        self.live
            .as_ref()
            .and_then(|live| live.pointer(pointer))
            .cloned()
            .unwrap_or_default()
    }

    /// Managers with operation, subresource and fields.
    fn owners(&self) -> Vec<String> {
        let list = self.get("/metadata/managedFields");
        let entries = list.as_array().cloned().unwrap_or_default();
        let line = |entry: Value| {
            let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
            format!(
                "{} {}{} {}",
                text("manager"),
                text("operation"),
                text("subresource"),
                entry["fieldsV1"]
            )
        };
        entries.into_iter().map(line).collect()
    }
}

#[test]
fn appliers_own_what_they_state() {
    let mut story = Story::new("", "v1", "ConfigMap");
    story
        .apply("one", json!({"data": {"a": "1", "b": "2"}}), false)
        .expect("creates");
    assert_eq!(
        story.owners(),
        [r#"one Apply {"f:data":{"f:a":{},"f:b":{}}}"#]
    );
    // The same again changes nothing, its time neither.
    let before = story.live.clone();
    story
        .apply("one", json!({"data": {"a": "1", "b": "2"}}), false)
        .expect("changes nothing");
    assert_eq!(story.live, before);
    // Another manager may state the same value: both own it.
    story
        .apply("two", json!({"data": {"a": "1", "c": "3"}}), false)
        .expect("shares");
    let refused = story
        .apply("two", json!({"data": {"a": "9", "c": "3"}}), false)
        .expect_err("one owns a");
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "one": .data.a"#
    );
    // What is no longer stated goes, unless somebody else owns it.
    story
        .apply("one", json!({"data": {}}), false)
        .expect("lets go");
    assert_eq!(story.get("/data"), json!({"a": "1", "c": "3"}));
    story
        .apply("two", json!({"data": {"a": "9"}}), false)
        .expect("is the only owner");
    assert_eq!(story.get("/data"), json!({"a": "9"}));
}

#[test]
fn force_takes_fields_over() {
    let mut story = Story::new("apps", "v1", "Deployment");
    let labels = json!({"matchLabels": {"a": "b"}});
    story
        .apply(
            "one",
            json!({"spec": {"replicas": 1, "selector": labels, "paused": true}}),
            false,
        )
        .expect("creates");
    story
        .apply(
            "two",
            json!({"spec": {"replicas": 2, "paused": true}}),
            true,
        )
        .expect("forces");
    assert_eq!(story.get("/spec/replicas"), 2);
    assert_eq!(
        story.owners(),
        [
            r#"one Apply {"f:spec":{"f:paused":{},"f:selector":{}}}"#,
            r#"two Apply {"f:spec":{"f:paused":{},"f:replicas":{}}}"#,
        ]
    );
    let refused = story.apply(
        "one",
        json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "c"}}, "paused": false}}),
        false,
    );
    assert_eq!(
        refused.expect_err("two owns them").to_string(),
        "Apply failed with 2 conflicts: conflicts with \"two\":\n- .spec.paused\n- .spec.replicas"
    );
}

#[test]
fn lists_merge_by_their_keys() {
    let mut story = Story::new("", "v1", "Pod");
    let spec = |containers: Value| json!({"spec": {"containers": containers}});
    story
        .apply(
            "one",
            spec(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
            false,
        )
        .expect("creates");
    story
        .apply(
            "two",
            spec(json!([{"name": "c", "image": "1"}, {"name": "a", "stdin": true}])),
            false,
        )
        .expect("adds");
    let names = |story: &Story| {
        let list = story.get("/spec/containers");
        list.as_array()
            .expect("a list")
            .iter()
            .map(|c| c["name"].as_str().expect("named").to_owned())
            .collect::<String>()
    };
    assert_eq!(names(&story), "cab");
    story
        .apply("one", spec(json!([{"name": "b", "image": "1"}])), false)
        .expect("lets a go");
    // Two still owns item a, so that only one's image of it goes.
    assert_eq!(names(&story), "cab");
    assert_eq!(
        story.get("/spec/containers/1"),
        json!({"name": "a", "stdin": true, "resources": {}})
    );
    story
        .apply("two", spec(json!([{"name": "c", "image": "1"}])), false)
        .expect("lets a go too");
    assert_eq!(names(&story), "cb");
    assert_eq!(
        story.owners()[1],
        r#"two Apply {"f:spec":{"f:containers":{"k:{\"name\":\"c\"}":{".":{},"f:image":{},"f:name":{}}}}}"#
    );
}

#[test]
fn sets_atomic_fields_and_ports() {
    let mut story = Story::new("", "v1", "Service");
    story
        .apply("one", json!({"metadata": {"finalizers": ["x/1"]}, "spec": {"selector": {"a": "b"}, "ports": [{"port": 80}]}}), false)
        .expect("creates");
    assert_eq!(
        story.owners(),
        [concat!(
            r#"one Apply {"f:metadata":{"f:finalizers":{"v:\"x/1\"":{}}},"f:spec":{"f:ports":"#,
            r#"{"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{}}},"f:selector":{}}}"#
        )]
    );
    let refused = story
        .apply("two", json!({"spec": {"selector": {"c": "d"}}}), false)
        .expect_err("a selector is one field");
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "one": .spec.selector"#
    );
    story
        .apply("two", json!({"metadata": {"finalizers": ["x/2"]}}), false)
        .expect("adds to the set");
    assert_eq!(story.get("/metadata/finalizers"), json!(["x/1", "x/2"]));
}

#[test]
fn updates_take_what_they_change() {
    let mut story = Story::new("apps", "v1", "Deployment");
    story
        .apply(
            "one",
            json!({"spec": {"replicas": 1, "paused": true}}),
            false,
        )
        .expect("creates");
    story.update("scaler", "", |object| object["spec"]["replicas"] = 5.into());
    story.update("controller", "status", |object| {
        object["status"] = json!({"replicas": 5})
    });
    assert_eq!(
        story.owners(),
        [
            r#"one Apply {"f:spec":{"f:paused":{}}}"#,
            r#"scaler Update {"f:spec":{"f:replicas":{}}}"#,
            r#"controller Updatestatus {"f:status":{"f:replicas":{}}}"#,
        ]
    );
    let refused = story
        .apply(
            "one",
            json!({"spec": {"replicas": 1, "paused": true}}),
            false,
        )
        .expect_err("scaler owns it");
    assert_eq!(
        refused.to_string(),
        r#"Apply failed with 1 conflict: conflict with "scaler" using apps/v1: .spec.replicas"#
    );
    story.update("one", "", |object| {
        object["spec"]
            .as_object_mut()
            .expect("an object")
            .shift_remove("replicas");
    });
    assert_eq!(
        story.owners().len(),
        2,
        "nobody owns a removed field: {:?}",
        story.owners()
    );
}

#[test]
fn created_objects_are_tracked_and_may_be_reset() {
    let mut story = Story::new("", "v1", "ConfigMap");
    story.update("kubectl-create", "", |object| {
        object["data"] = json!({"a": "1"})
    });
    assert_eq!(
        story.owners(),
        [r#"kubectl-create Update {"f:data":{".":{},"f:a":{}}}"#]
    );
    story.update("reset", "", |object| {
        object["metadata"]["managedFields"] = json!([{}])
    });
    assert_eq!(story.owners(), Vec::<String>::new());
    story.update("untracked", "", |object| object["data"] = json!({"a": "2"}));
    assert_eq!(story.owners(), Vec::<String>::new());
    story
        .apply("one", json!({"data": {"b": "1"}}), false)
        .expect("applies");
    assert_eq!(story.owners().len(), 2, "{:?}", story.owners());
    assert!(
        story.owners()[1].starts_with("before-first-apply Update"),
        "{:?}",
        story.owners()
    );
}

#[test]
fn kubectl_moves_from_client_side_apply() {
    let mut story = Story::new("", "v1", "ConfigMap");
    let last = story.object(json!({"data": {"a": "1"}})).to_string();
    story.update("kubectl-client-side-apply", "", |object| {
        object["data"] = json!({"a": "1"});
        object["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    });
    story
        .apply("kubectl", json!({"data": {"a": "2"}}), false)
        .expect("its own field");
    assert_eq!(story.get("/data/a"), "2");
    let annotation = story.get("/metadata/annotations")[LAST_APPLIED]
        .as_str()
        .expect("kept")
        .to_owned();
    assert!(annotation.contains(r#""a":"2""#), "{annotation}");
}

#[test]
fn what_the_server_set_outlives_the_move_from_client_side_apply() {
    let mut story = Story::new("batch", "v1", "Job");
    let config =
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "x"}]}}}});
    let last = story.object(config.clone()).to_string();
    story.update("reset", "", |object| {
        object["spec"] = config["spec"].clone();
        object["spec"]["selector"] = json!({"matchLabels": {"uid": "u"}});
        object["spec"]["template"]["metadata"] = json!({"labels": {"uid": "u"}});
        object["metadata"]["annotations"] = json!({LAST_APPLIED: last});
    });
    story.update("reset", "", |object| {
        object["metadata"]["managedFields"] = json!([{}])
    });
    story
        .apply("kubectl", config.clone(), false)
        .expect("its own");
    let owners = story.owners();
    assert!(owners[1].starts_with(CLIENT_SIDE_APPLY), "{owners:?}");
    assert!(!owners[1].contains("f:selector"), "{owners:?}");
    // As kubectl moves: the entry becomes one of the server's apply, and it applies again.
    story.update("kubectl", "", |object| {
        let list = &mut object["metadata"]["managedFields"];
        let mut moved = list[1].take();
        moved["manager"] = "kubectl".into();
        moved["operation"] = "Apply".into();
        *list = json!([moved]);
    });
    story.apply("kubectl", config, false).expect("its own");
    assert_eq!(story.get("/spec/selector/matchLabels/uid"), "u");
    assert_eq!(story.get("/spec/template/metadata/labels/uid"), "u");
}

#[test]
fn old_updates_are_merged() {
    let mut story = Story::new("", "v1", "ConfigMap");
    for index in 0..14 {
        story.update(&format!("m{index:02}"), "", |object| {
            object["data"][format!("k{index}")] = "v".into()
        });
    }
    let owners = story.owners();
    assert_eq!(owners.len(), MAX_UPDATE_MANAGERS, "{owners:?}");
    assert!(
        owners[0].starts_with("ancient-changes Update"),
        "{owners:?}"
    );
    assert!(
        owners[0].contains("f:k0") && owners[0].contains("f:k4"),
        "{owners:?}"
    );
}

#[test]
fn refusals_speak_as_upstream() {
    let mut story = Story::new("apps", "v1", "Deployment");
    for (config, expect) in [
        (
            json!({"spec": {"foo": 1}}),
            ".spec.foo: field not declared in schema",
        ),
        (
            json!({"spec": {"replicas": "1"}}),
            ".spec.replicas: expected numeric (int or float), got string",
        ),
        (
            json!({"spec": {"template": []}}),
            ".spec.template: expected map, got []",
        ),
        (
            json!({"spec": {"template": {"spec": {"containers": [{"name": "a"}, {"name": "a"}]}}}}),
            ".spec.template.spec.containers: duplicate entries for key [name=\"a\"]",
        ),
    ] {
        let error = story
            .apply("one", config, false)
            .expect_err("refused")
            .to_string();
        assert_eq!(
            error,
            format!("failed to create typed patch object (/a; apps/v1, Kind=Deployment): {expect}")
        );
    }
    let error = story
        .apply("one", json!({"apiVersion": "apps/v2"}), false)
        .expect_err("refused")
        .to_string();
    assert_eq!(
        error,
        "Incorrect version specified in apply patch. Specified patch version: apps/v2, expected: apps/v1"
    );
    let error = story
        .apply("one", json!({"metadata": {"managedFields": []}}), false)
        .expect_err("refused")
        .to_string();
    assert_eq!(error, "metadata.managedFields must be nil");
}
