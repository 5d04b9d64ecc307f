//! Checks of names that stand inside objects: keys of ConfigMaps, ports, environment variables, HTTP headers.

use super::{MAX_SUBDOMAIN_LENGTH, regex_error, too_many_characters};

fn parent_directory_errors(value: &str) -> Option<String> {
    match value {
        "." | ".." => Some(format!("must not be '{value}'")),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

/// A key of a ConfigMap or Secret.
pub fn config_map_key_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > MAX_SUBDOMAIN_LENGTH {
        errors.push(too_many_characters(MAX_SUBDOMAIN_LENGTH));
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    if value.is_empty() || !value.bytes().all(allowed) {
        errors.push(regex_error(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    errors.extend(parent_directory_errors(value));
    errors
}

/// The name of an environment variable: any printable ASCII but `=` (KEP-4369).
pub fn env_var_name_errors(value: &str) -> Vec<String> {
    if value.is_empty() {
        return vec!["environment variable name must be non-empty".to_owned()];
    }
    if value
        .bytes()
        .all(|b| (0x20..0x7f).contains(&b) && b != b'=')
    {
        return Vec::new();
    }
    vec![
        "a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned(),
    ]
}

/// The name of a port (IANA service name).
pub fn port_name_errors(value: &str) -> Vec<String> {
    let mut errors = Vec::new();
    if value.len() > 15 {
        errors.push(too_many_characters(15));
    }
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if value.is_empty() || !value.bytes().all(allowed) {
        errors.push(
            "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned(),
        );
    }
    if !value.bytes().any(|b| b.is_ascii_lowercase()) {
        errors.push("must contain at least one letter (a-z)".to_owned());
    }
    if value.contains("--") {
        errors.push("must not contain consecutive hyphens".to_owned());
    }
    if value.starts_with('-') || value.ends_with('-') {
        errors.push("must not begin or end with a hyphen".to_owned());
    }
    errors
}

/// A port number that is not zero.
pub fn port_number_errors(port: i64) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

/// The name of an HTTP header.
pub fn http_header_name_errors(value: &str) -> Vec<String> {
    if !value.is_empty()
        && value
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    {
        return Vec::new();
    }
    vec![regex_error(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_checked() {
        assert!(config_map_key_errors("app.conf").is_empty());
        assert_eq!(config_map_key_errors("..x"), ["must not start with '..'"]);
        assert_eq!(config_map_key_errors("a/b").len(), 1);
        assert!(port_name_errors("http").is_empty());
        assert_eq!(
            port_name_errors("80"),
            ["must contain at least one letter (a-z)"]
        );
        assert_eq!(
            port_number_errors(0),
            ["must be between 1 and 65535, inclusive"]
        );
        assert!(env_var_name_errors("a b").is_empty());
        assert_eq!(env_var_name_errors("a=b").len(), 1);
    }
}
