//! Tokens from request to user, and what makes them bad.

use std::sync::Arc;

use jiff::SignedDuration;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::testing::Objects;

const NOW: i64 = 1_800_000_000;

fn now() -> Timestamp {
    Timestamp::from_second(NOW).expect("time")
}

fn tokens() -> (Arc<Objects>, ServiceAccountTokens) {
    let objects = Arc::new(Objects::default());
    objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "a", "name": "sa", "uid": "u1"}}),
    );
    let pod = json!({
        "metadata": {"namespace": "a", "name": "p", "uid": "u2"},
        "spec": {"serviceAccountName": "sa", "nodeName": "n"},
    });
    objects.put("", "pods", pod);
    objects.put("", "nodes", json!({"metadata": {"name": "n", "uid": "u3"}}));
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let config = TokenConfig {
        issuer: issuer.into(),
        audiences: vec![issuer.into()],
        jwks_uri: "https://x/openid/v1/jwks".into(),
    };
    let pem = rcgen::KeyPair::generate().expect("key").serialize_pem();
    let key = TokenKeys::from_pems(&[pem]).expect("key");
    (
        objects.clone(),
        ServiceAccountTokens::new(config, key, objects),
    )
}

async fn issue(tokens: &ServiceAccountTokens, spec: Value) -> Result<String, String> {
    let answer = tokens
        .create("a", "sa", json!({"spec": spec}), now())
        .await
        .map_err(|s| s.message)?;
    Ok(answer["status"]["token"]
        .as_str()
        .expect("token")
        .to_owned())
}

#[tokio::test]
async fn a_bound_token_is_good_while_its_objects_are_there() {
    let (objects, tokens) = tokens();
    let spec = json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p"}});
    let token = issue(&tokens, spec).await.expect("issued");
    let check = |at: Timestamp| {
        tokens
            .authenticate(&token, &[], at)
            .expect("ours")
            .map(|(user, _)| user)
    };
    let user = check(now()).expect("good");
    assert_eq!(user.name, "system:serviceaccount:a:sa");
    assert_eq!(
        user.groups,
        ["system:serviceaccounts", "system:serviceaccounts:a"]
    );
    assert_eq!(user.extra["authentication.kubernetes.io/pod-name"], ["p"]);
    assert_eq!(user.extra["authentication.kubernetes.io/node-uid"], ["u3"]);
    assert_eq!(
        check(now() + SignedDuration::from_hours(2)),
        Err(TokenError::Expired)
    );
    assert_eq!(
        check(now() - SignedDuration::from_hours(2)),
        Err(TokenError::NotValidYet)
    );
    objects.remove("", "pods", "a", "p");
    assert_eq!(check(now()), Err(TokenError::Invalidated));
    objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "a", "name": "sa", "uid": "u9"}}),
    );
    assert!(matches!(check(now()), Err(TokenError::OtherUid { .. })));
}

#[tokio::test]
async fn signature_and_audience_are_checked() {
    let (_, tokens) = tokens();
    let token = issue(&tokens, json!({"audiences": ["vault"]}))
        .await
        .expect("issued");
    assert!(matches!(
        tokens.authenticate(&token, &[], now()),
        Some(Err(TokenError::Audience { .. }))
    ));
    let (_, audiences) = tokens
        .authenticate(&token, &["vault".into(), "b".into()], now())
        .expect("ours")
        .expect("good");
    assert_eq!(audiences, ["vault"]);
    let (_, others) = self::tokens();
    let forged = issue(&others, json!({})).await.expect("issued");
    assert_eq!(
        tokens.authenticate(&forged, &[], now()),
        Some(Err(TokenError::Invalid))
    );
    assert_eq!(tokens.authenticate("abc", &[], now()), None);
}

#[tokio::test]
async fn requests_are_validated() {
    let (_, tokens) = tokens();
    let check = async |spec: Value, expect: &str| {
        assert_eq!(issue(&tokens, spec).await.expect_err("refused"), expect);
    };
    check(
        json!({"expirationSeconds": 60}),
        "TokenRequest.authentication.k8s.io \"\" is invalid: spec.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
    )
    .await;
    check(
        json!({"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "q"}}),
        "pods \"q\" not found",
    )
    .await;
    check(
        json!({"boundObjectRef": {"kind": "Deployment", "apiVersion": "apps/v1", "name": "q"}}),
        "cannot bind token to object of type apps/v1, Kind=Deployment",
    )
    .await;
}

#[tokio::test]
async fn tokens_of_the_key_before_are_good_until_the_change_is_finished() {
    let (_, tokens) = tokens();
    let (first, second) = (rcgen::KeyPair::generate(), rcgen::KeyPair::generate());
    let first = first.expect("key").serialize_pem();
    let second = second.expect("key").serialize_pem();
    let keys = &tokens.0.keys;
    keys.replace(&[&first]).expect("keys");
    let before = issue(&tokens, json!({})).await.expect("issued");
    let is_good = |token: &str| matches!(tokens.authenticate(token, &[], now()), Some(Ok(_)));
    assert!(is_good(&before));
    keys.replace(&[&second, &first]).expect("keys");
    let after = issue(&tokens, json!({})).await.expect("issued");
    assert!(is_good(&before) && is_good(&after), "both are believed");
    assert_eq!(keys.jwks().len(), 2);
    keys.replace(&[&second]).expect("keys");
    assert!(!is_good(&before), "not even where it is remembered");
    assert!(is_good(&after));
    assert!(keys.replace(&["garbage"]).is_err() && is_good(&after));
}

#[test]
fn keys_are_published() {
    let (_, tokens) = tokens();
    let shared = &tokens.0;
    let key = &TokenConfig::key_set(&shared.keys)["keys"][0];
    assert_eq!(
        (
            key["alg"].as_str(),
            key["use"].as_str(),
            key["kty"].as_str()
        ),
        (Some("ES256"), Some("sig"), Some("EC"))
    );
    assert_eq!(
        shared.config.openid_configuration(&shared.keys)["id_token_signing_alg_values_supported"],
        json!(["ES256"])
    );
}

#[test]
fn bootstrap_tokens() {
    use base64::Engine;
    let objects = Objects::default();
    let put = |expiration: &str, groups: &str| {
        let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
        objects.put(
            "",
            "secrets",
            json!({
                "metadata": {"namespace": "kube-system", "name": "bootstrap-token-abcdef"},
                "type": "bootstrap.kubernetes.io/token",
                "data": {
                    "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                    "usage-bootstrap-authentication": encode("true"),
                    "expiration": encode(expiration), "auth-extra-groups": encode(groups),
                },
            }),
        );
    };
    let check =
        |token: &str| bootstrap_user(&objects, token, now()).map(|u| (u.name, u.groups.join(" ")));
    put(
        "2099-01-01T00:00:00Z",
        "system:bootstrappers:kubeadm:default-node-token",
    );
    let good = (
        "system:bootstrap:abcdef".into(),
        "system:bootstrappers system:bootstrappers:kubeadm:default-node-token".into(),
    );
    assert_eq!(check("abcdef.0123456789abcdef"), Some(good));
    assert_eq!(check("abcdef.0123456789abcdee"), None);
    assert_eq!(check("abcdeg.0123456789abcdef"), None);
    put("2001-01-01T00:00:00Z", "");
    assert_eq!(check("abcdef.0123456789abcdef"), None);
    put("", "system:masters");
    assert_eq!(check("abcdef.0123456789abcdef"), None);
}
