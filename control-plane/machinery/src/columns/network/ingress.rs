//! Ingresses and their classes.

use serde_json::Value;

use super::balancer_addresses;
use crate::columns::cells::{self, NONE};
use crate::columns::{AGE, ColumnSet, NAME};
use crate::meta::ObjectExt;
use crate::table::Column;

pub(in crate::columns) static INGRESS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Class", "The class that implements the ingress."),
        Column::text("Hosts", "Hosts that the rules are about."),
        Column::text("Address", "Where the ingress is reached."),
        Column::text("Ports", "Ports that are open."),
        AGE,
    ],
    |object, now| {
        let ports = if object.list(&["spec", "tls"]).is_empty() {
            "80"
        } else {
            "80, 443"
        };
        vec![
            cells::name(object),
            cells::text_or(object, &["spec", "ingressClassName"], NONE),
            hosts(object).into(),
            balancer_addresses(object).join(",").into(),
            ports.into(),
            cells::age(object, now),
        ]
    },
);

fn hosts(ingress: &Value) -> String {
    const SHOWN: usize = 3;
    let rules = ingress.list(&["spec", "rules"]);
    let hosts: Vec<&str> = rules
        .iter()
        .map(|rule| rule.text(&["host"]))
        .filter(|host| !host.is_empty())
        .collect();
    match hosts.len() {
        0 => "*".to_owned(),
        n if n > SHOWN => format!(
            "{} + {} more...",
            hosts[..SHOWN].join(","),
            rules.len() - SHOWN
        ),
        _ => hosts.join(","),
    }
}

pub(in crate::columns) static INGRESS_CLASS: ColumnSet = ColumnSet::new(
    &[
        NAME,
        Column::text("Controller", "What implements the class."),
        Column::text("Parameters", "The object with the class's settings."),
        AGE,
    ],
    |object, now| {
        let is_default =
            object.annotation("ingressclass.kubernetes.io/is-default-class") == Some("true");
        let name = if is_default {
            format!("{} (default)", object.name())
        } else {
            object.name().to_owned()
        };
        let parameters = object.field(&["spec", "parameters"]).map(|parameters| {
            let group = match parameters.text(&["apiGroup"]) {
                "" => String::new(),
                group => format!(".{group}"),
            };
            format!(
                "{}{group}/{}",
                parameters.text(&["kind"]),
                parameters.text(&["name"])
            )
        });
        vec![
            name.into(),
            cells::text(object, &["spec", "controller"]),
            parameters.unwrap_or_else(|| NONE.to_owned()).into(),
            cells::age(object, now),
        ]
    },
);

#[cfg(test)]
mod tests {
    use expect_test::expect;
    use serde_json::json;

    use super::*;
    use crate::columns::check::check;

    #[test]
    fn ingresses() {
        check(
            &INGRESS,
            json!({"metadata": {}, "spec": {"tls": [{}], "rules": [{"host": "a"}, {}, {"host": "b"}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}}}),
            expect!["x | <none> | a,b | 1.2.3.4,h | 80, 443 | 10m"],
        );
        check(
            &INGRESS_CLASS,
            json!({"metadata": {"annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
                "spec": {"controller": "c", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}}),
            expect!["x (default) | c | K.g/n | 10m"],
        );
    }
}
