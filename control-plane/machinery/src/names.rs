//! What names, labels and keys may look like, with upstream's sentences when they do not.
//!
//! Each check returns the list of sentences (empty when all is well); the caller adds the field. The checks read bytes and
//! use no regular expressions, since every write passes through them. The patterns appear only in the sentences.

mod generate;
mod keys;

pub use generate::{GENERATED_SUFFIX_LENGTH, MAX_GENERATED_BASE_LENGTH, generate_name};
pub use keys::{
    config_map_key_errors, env_var_name_errors, http_header_name_errors, port_name_errors,
    port_number_errors,
};

/// Longest DNS label, qualified name without prefix, and label value.
pub const MAX_LABEL_LENGTH: usize = 63;
/// Longest DNS subdomain.
pub const MAX_SUBDOMAIN_LENGTH: usize = 253;

const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const QUALIFIED: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

pub(crate) fn regex_error(message: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples
        .iter()
        .map(|example| format!("'{example}', "))
        .collect();
    if examples.is_empty() {
        return format!("{message} (regex used for validation is '{pattern}')");
    }
    format!(
        "{message} (e.g. {}regex used for validation is '{pattern}')",
        examples.join(" or ")
    )
}

pub(crate) fn too_many_characters(max: usize) -> String {
    format!("must be no more than {max} characters")
}

fn too_many_bytes(max: usize) -> String {
    format!("must be no more than {max} bytes")
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

/// `[ends]([ends or inner]*[ends])?`
fn matches(value: &str, ends: impl Fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = value.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    ends(*first) && ends(*last) && bytes.iter().all(|b| ends(*b) || inner.contains(b))
}

fn is_label(value: &str) -> bool {
    matches(value, is_lower_alphanumeric, b"-")
}

fn is_subdomain(value: &str) -> bool {
    value.split('.').all(is_label)
}

/// A label of DNS (RFC 1123): namespaces, container names, ports of services.
pub fn dns_label_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_LABEL_LENGTH {
        errors.push(too_many_characters(MAX_LABEL_LENGTH));
    }
    if !is_label(value) {
        errors.push(if is_subdomain(value) {
            "must not contain dots".to_owned()
        } else {
            regex_error(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                 start and end with an alphanumeric character",
                LABEL,
                &["my-name", "123-abc"],
            )
        });
    }
    errors
}

fn subdomain_errors(value: &str, too_long: fn(usize) -> String) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_SUBDOMAIN_LENGTH {
        errors.push(too_long(MAX_SUBDOMAIN_LENGTH));
    }
    if !is_subdomain(value) {
        errors.push(regex_error(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
             start and end with an alphanumeric character",
            SUBDOMAIN,
            &["example.com"],
        ));
    }
    errors
}

/// A subdomain of DNS (RFC 1123): the names of most objects.
pub fn dns_subdomain_errors(value: &str) -> Vec<String> {
    subdomain_errors(value, too_many_characters)
}

/// A label of DNS (RFC 1035), which begins with a letter.
pub fn dns_1035_label_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_LABEL_LENGTH {
        errors.push(too_many_characters(MAX_LABEL_LENGTH));
    }
    if !is_label(value) || !value.as_bytes()[0].is_ascii_lowercase() {
        errors.push(regex_error(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
             character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    errors
}

/// A DNS subdomain whose first label is `*`.
pub fn wildcard_subdomain_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_SUBDOMAIN_LENGTH {
        errors.push(too_many_characters(MAX_SUBDOMAIN_LENGTH));
    }
    if !value.strip_prefix("*.").is_some_and(is_subdomain) {
        errors.push(regex_error(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
             consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN}"),
            &["*.example.com"],
        ));
    }
    errors
}

/// A name with an optional DNS subdomain and a slash before it: keys of labels and annotations, finalizers, resources.
pub fn qualified_name_errors(value: &str) -> Vec<String> {
    const WORDS: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
                         alphanumeric character";
    const EXAMPLES: [&str; 3] = ["MyName", "my.name", "123-abc"];
    let mut errors = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, rest)) if rest.contains('/') => {
            return vec![format!(
                "a valid label key {} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
                regex_error(WORDS, QUALIFIED, &EXAMPLES)
            )];
        }
        Some((prefix, name)) => {
            if prefix.is_empty() {
                errors.push("prefix part must be non-empty".to_owned());
            } else {
                let wrong = subdomain_errors(prefix, too_many_bytes);
                errors.extend(wrong.into_iter().map(|e| format!("prefix part {e}")));
            }
            name
        }
    };
    if name.is_empty() {
        errors.push("name part must be non-empty".to_owned());
    } else if name.len() > MAX_LABEL_LENGTH {
        errors.push(format!("name part {}", too_many_bytes(MAX_LABEL_LENGTH)));
    }
    if !matches(name, |b| b.is_ascii_alphanumeric(), b"-_.") {
        errors.push(format!(
            "name part {}",
            regex_error(WORDS, QUALIFIED, &EXAMPLES)
        ));
    }
    errors
}

/// The value of a label; it may be empty.
pub fn label_value_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_LABEL_LENGTH {
        errors.push(too_many_bytes(MAX_LABEL_LENGTH));
    }
    if !value.is_empty() && !matches(value, |b| b.is_ascii_alphanumeric(), b"-_.") {
        errors.push(regex_error(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
             start and end with an alphanumeric character",
            &format!("({QUALIFIED})?"),
            &["MyValue", "my_value", "12345"],
        ));
    }
    errors
}

/// A name that can stand in a path: what RBAC kinds allow.
pub fn path_segment_errors(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|part| value.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(errors: Vec<String>, expected: &[&str]) {
        assert_eq!(errors, expected);
    }

    #[test]
    fn well_formed_names_pass() {
        check(dns_label_errors("my-name"), &[]);
        check(dns_subdomain_errors("a.b-c.9"), &[]);
        check(dns_1035_label_errors("abc-1"), &[]);
        check(qualified_name_errors("example.com/My_Name.1"), &[]);
        check(label_value_errors(""), &[]);
        check(path_segment_errors("system:node"), &[]);
        check(wildcard_subdomain_errors("*.example.com"), &[]);
    }

    #[test]
    fn sentences_are_upstreams() {
        check(dns_label_errors("a.b"), &["must not contain dots"]);
        check(
            dns_label_errors("A"),
            &[
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
               and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
               '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            ],
        );
        check(
            dns_subdomain_errors("a..b"),
            &[
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and \
               must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
               '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ],
        );
        assert_eq!(dns_1035_label_errors("1a").len(), 1);
        assert_eq!(qualified_name_errors("a/b/c").len(), 1);
        assert_eq!(
            qualified_name_errors("/b"),
            ["prefix part must be non-empty"]
        );
        assert_eq!(
            label_value_errors(&"x".repeat(64)),
            ["must be no more than 63 bytes"]
        );
        check(path_segment_errors("a/b"), &["may not contain '/'"]);
        check(path_segment_errors(".."), &["may not be '..'"]);
    }
}
