//! Requests with every sort of credentials.

use http::{HeaderName, HeaderValue};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::json;

use super::impersonation::impersonated;
use super::*;
use crate::authz::Authorization;
use crate::pki::{KeyPairPem, Pki, PkiConfig};
use crate::rbac::bootstrap_objects;
use crate::testing::Objects;
use crate::tokens::TokenConfig;

struct Cluster {
    pki: Pki,
    tokens: ServiceAccountTokens,
    authentication: Authentication,
    objects: Arc<Objects>,
}

fn cluster() -> Cluster {
    let dir = tempfile::tempdir().expect("directory");
    let config = PkiConfig {
        node_name: "n".into(),
        advertise_address: "192.0.2.7".parse().expect("address"),
        service_address: "10.43.0.1".parse().expect("address"),
        cluster_domain: "cluster.local".into(),
        tls_sans: Vec::new(),
    };
    // The certificates live on in memory; node_identity is not asked for after the directory is gone.
    let pki = Pki::load_or_create(&dir.keep(), &config).expect("certificates");
    let objects = Arc::new(Objects::default());
    objects.put(
        "",
        "serviceaccounts",
        json!({"metadata": {"namespace": "a", "name": "sa", "uid": "u1"}}),
    );
    for object in bootstrap_objects() {
        objects.put("rbac.authorization.k8s.io", object.resource, object.object);
    }
    let key = pki.token_keys();
    let token_config = TokenConfig {
        issuer: "https://i".into(),
        audiences: vec!["https://i".into()],
        jwks_uri: String::new(),
    };
    let tokens = ServiceAccountTokens::new(token_config, key, objects.clone());
    let trust = pki.client_trust().expect("trust");
    let authentication = Authentication::new(trust, tokens.clone(), objects.clone(), true);
    Cluster {
        pki,
        tokens,
        authentication,
        objects,
    }
}

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(k, v): &(&str, &str)| {
        (
            HeaderName::try_from(*k).expect("name"),
            HeaderValue::from_str(v).expect("value"),
        )
    };
    list.iter().map(pair).collect()
}

fn peer(pair: &KeyPairPem) -> PeerCertificates {
    let der = CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("certificate");
    PeerCertificates(Arc::from([der]))
}

impl Cluster {
    async fn check(
        &self,
        list: &[(&str, &str)],
        pair: Option<&KeyPairPem>,
        expect: Result<(&str, &str), u16>,
    ) {
        let peer = pair.map(peer);
        let found = self
            .authentication
            .authenticate(&headers(list), peer.as_ref())
            .await;
        let found = found.map(|user| user.expect("someone")).map_err(|s| s.code);
        let found = found
            .as_ref()
            .map(|u| (u.name.clone(), u.groups.join(" ")))
            .map_err(|c| *c);
        assert_eq!(
            found,
            expect.map(|(n, g)| (n.to_owned(), g.to_owned())),
            "{list:?}"
        );
    }
}

#[tokio::test]
async fn users_are_known_by_their_credentials() {
    let cluster = cluster();
    let admin = cluster.pki.admin().expect("pair");
    let proxy = cluster.pki.front_proxy_client().expect("pair");
    let stranger = self::cluster().pki.admin().expect("pair");
    let now = Timestamp::now();
    let answer = cluster
        .tokens
        .create("a", "sa", json!({}), now)
        .await
        .expect("token");
    let token = format!(
        "Bearer {}",
        answer["status"]["token"].as_str().expect("token")
    );
    let account = (
        "system:serviceaccount:a:sa",
        "system:serviceaccounts system:serviceaccounts:a system:authenticated",
    );
    let nobody = ("system:anonymous", "system:unauthenticated");
    let administrator = ("kubernetes-admin", "system:masters system:authenticated");
    let remote = [
        ("x-remote-user", "jane"),
        ("x-remote-group", "g"),
        ("x-remote-group", "h"),
    ];

    cluster.check(&[], None, Ok(nobody)).await;
    cluster.check(&[], Some(&admin), Ok(administrator)).await;
    cluster.check(&[], Some(&stranger), Err(401)).await;
    cluster
        .check(&[("authorization", &token)], None, Ok(account))
        .await;
    cluster
        .check(&[("authorization", &token)], Some(&stranger), Ok(account))
        .await;
    cluster
        .check(
            &[("authorization", &token)],
            Some(&admin),
            Ok(administrator),
        )
        .await;
    cluster
        .check(&[("authorization", "Bearer nonsense")], None, Err(401))
        .await;
    cluster
        .check(&[("authorization", "Basic abc")], None, Ok(nobody))
        .await;
    cluster.check(&[], Some(&proxy), Err(401)).await;
    cluster
        .check(
            &remote,
            Some(&proxy),
            Ok(("jane", "g h system:authenticated")),
        )
        .await;
    cluster
        .check(&remote, Some(&admin), Ok(administrator))
        .await;
    cluster.check(&remote, None, Ok(nobody)).await;
    cluster.objects.remove("", "serviceaccounts", "a", "sa");
    cluster
        .check(&[("authorization", &token)], None, Err(401))
        .await;
}

#[test]
fn impersonation_needs_the_right() {
    let cluster = cluster();
    let authorization = Authorization::new(cluster.objects.clone());
    let check =
        |groups: &[&str], list: &[(&str, &str)], expect: Result<Option<(&str, &str)>, &str>| {
            let user = UserInfo {
                name: "jane".into(),
                groups: groups.iter().map(|g| (*g).into()).collect(),
                ..UserInfo::default()
            };
            let found = impersonated(&authorization, &user, &headers(list)).map_err(|s| s.message);
            let found = found.map(|u| u.map(|u| (u.name, u.groups.join(" "))));
            let expect = expect
                .map(|e| e.map(|(n, g)| (n.to_owned(), g.to_owned())))
                .map_err(String::from);
            assert_eq!(found, expect, "{list:?}");
        };
    let masters = &["system:masters"][..];
    check(masters, &[], Ok(None));
    check(
        masters,
        &[("impersonate-user", "joe")],
        Ok(Some(("joe", "system:authenticated"))),
    );
    check(
        masters,
        &[("impersonate-user", "system:serviceaccount:a:sa")],
        Ok(Some((
            "system:serviceaccount:a:sa",
            "system:serviceaccounts system:serviceaccounts:a system:authenticated",
        ))),
    );
    check(
        &[],
        &[("impersonate-user", "joe")],
        Err(
            r#"users "joe" is forbidden: User "jane" cannot impersonate resource "users" in API group "" at the cluster scope"#,
        ),
    );
}
