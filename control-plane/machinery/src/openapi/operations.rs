//! Paths and operations of every kind, from its row in the table of kinds.
//!
//! Clients read from them which resources exist, of which kind a request's body is, and which parameters are understood
//! (kubectl looks for `fieldValidation` on PATCH).

use serde_json::{Map, Value, json};

use super::definitions::{Dialect, pointer};
use super::parameters;
use crate::kind::{Kind, Subresource, Verb, Verbs};
use crate::schema::Schema;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// A served group and version.
#[derive(Clone, Copy)]
pub(super) struct GroupVersion<'a> {
    pub(super) group: &'a str,
    pub(super) version: &'a str,
}

impl GroupVersion<'_> {
    /// `api/v1`, `apis/apps/v1`.
    pub(super) fn path(self) -> String {
        match self.group {
            "" => format!("api/{}", self.version),
            group => format!("apis/{group}/{}", self.version),
        }
    }

    /// `CoreV1`, `RbacAuthorizationV1`.
    fn camel(self) -> String {
        camel_group(self.group) + &title(self.version)
    }

    /// `core_v1`, `rbacAuthorization_v1`.
    fn tag(self) -> String {
        let group = camel_group(self.group);
        group[..1].to_lowercase() + &group[1..] + "_" + self.version
    }
}

fn camel_group(group: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    group
        .trim_end_matches(".k8s.io")
        .split('.')
        .map(title)
        .collect()
}

fn title(word: &str) -> String {
    word[..1].to_uppercase() + &word[1..]
}

/// A path under construction: methods and, for each, all its parameters.
struct PathItem {
    path: String,
    operations: Vec<(&'static str, Value, Vec<&'static str>)>,
}

/// What an operation is about.
#[derive(Clone, Copy)]
struct Subject<'a> {
    kind: &'a Kind,
    version: GroupVersion<'a>,
    /// Group, version and kind of the body.
    body: (&'a str, &'a str, &'a str),
    subresource: &'a str,
    namespaced: bool,
}

impl Subject<'_> {
    /// The part of an operation's id that names the resource.
    fn id(&self, suffix: &str) -> String {
        let scope = if self.namespaced { "Namespaced" } else { "" };
        let subresource = if self.subresource.is_empty() {
            String::new()
        } else {
            title(self.subresource)
        };
        format!("{scope}{}{subresource}{suffix}", self.kind.kind)
    }

    fn definition(&self, suffix: &str) -> String {
        let (group, version, kind) = self.body;
        let name = format!("{kind}{suffix}");
        let schema = Schema::global();
        match schema.kind(group, version, &name) {
            Some(id) => schema.definition(id).name.to_owned(),
            None => format!("{META}Status"),
        }
    }

    fn operation(&self, action: &str, id: String, description: String, responses: Value) -> Value {
        let (group, version, kind) = self.body;
        json!({
            "description": description,
            "operationId": id,
            "responses": responses,
            "tags": [self.version.tag()],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": {"group": group, "kind": kind, "version": version},
        })
    }

    fn about(&self) -> String {
        match self.subresource {
            "" => self.kind.kind.to_string(),
            subresource => format!("{subresource} of a {}", self.kind.kind),
        }
    }
}

fn refer(name: &str) -> Value {
    json!({"$ref": pointer(Dialect::V3, name)})
}

