//! Looks into an object's JSON without parsing it: where metadata begins, a field's value, the labels.
//!
//! The input comes from the store, so it is well-formed; on anything else every function just answers `None`. One pass,
//! no allocation but for strings that hold escapes.

use std::borrow::Cow;

/// The raw JSON of the value at `path` below the object `json`.
pub(super) fn find<'a>(json: &'a [u8], path: &[&str]) -> Option<&'a [u8]> {
    let mut value = json;
    for step in path {
        value = members(value).find(|(key, _)| *key == step.as_bytes())?.1;
    }
    Some(value)
}

/// A scalar's text: a string's content, `true`, `12`. `None` for null, objects and lists.
pub(super) fn text(raw: &[u8]) -> Option<Cow<'_, str>> {
    match raw.first()? {
        b'"' if memchr::memchr(b'\\', raw).is_some() => {
            serde_json::from_slice::<String>(raw).ok().map(Cow::Owned)
        }
        b'"' => std::str::from_utf8(raw.get(1..raw.len() - 1)?)
            .ok()
            .map(Cow::Borrowed),
        b'{' | b'[' | b'n' => None,
        _ => std::str::from_utf8(raw).ok().map(Cow::Borrowed),
    }
}

/// The object that is the member `name` of the object `json`.
pub(crate) fn sub_object<'a>(json: &'a [u8], name: &str) -> Option<&'a [u8]> {
    find(json, &[name]).filter(|value| value.first() == Some(&b'{'))
}

/// The text of the scalar member `name` of the object `json`.
pub(crate) fn field_text<'a>(json: &'a [u8], name: &str) -> Option<Cow<'a, str>> {
    text(find(json, &[name])?)
}

/// Offset just behind the opening brace of `metadata`, and whether the metadata holds a resourceVersion.
pub(super) fn metadata_start(json: &[u8]) -> Option<(usize, bool)> {
    let metadata = find(json, &["metadata"])?;
    let at = metadata.as_ptr() as usize - json.as_ptr() as usize + 1;
    let has_version = members(metadata).any(|(key, _)| key == b"resourceVersion");
    (metadata.first() == Some(&b'{')).then_some((at, has_version))
}

/// The members of an object: raw keys without quotes, raw values. Ends at the first thing that is not well-formed.
pub(super) fn members(object: &[u8]) -> Members<'_> {
    let mut scanner = Scanner {
        json: object,
        at: 0,
    };
    scanner.space();
    let open = scanner.take(b'{');
    Members { scanner, open }
}

pub(super) struct Members<'a> {
    scanner: Scanner<'a>,
    open: bool,
}

impl<'a> Iterator for Members<'a> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        if !self.open {
            return None;
        }
        self.open = false;
        let scanner = &mut self.scanner;
        scanner.space();
        scanner.take(b',');
        scanner.space();
        let key = scanner.string()?;
        scanner.space();
        if !scanner.take(b':') {
            return None;
        }
        scanner.space();
        let value = scanner.value()?;
        self.open = true;
        Some((key.get(1..key.len() - 1)?, value))
    }
}

struct Scanner<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    fn peek(&self) -> Option<u8> {
        self.json.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    /// With its quotes.
    fn string(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        if !self.take(b'"') {
            return None;
        }
        loop {
            self.at += memchr::memchr2(b'"', b'\\', self.json.get(self.at..)?)?;
            if self.json[self.at] == b'"' {
                self.at += 1;
                return self.json.get(start..self.at);
            }
            self.at += 2;
        }
    }

    fn value(&mut self) -> Option<&'a [u8]> {
        let start = self.at;
        match self.peek()? {
            b'"' => return self.string(),
            b'{' | b'[' => self.nested()?,
            _ => {
                while !matches!(
                    self.peek(),
                    None | Some(b',' | b'}' | b']' | b' ' | b'\n' | b'\r' | b'\t')
                ) {
                    self.at += 1;
                }
            }
        }
        self.json.get(start..self.at)
    }

    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.string()?;
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn check(json: &str, path: &[&str], expect: Option<&str>) {
        let got = find(json.as_bytes(), path).map(|v| std::str::from_utf8(v).expect("utf-8"));
        assert_eq!(got, expect, "{json} {path:?}");
    }

    #[test]
    fn values_are_found() {
        let json = r#"{"a":{"x":"}\"","b":[1,{"c":2}], "d" : true},"e":-1.5e3,"f":"g"}"#;
        check(json, &["a", "x"], Some(r#""}\"""#));
        check(json, &["a", "b"], Some(r#"[1,{"c":2}]"#));
        check(json, &["a", "d"], Some("true"));
        check(json, &["e"], Some("-1.5e3"));
        check(json, &["f"], Some(r#""g""#));
        check(json, &["a", "c"], None);
        check(json, &["f", "x"], None);
        check("", &["a"], None);
        check("{\"a", &["a"], None);
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(key in "[a-z\"\\\\{}]{0,6}", text in ".{0,12}", n in any::<i64>()) {
            let value = json!({"first": {"z": [text.clone(), {"q": n}]}, key.clone(): {"inner": text.clone(), "n": n}});
            let json = value.to_string();
            let inner: Value = serde_json::from_slice(find(json.as_bytes(), &["first", "z"]).expect("found")).expect("json");
            prop_assert_eq!(&inner, &value["first"]["z"]);
            prop_assert_eq!(members(json.as_bytes()).count(), value.as_object().expect("object").len());
        }

        #[test]
        fn never_panics(json in "[\\[\\]{}\",:\\\\a1 ]{0,40}") {
            let _ = members(json.as_bytes()).count();
            let _ = metadata_start(json.as_bytes());
            let _ = find(json.as_bytes(), &["a", "a"]);
        }
    }
}
