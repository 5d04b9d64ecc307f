//! The checks of the Pod Security Standards, with upstream's sentences.

use std::collections::BTreeSet;

use api_machinery::{ObjectExt, go_quote};
use serde_json::Value;

use super::Level;

/// Reason and detail of what a check found.
type Check = fn(&Value) -> Option<(String, String)>;

/// Level from which a check counts, level from which a stricter one takes its place; in the order of messages.
const CHECKS: [(Level, Option<Level>, Check); 19] = [
    (Level::Baseline, None, app_armor),
    (
        Level::Baseline,
        Some(Level::Restricted),
        capabilities_baseline,
    ),
    (Level::Baseline, None, host_namespaces),
    (Level::Baseline, Some(Level::Restricted), host_path),
    (Level::Baseline, None, host_ports),
    (Level::Baseline, None, probe_hosts),
    (Level::Baseline, None, privileged),
    (
        Level::Baseline,
        Some(Level::Restricted),
        proc_mount_baseline,
    ),
    (Level::Baseline, None, selinux),
    (Level::Baseline, Some(Level::Restricted), seccomp_baseline),
    (Level::Baseline, None, sysctls),
    (Level::Baseline, None, windows_host_process),
    (Level::Restricted, None, privilege_escalation),
    (Level::Restricted, None, capabilities_restricted),
    (Level::Restricted, None, proc_mount),
    (Level::Restricted, None, restricted_volumes),
    (Level::Restricted, None, run_as_non_root),
    (Level::Restricted, None, run_as_user),
    (Level::Restricted, None, seccomp_restricted),
];

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) reason: String,
    detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.reason)?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.detail)
        }
    }
}

/// What in a pod (its metadata and spec) a level does not allow.
pub(super) fn violations(level: Level, pod: &Value) -> Vec<Violation> {
    let counts = |from: Level, until: Option<Level>| {
        level >= from && until.is_none_or(|until| level < until)
    };
    let checks = CHECKS
        .iter()
        .filter(|(from, until, _)| counts(*from, *until));
    checks
        .filter_map(|(_, _, check)| check(pod))
        .map(|(reason, detail)| Violation { reason, detail })
        .collect()
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|f| pod.list(&["spec", f]))
}

/// Names of the containers for which `is_bad` holds.
fn bad(pod: &Value, is_bad: impl Fn(&Value) -> bool) -> Vec<String> {
    containers(pod)
        .filter(|c| is_bad(c))
        .map(|c| c.text(&["name"]).to_owned())
        .collect()
}

fn quoted<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    items
        .into_iter()
        .map(|i| format!("\"{i}\""))
        .collect::<Vec<_>>()
        .join(", ")
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 {
        word.to_owned()
    } else {
        format!("{word}s")
    }
}

fn named(names: &[String]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// `pod and containers "a", "b"`: who set something; empty if nobody.
fn setters(pod_did: bool, names: &[String]) -> String {
    let mut who = Vec::new();
    if pod_did {
        who.push("pod".to_owned());
    }
    if !names.is_empty() {
        who.push(named(names));
    }
    who.join(" and ")
}

fn is_windows(pod: &Value) -> bool {
    pod.text(&["spec", "os", "name"]) == "windows"
}

fn has_user_namespace(pod: &Value) -> bool {
    pod["spec"]["hostUsers"] == false
}

fn app_armor(pod: &Value) -> Option<(String, String)> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let mut values = BTreeSet::new();
    let mut wrong = |holder: &Value, at: &[&str]| {
        let Some(kind) = holder.field(at).and_then(Value::as_str) else {
            return false;
        };
        let wrong = !matches!(kind, "RuntimeDefault" | "Localhost");
        if wrong {
            values.insert(kind.to_owned());
        }
        wrong
    };
    let pod_did = wrong(pod, &["spec", "securityContext", "appArmorProfile", "type"]);
    let mut names = Vec::new();
    for container in containers(pod) {
        if wrong(container, &["securityContext", "appArmorProfile", "type"]) {
            names.push(container.text(&["name"]).to_owned());
        }
    }
    let allowed = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let mut annotations: Vec<String> = pod
        .map(&["metadata", "annotations"])
        .into_iter()
        .flatten()
        .filter_map(|(k, v)| Some((k, v.as_str()?)))
        .filter(|(k, v)| k.starts_with(ANNOTATION) && !allowed(v))
        .map(|(k, v)| format!("{k}={}", go_quote(v)))
        .collect();
    annotations.sort();
    let mut who = vec![setters(pod_did, &names)];
    if !annotations.is_empty() {
        who.push(plural("annotation", annotations.len()));
    }
    who.retain(|w| !w.is_empty());
    if who.is_empty() {
        return None;
    }
    let values: Vec<String> = values.into_iter().chain(annotations).collect();
    let detail = format!(
        "{} must not set AppArmor profile type to {}",
        who.join(" and "),
        quoted(&values)
    );
    Some((plural("forbidden AppArmor profile", values.len()), detail))
}

