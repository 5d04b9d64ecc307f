//! Bootstrap tokens: `ID.SECRET`, kept as Secrets of type `bootstrap.kubernetes.io/token` in `kube-system`, by which a new
//! node shows itself before it has a certificate.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::Value;

use crate::identity::UserInfo;
use crate::plugin::ObjectReader;

const NAMESPACE: &str = "kube-system";
const SECRET_TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
const ID_LENGTH: usize = 6;
const SECRET_LENGTH: usize = 16;

/// The user that a bootstrap token stands for; none if it is no such token or not a good one.
pub(crate) fn bootstrap_user(
    reader: &dyn ObjectReader,
    token: &str,
    now: Timestamp,
) -> Option<UserInfo> {
    let (id, secret) = token.split_once('.')?;
    let is_word = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
    };
    if !is_word(id, ID_LENGTH) || !is_word(secret, SECRET_LENGTH) {
        return None;
    }
    let object = reader.get("", "secrets", NAMESPACE, &format!("bootstrap-token-{id}"))?;
    if !object["metadata"]["deletionTimestamp"].is_null() || object["type"] != SECRET_TYPE {
        return None;
    }
    let same = aws_lc_rs::constant_time::verify_slices_are_equal(
        &data(&object, "token-secret")?,
        secret.as_bytes(),
    );
    if same.is_err() || data(&object, "token-id")? != id.as_bytes() {
        return None;
    }
    if let Some(expiration) = data(&object, "expiration").filter(|e| !e.is_empty()) {
        // One that cannot be read has passed.
        let expiration: Timestamp = std::str::from_utf8(&expiration).ok()?.parse().ok()?;
        if expiration <= now {
            return None;
        }
    }
    if data(&object, "usage-bootstrap-authentication")? != b"true" {
        return None;
    }
    let mut groups = vec![GROUP.to_owned()];
    let extra = String::from_utf8(data(&object, "auth-extra-groups").unwrap_or_default()).ok()?;
    for group in extra.split(',').filter(|g| !g.is_empty()) {
        if !is_extra_group(group) {
            return None;
        }
        groups.push(group.to_owned());
    }
    Some(UserInfo {
        name: format!("system:bootstrap:{id}"),
        groups,
        ..UserInfo::default()
    })
}

fn data(secret: &Value, key: &str) -> Option<Vec<u8>> {
    STANDARD.decode(secret["data"].get(key)?.as_str()?).ok()
}

fn is_extra_group(group: &str) -> bool {
    group
        .strip_prefix("system:bootstrappers:")
        .is_some_and(|rest| {
            (1..=256).contains(&rest.len())
                && rest
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b':' || b == b'-')
                && rest
                    .bytes()
                    .last()
                    .is_some_and(|b| b.is_ascii_alphanumeric())
        })
}
