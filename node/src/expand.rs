//! `$(VAR)` references in commands, arguments and environment, as Kubernetes defines them. Pure.

/// Replaces each `$(NAME)` that `lookup` knows; an unknown one stays, and `$$` is a literal `$`.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|t| t.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => out.push_str(&format!("$({name})")),
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn references() {
        let check = |text: &str, expect: &str| {
            assert_eq!(
                expand(text, |n| (n == "A").then(|| "1".to_string())),
                expect,
                "{text}"
            );
        };
        check("$(A)-$(B)", "1-$(B)");
        check("$$(A) $A $", "$(A) $A $");
        check("$(A", "$(A");
        check("a$$$(A)", "a$1");
    }
}
