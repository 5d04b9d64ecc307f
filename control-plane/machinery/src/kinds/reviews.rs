//! Kinds that are questions: who am I, what may I do. They are answered and never stored.

use super::row::review;
use crate::kind::Kind;

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

pub(super) fn kinds() -> Vec<Kind> {
    let mut local = review(
        AUTHORIZATION,
        "LocalSubjectAccessReview",
        "localsubjectaccessreviews",
    );
    local.namespaced = true;
    vec![
        review(AUTHENTICATION, "SelfSubjectReview", "selfsubjectreviews"),
        review(AUTHENTICATION, "TokenReview", "tokenreviews"),
        local,
        review(
            AUTHORIZATION,
            "SelfSubjectAccessReview",
            "selfsubjectaccessreviews",
        ),
        review(
            AUTHORIZATION,
            "SelfSubjectRulesReview",
            "selfsubjectrulesreviews",
        ),
        review(AUTHORIZATION, "SubjectAccessReview", "subjectaccessreviews"),
    ]
}
