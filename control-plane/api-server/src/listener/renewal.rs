//! When a client's connection should be opened anew: shortly before its certificate ends, when its holder has the next one.
//! Without this a client that never loses its connection would show an expired certificate for ever.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::PeerCertificates;

/// Share of a certificate's life after which its holder has renewed it: kubelets do at 70 to 90 percent.
const RENEWED_AFTER_PERCENT: i64 = 95;

/// How long until then; none if that has passed, or there is no certificate that says.
pub(super) fn until_renewed(peer: Option<&PeerCertificates>, now: SystemTime) -> Option<Duration> {
    let (_, leaf) = X509Certificate::from_der(peer?.0.first()?).ok()?;
    let (start, end) = (
        leaf.validity().not_before.timestamp(),
        leaf.validity().not_after.timestamp(),
    );
    let at = start.saturating_add(
        end.saturating_sub(start)
            .checked_mul(RENEWED_AFTER_PERCENT)?
            / 100,
    );
    let at = UNIX_EPOCH + Duration::from_secs(u64::try_from(at).ok()?);
    at.duration_since(now).ok()
}

/// Waits for it; without a time, for ever.
pub(super) async fn wait(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair};

    #[test]
    fn a_connection_lasts_nearly_as_long_as_its_certificate() {
        let mut params = CertificateParams::default();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 11);
        let key = KeyPair::generate().expect("key");
        let leaf = params.self_signed(&key).expect("certificate").der().clone();
        let peer = PeerCertificates([leaf].into());
        let start = UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let day = Duration::from_secs(86_400);
        let until = |now| until_renewed(Some(&peer), now);
        assert_eq!(until(start), Some(day * 95));
        assert_eq!(until(start + day * 90), Some(day * 5));
        assert_eq!(until(start + day * 96), None);
        assert_eq!(until_renewed(None, start), None);
    }
}
