//! What a certificate request asks for, and whether a kubelet may ask for it. Pure.

use std::net::IpAddr;

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use super::{API_CLIENT, KUBELET_CLIENT, KUBELET_SERVING};
use crate::error::{Error, Outcome};

const NODE_PREFIX: &str = "system:node:";
const NODES_GROUP: &str = "system:nodes";

/// Subject and names of a PKCS#10 request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) emails: usize,
    pub(super) uris: usize,
}

/// Reads the request's PEM.
pub(super) fn read(request: &CertificateSigningRequest) -> Outcome<Asked> {
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let invalid =
        |reason: String| Error::Certificate(format!("unable to parse csr \"{name}\": {reason}"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(&request.spec.request.0)
        .map_err(|e| invalid(e.to_string()))?;
    if pem.label != "CERTIFICATE REQUEST" {
        return Err(invalid("PEM block type must be CERTIFICATE REQUEST".into()));
    }
    let (_, parsed) =
        X509CertificationRequest::from_der(&pem.contents).map_err(|e| invalid(e.to_string()))?;
    let subject = &parsed.certification_request_info.subject;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        value.as_str().unwrap_or_default().to_owned()
    };
    let mut asked = Asked {
        common_name: subject
            .iter_common_name()
            .next()
            .map(text)
            .unwrap_or_default(),
        organizations: subject.iter_organization().map(text).collect(),
        ..Asked::default()
    };
    let extensions = parsed.requested_extensions().into_iter().flatten();
    for extension in extensions {
        let ParsedExtension::SubjectAlternativeName(names) = extension else {
            continue;
        };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => asked.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => asked.addresses.extend(address(bytes)),
                GeneralName::RFC822Name(_) => asked.emails += 1,
                GeneralName::URI(_) => asked.uris += 1,
                _ => {}
            }
        }
    }
    Ok(asked)
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

/// Whether the signer may sign this at all; else why not.
pub(super) fn check(signer: &str, asked: &Asked, usages: &[String]) -> Result<(), String> {
    match signer {
        API_CLIENT => check_client_usages(usages),
        KUBELET_CLIENT => check_kubelet_client(asked, usages),
        KUBELET_SERVING => check_kubelet_serving(asked, usages),
        _ => Err(format!("unrecognized signerName: \"{signer}\"")),
    }
}

fn check_client_usages(usages: &[String]) -> Result<(), String> {
    for usage in usages {
        if !matches!(
            usage.as_str(),
            "digital signature" | "key encipherment" | "client auth"
        ) {
            return Err(format!("invalid usage for client certificate: {usage}"));
        }
    }
    if usages.iter().any(|usage| usage == "client auth") {
        Ok(())
    } else {
        Err("missing required usage for client certificate: client auth".into())
    }
}

fn check_subject(asked: &Asked) -> Result<(), String> {
    if asked.organizations != [NODES_GROUP] {
        return Err("subject organization is not system:nodes".into());
    }
    if !asked.common_name.starts_with(NODE_PREFIX) {
        return Err("subject common name does not begin with system:node: ".into());
    }
    Ok(())
}

/// With or without key encipherment, which only RSA keys need.
fn check_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut sorted: Vec<&str> = usages.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let mut full = ["digital signature", "key encipherment", purpose];
    full.sort_unstable();
    let mut without = ["digital signature", purpose];
    without.sort_unstable();
    if sorted == full || sorted == without {
        return Ok(());
    }
    Err(format!("usages did not match [{}]", full.join(" ")))
}

fn check_kubelet_client(asked: &Asked, usages: &[String]) -> Result<(), String> {
    check_subject(asked)?;
    let present = [
        (!asked.dns_names.is_empty(), "DNS"),
        (asked.emails > 0, "Email"),
        (!asked.addresses.is_empty(), "IP"),
        (asked.uris > 0, "URI"),
    ];
    if let Some((_, kind)) = present.iter().find(|(there, _)| *there) {
        return Err(format!("{kind} subjectAltNames are not allowed"));
    }
    check_usages(usages, "client auth")
}

fn check_kubelet_serving(asked: &Asked, usages: &[String]) -> Result<(), String> {
    check_subject(asked)?;
    if asked.dns_names.is_empty() && asked.addresses.is_empty() {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if asked.emails > 0 {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if asked.uris > 0 {
        return Err("URI subjectAltNames are not allowed".into());
    }
    check_usages(usages, "server auth")
}

/// The node that the request is for.
pub(super) fn node_name(asked: &Asked) -> Option<&str> {
    asked
        .common_name
        .strip_prefix(NODE_PREFIX)
        .filter(|name| !name.is_empty())
}

/// Whether who asks is who the certificate will be for.
pub(super) fn is_self(request: &CertificateSigningRequest, asked: &Asked) -> bool {
    request.spec.username.as_deref() == Some(asked.common_name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_case(
        signer: &str,
        change: impl FnOnce(&mut Asked, &mut Vec<String>),
        expect: Result<(), &str>,
    ) {
        let mut asked = Asked {
            common_name: "system:node:n1".into(),
            organizations: vec![NODES_GROUP.into()],
            ..Asked::default()
        };
        let purpose = if signer == KUBELET_SERVING {
            "server auth"
        } else {
            "client auth"
        };
        let mut usages = vec!["digital signature".to_owned(), purpose.to_owned()];
        change(&mut asked, &mut usages);
        assert_eq!(
            check(signer, &asked, &usages),
            expect.map_err(str::to_owned)
        );
    }

    #[test]
    fn kubelets_may_only_ask_for_what_kubelets_need() {
        check_case(KUBELET_CLIENT, |_, _| {}, Ok(()));
        check_case(
            KUBELET_CLIENT,
            |_, usages| usages.push("key encipherment".into()),
            Ok(()),
        );
        let why = "usages did not match [client auth digital signature key encipherment]";
        check_case(
            KUBELET_CLIENT,
            |_, usages| usages.push("server auth".into()),
            Err(why),
        );
        let other = |asked: &mut Asked, _: &mut Vec<String>| {
            asked.organizations.push("system:masters".into())
        };
        check_case(
            KUBELET_CLIENT,
            other,
            Err("subject organization is not system:nodes"),
        );
        let why = "subject common name does not begin with system:node: ";
        check_case(
            KUBELET_CLIENT,
            |asked, _| asked.common_name = "admin".into(),
            Err(why),
        );
        let named = |asked: &mut Asked, _: &mut Vec<String>| asked.dns_names.push("n1".into());
        check_case(
            KUBELET_CLIENT,
            named,
            Err("DNS subjectAltNames are not allowed"),
        );
        check_case(KUBELET_SERVING, named, Ok(()));
        check_case(
            KUBELET_SERVING,
            |_, _| {},
            Err("DNS or IP subjectAltName is required"),
        );
        let why = "invalid usage for client certificate: server auth";
        check_case(
            API_CLIENT,
            |_, usages| usages.push("server auth".into()),
            Err(why),
        );
        check_case(
            "example.com/mine",
            |_, _| {},
            Err("unrecognized signerName: \"example.com/mine\""),
        );
    }
}
