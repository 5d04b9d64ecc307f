//! A ruleset as data, and the difference of two rulesets as one `nft` transaction.
//!
//! Only what changed is touched, so that session affinity and counters of other Services live on. It must not know what
//! the rules mean.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A set or map. Its specification never changes under one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Set {
    /// `set` or `map`.
    pub(super) kind: &'static str,
    /// `type …; flags …;`
    pub(super) specification: String,
    /// Key to value; sets have no values. Filled by packets and not by us where `flags dynamic` is given.
    pub(super) elements: BTreeMap<String, String>,
}

/// A chain. Whether and where it is hooked never changes under one name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Chain {
    /// `type … hook … priority …; policy …;` or nothing.
    pub(super) hook: String,
    pub(super) rules: Vec<String>,
}

/// The content of one table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ruleset {
    pub(super) sets: BTreeMap<String, Set>,
    pub(super) chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    pub(super) fn set(&mut self, kind: &'static str, name: &str, specification: &str) {
        let set = Set {
            kind,
            specification: specification.to_owned(),
            elements: BTreeMap::new(),
        };
        self.sets.insert(name.to_owned(), set);
    }

    /// Adds an element to a set that was declared before. The first of two equal keys wins.
    pub(super) fn element(&mut self, set: &str, key: String, value: String) {
        let set = self.sets.get_mut(set).expect("every set is declared first");
        set.elements.entry(key).or_insert(value);
    }

    pub(super) fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.chains.insert(
            name.to_owned(),
            Chain {
                hook: String::new(),
                rules,
            },
        );
    }

    pub(super) fn hook(&mut self, name: &str, hook: &str, rules: Vec<String>) {
        self.chains.insert(
            name.to_owned(),
            Chain {
                hook: hook.to_owned(),
                rules,
            },
        );
    }
}

/// The whole table as a replacement of whatever was there.
pub(super) fn full(table: &str, new: &Ruleset) -> String {
    let mut out = format!("add table {table}\ndelete table {table}\nadd table {table}\n");
    out.push_str(&difference(table, &Ruleset::default(), new));
    out
}

/// What leads from `old` to `new`; empty when they are equal.
pub(super) fn difference(table: &str, old: &Ruleset, new: &Ruleset) -> String {
    let mut out = String::new();
    declare(&mut out, table, old, new);
    // References go before what they refer to, and come after it.
    for (name, chain) in &old.chains {
        if new.chains.get(name) != Some(chain) {
            line(&mut out, format_args!("flush chain {table} {name}"));
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map(|set| &set.elements);
        let gone = before
            .into_iter()
            .flatten()
            .filter(|(key, value)| set.elements.get(*key) != Some(*value));
        elements(
            &mut out,
            "delete",
            table,
            name,
            gone.map(|(key, _)| (key, "")),
        );
    }
    for (name, chain) in &new.chains {
        if old.chains.get(name) != Some(chain) {
            for rule in &chain.rules {
                line(&mut out, format_args!("add rule {table} {name} {rule}"));
            }
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map(|set| &set.elements);
        let added = set
            .elements
            .iter()
            .filter(|(key, value)| before.and_then(|b| b.get(*key)) != Some(*value));
        elements(
            &mut out,
            "add",
            table,
            name,
            added.map(|(key, value)| (key, value.as_str())),
        );
    }
    for name in old
        .chains
        .keys()
        .filter(|name| !new.chains.contains_key(*name))
    {
        line(&mut out, format_args!("delete chain {table} {name}"));
    }
    for (name, set) in old
        .sets
        .iter()
        .filter(|(name, _)| !new.sets.contains_key(*name))
    {
        line(&mut out, format_args!("delete {} {table} {name}", set.kind));
    }
    out
}

fn declare(out: &mut String, table: &str, old: &Ruleset, new: &Ruleset) {
    for (name, set) in new
        .sets
        .iter()
        .filter(|(name, _)| !old.sets.contains_key(*name))
    {
        line(
            out,
            format_args!(
                "add {} {table} {name} {{ {} }}",
                set.kind, set.specification
            ),
        );
    }
    for (name, chain) in new
        .chains
        .iter()
        .filter(|(name, _)| !old.chains.contains_key(*name))
    {
        match chain.hook.as_str() {
            "" => line(out, format_args!("add chain {table} {name}")),
            hook => line(out, format_args!("add chain {table} {name} {{ {hook} }}")),
        }
    }
}

fn elements<'a>(
    out: &mut String,
    verb: &str,
    table: &str,
    set: &str,
    elements: impl Iterator<Item = (&'a String, &'a str)>,
) {
    let texts: Vec<String> = elements
        .map(|(key, value)| {
            if value.is_empty() {
                key.clone()
            } else {
                format!("{key} : {value}")
            }
        })
        .collect();
    if !texts.is_empty() {
        line(
            out,
            format_args!("{verb} element {table} {set} {{ {} }}", texts.join(", ")),
        );
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("a String takes everything");
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn ruleset(services: &[(&str, &str)]) -> Ruleset {
        let mut ruleset = Ruleset::default();
        ruleset.set("map", "ips", "type ipv4_addr : verdict;");
        ruleset.hook(
            "prerouting",
            "type nat hook prerouting priority dstnat;",
            vec!["ip daddr vmap @ips".into()],
        );
        for (name, to) in services {
            ruleset.chain(name, vec![format!("dnat to {to}")]);
            ruleset.element(
                "ips",
                format!("10.43.0.{}", name.len()),
                format!("goto {name}"),
            );
        }
        ruleset
    }

    fn check(old: &Ruleset, new: &Ruleset, expect: Expect) {
        expect.assert_eq(&difference("ip x", old, new));
    }

    #[test]
    fn only_changes_are_written() {
        let one = ruleset(&[("a", "10.42.0.1")]);
        check(
            &Ruleset::default(),
            &one,
            expect![[r#"
                add map ip x ips { type ipv4_addr : verdict; }
                add chain ip x a
                add chain ip x prerouting { type nat hook prerouting priority dstnat; }
                add rule ip x a dnat to 10.42.0.1
                add rule ip x prerouting ip daddr vmap @ips
                add element ip x ips { 10.43.0.1 : goto a }
            "#]],
        );
        check(&one, &one, expect![""]);
        check(
            &one,
            &ruleset(&[("a", "10.42.0.2"), ("bb", "10.42.0.3")]),
            expect![[r#"
                add chain ip x bb
                flush chain ip x a
                add rule ip x a dnat to 10.42.0.2
                add rule ip x bb dnat to 10.42.0.3
                add element ip x ips { 10.43.0.2 : goto bb }
            "#]],
        );
        check(
            &one,
            &ruleset(&[("c", "10.42.0.1")]),
            expect![[r#"
                add chain ip x c
                flush chain ip x a
                delete element ip x ips { 10.43.0.1 }
                add rule ip x c dnat to 10.42.0.1
                add element ip x ips { 10.43.0.1 : goto c }
                delete chain ip x a
            "#]],
        );
    }
}
