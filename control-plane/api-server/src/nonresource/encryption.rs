//! `/xebec/secrets-encryption`: GET tells which keys secrets lie under in the store, POST changes the key.
//!
//! No default role names the path: it is the superusers' until an administrator gives it to others.

use api_machinery::Status;
use http::{Method, StatusCode};

use crate::answer::{Answer, Context};
use crate::core::Core;
use crate::encryption::EncryptionError;
use crate::errors::from_store;

pub(super) const PATH: &str = "/xebec/secrets-encryption";

pub(super) async fn run(core: &Core, cx: &Context) -> Result<Answer, Status> {
    let Some(encryption) = core.encryption.clone() else {
        return Err(Status::no_such_path());
    };
    let status = match cx.method {
        Method::GET | Method::HEAD => encryption.status().await,
        // A caller who goes away does not stop it half way.
        Method::POST => tokio::spawn(async move { encryption.rotate().await })
            .await
            .map_err(Status::internal_error)?,
        _ => return Err(Status::method_not_allowed()),
    };
    let status = status.map_err(|error| match error {
        EncryptionError::Store(error) => from_store(error),
        other => Status::internal_error(other),
    })?;
    let body = serde_json::to_vec(&status).map_err(Status::internal_error)?;
    Ok(Answer::json(StatusCode::OK, body))
}
