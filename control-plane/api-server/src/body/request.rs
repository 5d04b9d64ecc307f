//! The body of a request: read whole, within a limit of size and time.

use std::time::Duration;

use api_machinery::Status;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;

/// Bytes of a body at most, as in Kubernetes.
pub(crate) const BODY_BYTES_LIMIT: usize = 3 << 20;
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// A body that is there already, or one that is still on the way.
pub(crate) enum RequestBody {
    Ready(Bytes),
    Incoming(Incoming),
}

impl RequestBody {
    /// The whole body.
    ///
    /// # Errors
    /// 413 over the limit, 408 where it does not arrive in time, 400 where it breaks off.
    pub async fn read(self) -> Result<Bytes, Status> {
        let body = match self {
            Self::Ready(bytes) => {
                return if bytes.len() > BODY_BYTES_LIMIT {
                    Err(too_large())
                } else {
                    Ok(bytes)
                };
            }
            Self::Incoming(body) => body,
        };
        match tokio::time::timeout(BODY_TIMEOUT, read(body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Status::timeout(
                "the body of the request did not arrive in time",
                0,
            )),
        }
    }
}

async fn read(mut body: Incoming) -> Result<Bytes, Status> {
    use http_body::Body as _;
    if body.size_hint().lower() > BODY_BYTES_LIMIT as u64 {
        return Err(too_large());
    }
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|e| Status::bad_request(format!("error reading the body: {e}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        let len = first.as_ref().map_or(0, Bytes::len) + rest.len() + data.len();
        if len > BODY_BYTES_LIMIT {
            return Err(too_large());
        }
        match &first {
            None => first = Some(data),
            Some(head) => {
                if rest.is_empty() {
                    rest.extend_from_slice(head);
                    first = Some(Bytes::new());
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(if rest.is_empty() {
        first.unwrap_or_default()
    } else {
        rest.freeze()
    })
}

fn too_large() -> Status {
    Status::request_entity_too_large(BODY_BYTES_LIMIT)
}
