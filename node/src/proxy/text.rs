//! A ruleset as data, and the steps that lead from one ruleset to another, each a transaction for `nft`.
//!
//! A transaction is atomic for rules, but a packet that is on its way through them while it takes effect may still
//! look into a map that belonged to a replaced rule, and find it empty. So a chain never changes: its name says what
//! is in it, a new one is put beside it, then the elements that lead there are switched, then the old one is removed.
//! It must not know what the rules mean.

use std::collections::BTreeMap;
use std::fmt::Write;

use sha2::{Digest, Sha256};

/// How many digits of the hash of its rules a chain's name carries.
const HASH_DIGITS: usize = 10;

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

    /// A chain that is there as long as the table is.
    pub(super) fn fixed_chain(&mut self, name: &str, rules: Vec<String>) {
        let hook = String::new();
        self.chains.insert(name.to_owned(), Chain { hook, rules });
    }

    /// A chain that comes and goes. Gives its whole name, which is another one for other rules.
    pub(super) fn chain(&mut self, name: &str, rules: Vec<String>) -> String {
        let mut hash = hex::encode(Sha256::digest(rules.join("\n")));
        hash.truncate(HASH_DIGITS);
        let name = format!("{name}-{hash}");
        self.fixed_chain(&name, rules);
        name
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

/// The whole table as a replacement of whatever was there, in one transaction.
pub(super) fn full(table: &str, new: &Ruleset) -> String {
    let mut out = format!("add table {table}\ndelete table {table}\nadd table {table}\n");
    out.extend(difference(table, &Ruleset::default(), new));
    out
}

/// The transactions that lead from `old` to `new`, in order; none when they are equal.
pub(super) fn difference(table: &str, old: &Ruleset, new: &Ruleset) -> Vec<String> {
    let steps = [
        add(table, old, new),
        switch(table, old, new),
        remove(table, old, new),
    ];
    steps.into_iter().filter(|step| !step.is_empty()).collect()
}

/// What is new, with nothing leading there yet.
fn add(table: &str, old: &Ruleset, new: &Ruleset) -> String {
    let mut out = String::new();
    declare(&mut out, table, old, new);
    for (name, chain) in &new.chains {
        if !old.chains.contains_key(name) {
            for rule in &chain.rules {
                line(&mut out, format_args!("add rule {table} {name} {rule}"));
            }
        }
    }
    out
}

/// Elements, and the fixed chains that changed.
fn switch(table: &str, old: &Ruleset, new: &Ruleset) -> String {
    let mut out = String::new();
    for (name, chain) in &new.chains {
        if old.chains.get(name).is_some_and(|before| before != chain) {
            line(&mut out, format_args!("flush chain {table} {name}"));
            for rule in &chain.rules {
                line(&mut out, format_args!("add rule {table} {name} {rule}"));
            }
        }
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map(|set| &set.elements);
        let gone = before
            .into_iter()
            .flatten()
            .filter(|(key, value)| set.elements.get(*key) != Some(*value))
            .map(|(key, _)| (key, ""));
        elements(&mut out, "delete", table, name, gone);
    }
    for (name, set) in &new.sets {
        let before = old.sets.get(name).map(|set| &set.elements);
        let added = set
            .elements
            .iter()
            .filter(|(key, value)| before.and_then(|b| b.get(*key)) != Some(*value))
            .map(|(key, value)| (key, value.as_str()));
        elements(&mut out, "add", table, name, added);
    }
    out
}

/// What nothing leads to any more.
fn remove(table: &str, old: &Ruleset, new: &Ruleset) -> String {
    let mut out = String::new();
    let chains = || {
        old.chains
            .keys()
            .filter(|name| !new.chains.contains_key(*name))
    };
    // They may refer to each other.
    for name in chains() {
        line(&mut out, format_args!("flush chain {table} {name}"));
    }
    for name in chains() {
        line(&mut out, format_args!("delete chain {table} {name}"));
    }
    for (name, set) in &old.sets {
        if !new.sets.contains_key(name) {
            line(&mut out, format_args!("delete {} {table} {name}", set.kind));
        }
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
            let chain = ruleset.chain(name, vec![format!("dnat to {to}")]);
            ruleset.element(
                "ips",
                format!("10.43.0.{}", name.len()),
                format!("goto {chain}"),
            );
        }
        ruleset
    }

    fn check(old: &Ruleset, new: &Ruleset, expect: Expect) {
        expect.assert_eq(&difference("ip x", old, new).join("---\n"));
    }

    #[test]
    fn only_changes_are_written() {
        let one = ruleset(&[("a", "10.42.0.1")]);
        check(
            &Ruleset::default(),
            &one,
            expect![[r#"
                add map ip x ips { type ipv4_addr : verdict; }
                add chain ip x a-9cc8c24cc3
                add chain ip x prerouting { type nat hook prerouting priority dstnat; }
                add rule ip x a-9cc8c24cc3 dnat to 10.42.0.1
                add rule ip x prerouting ip daddr vmap @ips
                ---
                add element ip x ips { 10.43.0.1 : goto a-9cc8c24cc3 }
            "#]],
        );
        check(&one, &one, expect![""]);
        check(
            &one,
            &ruleset(&[("a", "10.42.0.2"), ("bb", "10.42.0.3")]),
            expect![[r#"
                add chain ip x a-8f209b32e7
                add chain ip x bb-52e02bec55
                add rule ip x a-8f209b32e7 dnat to 10.42.0.2
                add rule ip x bb-52e02bec55 dnat to 10.42.0.3
                ---
                delete element ip x ips { 10.43.0.1 }
                add element ip x ips { 10.43.0.1 : goto a-8f209b32e7, 10.43.0.2 : goto bb-52e02bec55 }
                ---
                flush chain ip x a-9cc8c24cc3
                delete chain ip x a-9cc8c24cc3
            "#]],
        );
        check(
            &one,
            &ruleset(&[("c", "10.42.0.1")]),
            expect![[r#"
                add chain ip x c-9cc8c24cc3
                add rule ip x c-9cc8c24cc3 dnat to 10.42.0.1
                ---
                delete element ip x ips { 10.43.0.1 }
                add element ip x ips { 10.43.0.1 : goto c-9cc8c24cc3 }
                ---
                flush chain ip x a-9cc8c24cc3
                delete chain ip x a-9cc8c24cc3
            "#]],
        );
    }
}