const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add a capability beyond `allowed`, and which.
fn added(pod: &Value, allowed: &[&str]) -> (Vec<String>, BTreeSet<String>) {
    let beyond = |c: &Value| -> Vec<String> {
        let added = c
            .list(&["securityContext", "capabilities", "add"])
            .iter()
            .filter_map(Value::as_str);
        added
            .filter(|a| !allowed.contains(a))
            .map(String::from)
            .collect()
    };
    (
        bad(pod, |c| !beyond(c).is_empty()),
        containers(pod).flat_map(beyond).collect(),
    )
}

fn capabilities_baseline(pod: &Value) -> Option<(String, String)> {
    let (names, which) = added(pod, &DEFAULT_CAPABILITIES);
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&names),
            quoted(&which)
        );
        ("non-default capabilities".into(), detail)
    })
}

fn capabilities_restricted(pod: &Value) -> Option<(String, String)> {
    if is_windows(pod) {
        return None;
    }
    let mut details = Vec::new();
    let keeps = bad(pod, |c| {
        !c.list(&["securityContext", "capabilities", "drop"])
            .iter()
            .any(|d| d == "ALL")
    });
    if !keeps.is_empty() {
        details.push(format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            named(&keeps)
        ));
    }
    let (names, which) = added(pod, &["NET_BIND_SERVICE"]);
    if !names.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&names),
            quoted(&which)
        ));
    }
    (!details.is_empty()).then(|| ("unrestricted capabilities".into(), details.join("; ")))
}

fn host_namespaces(pod: &Value) -> Option<(String, String)> {
    let used: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.flag(&["spec", field]))
        .map(|field| format!("{field}=true"))
        .collect();
    (!used.is_empty()).then(|| ("host namespaces".into(), used.join(", ")))
}

fn host_path(pod: &Value) -> Option<(String, String)> {
    let volumes = pod
        .list(&["spec", "volumes"])
        .iter()
        .filter(|v| v.get("hostPath").is_some());
    let names: Vec<String> = volumes.map(|v| v.text(&["name"]).to_owned()).collect();
    (!names.is_empty()).then(|| {
        (
            "hostPath volumes".into(),
            format!("{} {}", plural("volume", names.len()), quoted(&names)),
        )
    })
}

fn host_ports(pod: &Value) -> Option<(String, String)> {
    let of = |c: &Value| -> Vec<i64> {
        c.list(&["ports"])
            .iter()
            .filter_map(|p| p.number(&["hostPort"]))
            .filter(|p| *p != 0)
            .collect()
    };
    let names = bad(pod, |c| !of(c).is_empty());
    let ports: BTreeSet<String> = containers(pod)
        .flat_map(of)
        .map(|p| p.to_string())
        .collect();
    (!names.is_empty()).then(|| {
        let list = ports.iter().cloned().collect::<Vec<_>>().join(", ");
        let detail = format!(
            "{} {} {} {list}",
            named(&names),
            uses(names.len()),
            plural("hostPort", ports.len())
        );
        ("hostPort".into(), detail)
    })
}

