//! Go's `%q` and `json.Marshal` spellings, which upstream's messages contain.
//!
//! Clients compare messages, so a quoted name must be escaped as Go does. Knows nothing but text.

use std::fmt::Write;

use serde_json::Value;

/// Quotes as Go's `%q`: printable Unicode stays, control characters and quotes are escaped.
pub fn go_quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => {
                push(&mut out, format_args!("\\x{:02x}", c as u32))
            }
            c if is_printable(c) => out.push(c),
            c if (c as u32) < 0x10000 => push(&mut out, format_args!("\\u{:04x}", c as u32)),
            c => push(&mut out, format_args!("\\U{:08x}", c as u32)),
        }
    }
    out.push('"');
    out
}

/// Compact JSON as Go's `json.Marshal` writes it: `<`, `>`, `&`, U+2028 and U+2029 are escaped.
pub fn go_json(value: &Value) -> String {
    let plain = value.to_string();
    let special = ['<', '>', '&', '\u{2028}', '\u{2029}'];
    if !plain.contains(special) {
        return plain;
    }
    let mut out = String::with_capacity(plain.len() + 16);
    for c in plain.chars() {
        if special.contains(&c) {
            push(&mut out, format_args!("\\u{:04x}", c as u32));
        } else {
            out.push(c);
        }
    }
    out
}

fn push(out: &mut String, args: std::fmt::Arguments<'_>) {
    out.write_fmt(args)
        .expect("writing to a String does not fail");
}

// Go asks for Unicode's printable categories; what differs in practice are invisible spaces and format characters.
fn is_printable(c: char) -> bool {
    !(c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c as u32, 0xad | 0x200b..=0x200f | 0x202a..=0x202e | 0x2060..=0x206f | 0xfeff | 0xe000..=0xf8ff))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_as_go() {
        for (input, expected) in [
            ("web", r#""web""#),
            ("a\"b\\c\n\0", r#""a\"b\\c\n\x00""#),
            ("größe ✓", r#""größe ✓""#),
            ("zero\u{200b}width", r#""zero\u200bwidth""#),
        ] {
            assert_eq!(go_quote(input), expected);
        }
        assert_eq!(
            go_json(&serde_json::json!({"a": "<b>"})),
            r#"{"a":"\u003cb\u003e"}"#
        );
    }
}