fn answers(codes: &[&str], schema: &Value, stream: bool) -> Value {
    let mut responses = Map::new();
    for code in codes {
        let mut content = json!({"application/json": {"schema": schema}});
        if stream {
            content["application/json;stream=watch"] = json!({"schema": schema});
        }
        let description = match *code {
            "201" => "Created",
            "202" => "Accepted",
            _ => "OK",
        };
        responses.insert(
            (*code).to_owned(),
            json!({"description": description, "content": content}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    Value::Object(responses)
}

impl PathItem {
    fn new(path: String) -> PathItem {
        PathItem {
            path,
            operations: Vec::new(),
        }
    }

    fn add(&mut self, method: &'static str, operation: Value, queries: &[&'static str]) {
        let mut names: Vec<&'static str> = queries.to_vec();
        // A parameter of the path is told apart from one of the query by its braces.
        let in_path = ["{name}", "{namespace}", "{path}"];
        names.extend(in_path.into_iter().filter(|name| self.path.contains(name)));
        names.sort_unstable();
        self.operations.push((method, operation, names));
    }

    /// Parameters that all methods share stand on the path.
    fn finish(self) -> Option<(String, Value)> {
        let (_, _, first) = self.operations.first()?;
        let shared: Vec<&str> = first
            .iter()
            .copied()
            .filter(|name| {
                self.operations
                    .iter()
                    .all(|(_, _, names)| names.contains(name))
            })
            .collect();
        let mut item = Map::new();
        for (method, mut operation, names) in self.operations {
            let own: Vec<Value> = names
                .iter()
                .filter(|name| !shared.contains(name))
                .map(|name| parameters::parameter(name, false))
                .collect();
            if !own.is_empty() {
                operation["parameters"] = own.into();
            }
            item.insert(method.to_owned(), operation);
        }
        if !shared.is_empty() {
            let shared: Vec<Value> = shared
                .iter()
                .map(|name| parameters::parameter(name, false))
                .collect();
            item.insert("parameters".into(), shared.into());
        }
        Some((self.path, Value::Object(item)))
    }
}

/// All paths of a kind in a version.
pub(super) fn kind_paths(kind: &Kind, version: GroupVersion<'_>) -> Vec<(String, Value)> {
    let subject = Subject {
        kind,
        version,
        body: (version.group, version.version, &kind.kind),
        subresource: "",
        namespaced: kind.namespaced,
    };
    let base = format!("/{}", version.path());
    let scope = if kind.namespaced {
        "/namespaces/{namespace}"
    } else {
        ""
    };
    let collection = format!("{base}{scope}/{}", kind.plural);
    let mut items = vec![
        collection_item(subject, collection.clone()),
        object_item(subject, format!("{collection}/{{name}}")),
    ];
    if kind.namespaced && kind.verbs.contains(Verb::List) {
        let everywhere = Subject {
            namespaced: false,
            ..subject
        };
        let mut item = PathItem::new(format!("{base}/{}", kind.plural));
        list(&mut item, everywhere, "ForAllNamespaces");
        items.push(item);
        if kind.verbs.contains(Verb::Watch) {
            items.push(watch_item(
                everywhere,
                format!("{base}/watch/{}", kind.plural),
                true,
                "ForAllNamespaces",
            ));
        }
    }
    if kind.verbs.contains(Verb::Watch) {
        let watched = format!("{base}/watch{scope}/{}", kind.plural);
        items.push(watch_item(subject, watched.clone(), true, ""));
        items.push(watch_item(
            subject,
            format!("{watched}/{{name}}"),
            false,
            "",
        ));
    }
    for subresource in &kind.subresources {
        items.extend(subresource_items(subject, subresource, &collection));
    }
    items.into_iter().filter_map(PathItem::finish).collect()
}

fn list(item: &mut PathItem, subject: Subject<'_>, suffix: &str) {
    let schema = refer(&subject.definition("List"));
    let id = format!("list{}{}", subject.version.camel(), subject.id(suffix));
    let description = format!("List or watch {} objects", subject.kind.kind);
    let operation = subject.operation("list", id, description, answers(&["200"], &schema, true));
    item.add("get", operation, &[parameters::LIST, &["pretty"]].concat());
}

fn collection_item(subject: Subject<'_>, path: String) -> PathItem {
    let mut item = PathItem::new(path);
    let verbs = subject.kind.verbs;
    if verbs.contains(Verb::List) {
        list(&mut item, subject, "");
    }
    if verbs.contains(Verb::Create) {
        create(&mut item, subject);
    }
    if verbs.contains(Verb::DeleteCollection) {
        let id = format!(
            "delete{}Collection{}",
            subject.version.camel(),
            subject.id("")
        );
        let description = format!("Delete {} objects", subject.kind.kind);
        let status = refer(&format!("{META}Status"));
        let operation = subject.operation(
            "deletecollection",
            id,
            description,
            answers(&["200"], &status, false),
        );
        let operation = with_body(operation, "DeleteOptions", false);
        item.add(
            "delete",
            operation,
            &[parameters::DELETE_COLLECTION, &["pretty"]].concat(),
        );
    }
    item
}

fn create(item: &mut PathItem, subject: Subject<'_>) {
    let schema = refer(&subject.definition(""));
    let id = format!("create{}{}", subject.version.camel(), subject.id(""));
    let description = format!("Create a {}", subject.about());
    let mut operation = subject.operation(
        "post",
        id,
        description,
        answers(&["200", "201", "202"], &schema, false),
    );
    operation["requestBody"] = json!({"content": {"*/*": {"schema": schema}}, "required": true});
    item.add(
        "post",
        operation,
        &[parameters::WRITE, &["pretty"]].concat(),
    );
}

/// Adds a body of a definition of the meta group.
fn with_body(mut operation: Value, name: &str, required: bool) -> Value {
    let schema = refer(&format!("{META}{name}"));
    let content_types: &[&str] = match name {
        "Patch" => &[
            "application/apply-patch+yaml",
            "application/json-patch+json",
            "application/merge-patch+json",
            "application/strategic-merge-patch+json",
        ],
        _ => &["*/*"],
    };
    let content: Map<String, Value> = content_types
        .iter()
        .map(|ty| ((*ty).to_owned(), json!({"schema": schema})))
        .collect();
    operation["requestBody"] = json!({"content": content});
    if required {
        operation["requestBody"]["required"] = true.into();
    }
    operation
}

fn object_item(subject: Subject<'_>, path: String) -> PathItem {
    let mut item = PathItem::new(path);
    read_and_change(&mut item, subject, subject.kind.verbs);
    if subject.kind.verbs.contains(Verb::Delete) {
        let id = format!("delete{}{}", subject.version.camel(), subject.id(""));
        let status = refer(&format!("{META}Status"));
        let description = format!("Delete a {}", subject.kind.kind);
        let operation = subject.operation(
            "delete",
            id,
            description,
            answers(&["200", "202"], &status, false),
        );
        let operation = with_body(operation, "DeleteOptions", false);
        item.add(
            "delete",
            operation,
            &[parameters::DELETE, &["pretty"]].concat(),
        );
    }
    item
}

fn read_and_change(item: &mut PathItem, subject: Subject<'_>, verbs: Verbs) {
    let schema = refer(&subject.definition(""));
    let camel = subject.version.camel();
    let about = subject.about();
    if verbs.contains(Verb::Get) {
        let (schema, queries) = match subject.subresource {
            "log" => (
                json!({"type": "string"}),
                [parameters::LOG, &["pretty"]].concat(),
            ),
            _ => (schema.clone(), vec!["pretty"]),
        };
        let id = format!("read{camel}{}", subject.id(""));
        let operation = subject.operation(
            "get",
            id,
            format!("Read a {about}"),
            answers(&["200"], &schema, false),
        );
        item.add("get", operation, &queries);
    }
    if verbs.contains(Verb::Update) {
        let id = format!("replace{camel}{}", subject.id(""));
        let responses = answers(&["200", "201"], &schema, false);
        let mut operation = subject.operation("put", id, format!("Replace a {about}"), responses);
        operation["requestBody"] =
            json!({"content": {"*/*": {"schema": schema}}, "required": true});
        item.add("put", operation, &[parameters::WRITE, &["pretty"]].concat());
    }
    if verbs.contains(Verb::Patch) {
        let id = format!("patch{camel}{}", subject.id(""));
        let responses = answers(&["200", "201"], &schema, false);
        let operation = subject.operation("patch", id, format!("Change a {about}"), responses);
        item.add(
            "patch",
            with_body(operation, "Patch", true),
            &[parameters::PATCH, &["pretty"]].concat(),
        );
    }
}

fn watch_item(subject: Subject<'_>, path: String, whole_list: bool, suffix: &str) -> PathItem {
    let mut item = PathItem::new(path);
    let event = refer(&format!("{META}WatchEvent"));
    let (action, list) = if whole_list {
        ("watchlist", "List")
    } else {
        ("watch", "")
    };
    let id = format!(
        "watch{}{}",
        subject.version.camel(),
        subject.id(&format!("{list}{suffix}"))
    );
    let description = format!(
        "Deprecated: list {} objects with the parameter watch",
        subject.kind.kind
    );
    let operation = subject.operation(action, id, description, answers(&["200"], &event, true));
    item.add("get", operation, &[parameters::LIST, &["pretty"]].concat());
    item
}

fn subresource_items(
    parent: Subject<'_>,
    subresource: &Subresource,
    collection: &str,
) -> Vec<PathItem> {
    let path = format!("{collection}/{{name}}/{}", subresource.name);
    let version = subresource
        .version
        .as_deref()
        .unwrap_or(parent.version.version);
    let group = subresource.group.as_deref().unwrap_or(parent.version.group);
    let subject = Subject {
        body: (group, version, &subresource.kind),
        subresource: &subresource.name,
        ..parent
    };
    if !subresource.kind.ends_with("Options") {
        let mut item = PathItem::new(path);
        if subresource.verbs.contains(Verb::Create) {
            create(&mut item, subject);
        }
        read_and_change(&mut item, subject, subresource.verbs);
        return vec![item];
    }
    let mut items = vec![connect_item(subject, subresource, path.clone(), "")];
    if subresource.name == "proxy" {
        items.push(connect_item(
            subject,
            subresource,
            format!("{path}/{{path}}"),
            "WithPath",
        ));
    }
    items
}

/// A subresource that is a connection: its answer is no object.
fn connect_item(
    subject: Subject<'_>,
    subresource: &Subresource,
    path: String,
    suffix: &str,
) -> PathItem {
    let mut item = PathItem::new(path);
    let methods: &[&'static str] = if subresource.name == "proxy" {
        &METHODS
    } else {
        &["get", "post"]
    };
    for method in methods {
        let id = format!(
            "connect{}{}{}",
            subject.version.camel(),
            title(method),
            subject.id(suffix)
        );
        let description = format!(
            "Connect to {} by {}",
            subject.about(),
            method.to_uppercase()
        );
        let string = json!({"type": "string"});
        let mut responses = answers(&["200"], &string, false);
        responses["200"]["content"] = json!({"*/*": {"schema": string}});
        let operation = subject.operation("connect", id, description, responses);
        item.add(method, operation, parameters::connect(&subresource.kind));
    }
    item
}

/// The path that lists a group version's resources.
pub(super) fn resources(version: GroupVersion<'_>) -> (String, Value) {
    let operation = json!({"get": {
        "description": "List the resources of this version",
        "operationId": format!("get{}APIResources", version.camel()),
        "responses": answers(&["200"], &refer(&format!("{META}APIResourceList")), false),
        "tags": [version.tag()],
    }});
    (format!("/{}/", version.path()), operation)
}

/// The single path of the documents beside those of group versions: `api`, `apis`, `apis/GROUP`, `version`.
pub(super) fn discovery(parts: &[&str]) -> (String, Value) {
    let (definition, id, tag) = match parts {
        ["api"] => (
            format!("{META}APIVersions"),
            "getCoreAPIVersions".to_owned(),
            "core".to_owned(),
        ),
        ["apis", group] => {
            let camel = camel_group(group);
            let tag = camel[..1].to_lowercase() + &camel[1..];
            (
                format!("{META}APIGroup"),
                format!("get{camel}APIGroup"),
                tag,
            )
        }
        ["version"] => {
            let info = "io.k8s.apimachinery.pkg.version.Info";
            (
                info.to_owned(),
                "getCodeVersion".to_owned(),
                "version".to_owned(),
            )
        }
        _ => (
            format!("{META}APIGroupList"),
            "getAPIVersions".to_owned(),
            "apis".to_owned(),
        ),
    };
    let operation = json!({"get": {
        "description": "What this server offers",
        "operationId": id,
        "responses": answers(&["200"], &refer(&definition), false),
        "tags": [tag],
    }});
    (format!("/{}/", parts.join("/")), operation)
}