fn probe_hosts(pod: &Value) -> Option<(String, String)> {
    let of = |c: &Value| -> Vec<String> {
        let holders = [
            &c["livenessProbe"],
            &c["readinessProbe"],
            &c["startupProbe"],
            &c["lifecycle"]["postStart"],
            &c["lifecycle"]["preStop"],
        ];
        let hosts = holders
            .iter()
            .flat_map(|h| [h.text(&["httpGet", "host"]), h.text(&["tcpSocket", "host"])]);
        hosts.filter(|h| !h.is_empty()).map(String::from).collect()
    };
    let mut names = bad(pod, |c| !of(c).is_empty());
    names.sort();
    let hosts: BTreeSet<String> = containers(pod).flat_map(of).collect();
    (!names.is_empty()).then(|| {
        let what = plural("probe or lifecycle host", hosts.len());
        let detail = format!(
            "{} {} {what} {}",
            named(&names),
            uses(names.len()),
            quoted(&hosts)
        );
        ("probe or lifecycle host".into(), detail)
    })
}

fn privileged(pod: &Value) -> Option<(String, String)> {
    let names = bad(pod, |c| c.flag(&["securityContext", "privileged"]));
    (!names.is_empty()).then(|| {
        (
            "privileged".into(),
            format!(
                "{} must not set securityContext.privileged=true",
                named(&names)
            ),
        )
    })
}

fn proc_mount_baseline(pod: &Value) -> Option<(String, String)> {
    if has_user_namespace(pod) {
        None
    } else {
        proc_mount(pod)
    }
}

fn proc_mount(pod: &Value) -> Option<(String, String)> {
    let of = |c: &Value| c.text(&["securityContext", "procMount"]).to_owned();
    let is_bad = |c: &Value| !matches!(of(c).as_str(), "" | "Default");
    let names = bad(pod, is_bad);
    let kinds: BTreeSet<String> = containers(pod).filter(|c| is_bad(c)).map(of).collect();
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must not set securityContext.procMount to {}",
            named(&names),
            quoted(&kinds)
        );
        ("procMount".into(), detail)
    })
}

fn selinux(pod: &Value) -> Option<(String, String)> {
    const TYPES: [&str; 5] = [
        "",
        "container_t",
        "container_init_t",
        "container_kvm_t",
        "container_engine_t",
    ];
    let is_bad = |options: &Value| {
        !TYPES.contains(&options.text(&["type"]))
            || !options.text(&["user"]).is_empty()
            || !options.text(&["role"]).is_empty()
    };
    let of_pod = &pod["spec"]["securityContext"]["seLinuxOptions"];
    let names = bad(pod, |c| is_bad(&c["securityContext"]["seLinuxOptions"]));
    let who = setters(is_bad(of_pod), &names);
    if who.is_empty() {
        return None;
    }
    let all = || {
        containers(pod)
            .map(|c| &c["securityContext"]["seLinuxOptions"])
            .chain([of_pod])
    };
    let types: BTreeSet<String> = all()
        .map(|o| o.text(&["type"]))
        .filter(|t| !TYPES.contains(t))
        .map(String::from)
        .collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!(
            "{} {}",
            plural("type", types.len()),
            quoted(&types)
        ));
    }
    for field in ["user", "role"] {
        if all().any(|o| !o.text(&[field]).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = format!(
        "{who} set forbidden securityContext.seLinuxOptions: {}",
        what.join("; ")
    );
    Some(("seLinuxOptions".into(), detail))
}

fn seccomp_type(holder: &Value) -> Option<&str> {
    holder
        .field(&["securityContext", "seccompProfile", "type"])
        .and_then(Value::as_str)
}

fn is_bad_seccomp(holder: &Value) -> bool {
    seccomp_type(holder).is_some_and(|kind| !matches!(kind, "Localhost" | "RuntimeDefault"))
}

fn seccomp_baseline(pod: &Value) -> Option<(String, String)> {
    let names = bad(pod, is_bad_seccomp);
    let who = setters(is_bad_seccomp(&pod["spec"]), &names);
    let holders = containers(pod).chain([&pod["spec"]]);
    let kinds: BTreeSet<String> = holders
        .filter(|h| is_bad_seccomp(h))
        .filter_map(seccomp_type)
        .map(String::from)
        .collect();
    (!who.is_empty()).then(|| {
        let detail = format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(&kinds)
        );
        ("seccompProfile".into(), detail)
    })
}

