//! A change of the CA seen by all who trust the old one, the new one, or both.

use std::path::Path;

use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::UnixTime;

use super::super::client_trust::{ClientTrust, PeerCertificate};
use super::super::tls::LiveRoots;
use super::super::{Pki, files};
use super::*;

type Der = CertificateDer<'static>;

fn chain(pem: &str) -> Vec<Der> {
    let found = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>();
    found.expect("certificates")
}

/// Does the step on the files of `dir`, as a master that is told of it.
fn step(pki: &Pki, dir: &Path, what: Rotated, step: RotationStep) -> Result<(), String> {
    let mut held = RotatedFiles::new();
    for name in ROTATED_FILES {
        if let Some(text) = files::read_if_there(&dir.join(name)).expect("readable") {
            held.insert(name.to_owned(), text);
        }
    }
    let after = rotate(&held, what, step, SystemTime::now()).map_err(|error| error.to_string())?;
    for name in ROTATED_FILES {
        match after.get(name) {
            Some(text) => {
                files::write(&dir.join(name), text.as_bytes(), files::PRIVATE).expect("written")
            }
            None => drop(std::fs::remove_file(dir.join(name))),
        }
    }
    pki.reload().expect("taken over");
    Ok(())
}

/// Whether a client that trusts only this CA believes the server.
fn believes(ca: &Der, dir: &Path) -> bool {
    let shown = chain(&files::read(&dir.join("apiserver.crt")).expect("a certificate"));
    let roots = LiveRoots::new(std::slice::from_ref(ca)).expect("roots");
    let name = "kubernetes.default".try_into().expect("a name");
    roots
        .verify_server_cert(&shown[0], &shown[1..], &name, &[], UnixTime::now())
        .is_ok()
}

fn is_client(trust: &ClientTrust, certificate: &str) -> bool {
    matches!(
        trust.judge(&chain(certificate), UnixTime::now()),
        PeerCertificate::Client(_)
    )
}

#[test]
fn everybody_believes_everybody_until_the_change_is_finished() {
    use RotationStep::{Begin, Finish, Revert};
    let directory = tempfile::tempdir().expect("directory");
    let dir = directory.path();
    let pki = crate::testing::pki(dir);
    let trust = pki.client_trust().expect("trust");
    let ca = |what| step(&pki, dir, Rotated::Ca, what);
    let (old_ca, old_admin) = (pki.ca_der(), pki.admin().expect("admin").certificate);
    assert_eq!(ca(Finish), Err("no change is under way".to_owned()));
    assert_eq!(ca(Revert), Err("no change is under way".to_owned()));

    ca(Begin).expect("begun");
    let (new_ca, new_admin) = (pki.ca_der(), pki.admin().expect("admin").certificate);
    assert_ne!(old_ca, new_ca);
    assert!(believes(&old_ca, dir) && believes(&new_ca, dir));
    assert!(is_client(&trust, &old_admin) && is_client(&trust, &new_admin));
    // A master that has not heard of it yet.
    let proxies = chain(pki.front_proxy_ca_pem());
    let behind = ClientTrust::new(std::slice::from_ref(&old_ca), &proxies).expect("trust");
    assert!(is_client(&behind, &new_admin));
    assert_eq!(
        ca(Begin),
        Err("a change is under way: finish or revert it first".to_owned())
    );
    assert_eq!(pki.rotation().authorities.len(), 2);

    ca(Revert).expect("reverted");
    assert_eq!(pki.ca_der(), old_ca);
    assert!(believes(&old_ca, dir) && is_client(&trust, &new_admin));
    assert_eq!(
        ca(Revert),
        Err("this change was reverted already: finish it".to_owned())
    );
    ca(Finish).expect("finished");
    // The old CA has certified the new one, whose key is gone now.
    assert!(is_client(&trust, &old_admin) && is_client(&trust, &new_admin));

    ca(Begin).expect("begun again");
    let last_admin = pki.admin().expect("admin").certificate;
    ca(Finish).expect("finished");
    assert!(!believes(&old_ca, dir) && believes(&pki.ca_der(), dir));
    assert!(!is_client(&trust, &old_admin));
    assert!(is_client(&trust, &pki.admin().expect("admin").certificate));
    assert!(
        is_client(&trust, &last_admin),
        "the chain is longer than it must be, and good"
    );
    let retired = files::read(&dir.join(CA_RETIRED)).expect("retired");
    assert_eq!(
        certificates(&retired).len(),
        2,
        "as tokens that are kept name them"
    );
    drop(Pki::load_or_create(dir, &pki.0.config).expect("a later start finds all of it"));
}

#[test]
fn the_key_of_tokens_is_changed_back_and_forth() {
    use RotationStep::{Begin, Finish, Revert};
    let directory = tempfile::tempdir().expect("directory");
    let dir = directory.path();
    let pki = crate::testing::pki(dir);
    let keys = || pki.token_keys().public_keys();
    let key = |what| step(&pki, dir, Rotated::ServiceAccountKey, what);
    let first = keys();
    assert_eq!(key(Finish), Err("no change is under way".to_owned()));
    key(Begin).expect("begun");
    let both = keys();
    assert_eq!((both.len(), &both[1]), (2, &first[0]));
    assert!(key(Begin).is_err());
    key(Revert).expect("reverted");
    assert_eq!(keys(), [both[1].clone(), both[0].clone()]);
    key(Revert).expect("and back");
    key(Finish).expect("finished");
    assert_eq!(keys(), [both[0].clone()]);
    let public = files::read(&dir.join("sa.pub")).expect("public");
    assert_eq!(public.matches("BEGIN PUBLIC KEY").count(), 1);
}

#[test]
fn leaves_are_issued_again_and_cas_stay() {
    let directory = tempfile::tempdir().expect("directory");
    let pki = crate::testing::pki(directory.path());
    let read = |name: &str| files::read(&directory.path().join(name)).expect("a file");
    let names = [
        "apiserver.crt",
        "etcd/peer-server-client.crt",
        "ca.crt",
        "etcd/peer-ca.crt",
    ];
    let before = names.map(read);
    pki.issue_again().expect("issued");
    let after = names.map(read);
    let same: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a == b).collect();
    assert_eq!(same, [false, false, true, true]);
}
