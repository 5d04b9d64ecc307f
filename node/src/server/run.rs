//! `/run`: a command run to its end, its output as the answer.

use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::{Context, refuse};

/// How long such a command may take.
const LIMIT: Duration = Duration::from_secs(600);

/// Answers `POST /run/NAMESPACE/POD/CONTAINER?cmd=…`.
pub(super) async fn handle(
    State(context): State<Context>,
    Path((namespace, pod, container)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Response {
    let pairs = super::exec::form(query.as_deref().unwrap_or_default());
    let command: Vec<String> = pairs
        .into_iter()
        .filter(|(name, _)| name == "cmd")
        .flat_map(|(_, value)| value.split(' ').map(str::to_string).collect::<Vec<_>>())
        .collect();
    let id = match context
        .running_container(&namespace, &pod, &container)
        .await
    {
        Ok(id) => id,
        Err(response) => return *response,
    };
    match context.shared.cri.exec_sync(&id, command, LIMIT).await {
        Ok(answer) => {
            let mut output = answer.stdout;
            output.extend(answer.stderr);
            if answer.exit_code == 0 {
                return output.into_response();
            }
            let message = format!(
                "{}command exited with {}",
                String::from_utf8_lossy(&output),
                answer.exit_code
            );
            refuse(StatusCode::INTERNAL_SERVER_ERROR, message)
        }
        Err(status) => refuse(
            StatusCode::INTERNAL_SERVER_ERROR,
            status.message().to_string(),
        ),
    }
}
