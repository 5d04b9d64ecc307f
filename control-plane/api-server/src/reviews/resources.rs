//! The review kinds as the pipeline finds them: one virtual resource each.

use std::sync::Arc;

use api_machinery::Status;
use async_trait::async_trait;
use serde_json::Value;

use super::Reviews;
use crate::authn::Authentication;
use crate::authz::Authorization;
use crate::plugin::{VirtualRequest, VirtualResource};

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Group, plural, kind.
const RESOURCES: [(&str, &str, &str); 6] = [
    (AUTHORIZATION, "subjectaccessreviews", "SubjectAccessReview"),
    (
        AUTHORIZATION,
        "selfsubjectaccessreviews",
        "SelfSubjectAccessReview",
    ),
    (
        AUTHORIZATION,
        "localsubjectaccessreviews",
        "LocalSubjectAccessReview",
    ),
    (
        AUTHORIZATION,
        "selfsubjectrulesreviews",
        "SelfSubjectRulesReview",
    ),
    (AUTHENTICATION, "selfsubjectreviews", "SelfSubjectReview"),
    (AUTHENTICATION, "tokenreviews", "TokenReview"),
];

struct ReviewResource {
    reviews: Reviews,
    group: &'static str,
    plural: &'static str,
    kind: &'static str,
}

/// All of them.
pub(crate) fn review_resources(
    authentication: &Authentication,
    authorization: &Authorization,
) -> Vec<Arc<dyn VirtualResource>> {
    let reviews = Reviews::new(authentication.clone(), authorization.clone());
    let resource = |(group, plural, kind)| -> Arc<dyn VirtualResource> {
        Arc::new(ReviewResource {
            reviews: reviews.clone(),
            group,
            plural,
            kind,
        })
    };
    RESOURCES.into_iter().map(resource).collect()
}

#[async_trait]
impl VirtualResource for ReviewResource {
    fn resource(&self) -> (&'static str, &'static str) {
        (self.group, self.plural)
    }

    async fn create(&self, request: VirtualRequest<'_>) -> Result<Value, Status> {
        self.reviews
            .create(request.user, request.namespace, self.kind, request.object)
    }
}