fn seccomp_restricted(pod: &Value) -> Option<(String, String)> {
    if is_windows(pod) {
        return None;
    }
    if let Some(found) = seccomp_baseline(pod) {
        return Some(found);
    }
    let names = bad(pod, |c| {
        seccomp_type(c).is_none() && seccomp_type(&pod["spec"]).is_none()
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&names)
        );
        ("seccompProfile".into(), detail)
    })
}

const SAFE_SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

fn sysctls(pod: &Value) -> Option<(String, String)> {
    let set = pod
        .list(&["spec", "securityContext", "sysctls"])
        .iter()
        .map(|s| s.text(&["name"]));
    let bad: Vec<&str> = set.filter(|name| !SAFE_SYSCTLS.contains(name)).collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls".into(), bad.join(", ")))
}

fn windows_host_process(pod: &Value) -> Option<(String, String)> {
    let field = ["securityContext", "windowsOptions", "hostProcess"];
    let who = setters(pod["spec"].flag(&field), &bad(pod, |c| c.flag(&field)));
    (!who.is_empty()).then(|| {
        (
            "hostProcess".into(),
            format!("{who} must not set securityContext.windowsOptions.hostProcess=true"),
        )
    })
}

fn privilege_escalation(pod: &Value) -> Option<(String, String)> {
    if is_windows(pod) {
        return None;
    }
    let names = bad(pod, |c| {
        c["securityContext"]["allowPrivilegeEscalation"] != false
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            named(&names)
        );
        ("allowPrivilegeEscalation != false".into(), detail)
    })
}

fn restricted_volumes(pod: &Value) -> Option<(String, String)> {
    const ALLOWED: [&str; 9] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let kind = |v: &Value| {
        v.as_object()
            .and_then(|v| v.keys().find(|k| *k != "name").cloned())
    };
    let volumes = pod
        .list(&["spec", "volumes"])
        .iter()
        .map(|v| (v, kind(v).unwrap_or_else(|| "unknown".into())));
    let bad: Vec<_> = volumes
        .filter(|(_, kind)| !ALLOWED.contains(&kind.as_str()))
        .collect();
    let names: Vec<String> = bad
        .iter()
        .map(|(v, _)| v.text(&["name"]).to_owned())
        .collect();
    let kinds: BTreeSet<String> = bad.into_iter().map(|(_, kind)| kind).collect();
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", names.len()),
            quoted(&names),
            uses(names.len()),
            plural("restricted volume type", kinds.len()),
            quoted(&kinds)
        );
        ("restricted volume types".into(), detail)
    })
}

fn run_as_non_root(pod: &Value) -> Option<(String, String)> {
    if has_user_namespace(pod) {
        return None;
    }
    const FIELD: [&str; 2] = ["securityContext", "runAsNonRoot"];
    let set = |holder: &Value| holder.field(&FIELD).and_then(Value::as_bool);
    let reason = "runAsNonRoot != true".to_owned();
    let who = setters(
        set(&pod["spec"]) == Some(false),
        &bad(pod, |c| set(c) == Some(false)),
    );
    if !who.is_empty() {
        return Some((
            reason,
            format!("{who} must not set securityContext.runAsNonRoot=false"),
        ));
    }
    let names = bad(pod, |c| set(c).is_none() && set(&pod["spec"]).is_none());
    (!names.is_empty()).then(|| {
        (
            reason,
            format!(
                "pod or {} must set securityContext.runAsNonRoot=true",
                named(&names)
            ),
        )
    })
}

fn run_as_user(pod: &Value) -> Option<(String, String)> {
    if has_user_namespace(pod) {
        return None;
    }
    let is_root = |holder: &Value| holder.number(&["securityContext", "runAsUser"]) == Some(0);
    let who = setters(is_root(&pod["spec"]), &bad(pod, is_root));
    (!who.is_empty()).then(|| {
        (
            "runAsUser=0".into(),
            format!("{who} must not set runAsUser=0"),
        )
    })
}
