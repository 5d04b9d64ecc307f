//! The CRI client: typed calls over the runtime's unix socket, nothing decided here.
//!
//! It is the only way to containers. It must not know pods of the API.

use std::path::PathBuf;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Status};

/// The largest answer accepted from the runtime, in bytes; ExecSync may return 16 MiB per stream.
const MAX_MESSAGE_BYTES: usize = 40 << 20;
/// How long an ordinary call may take, as the kubelet's `runtimeRequestTimeout`.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Creating a sandbox includes its network.
const SANDBOX_TIMEOUT: Duration = Duration::from_secs(240);

/// What the runtime answered, or why it did not.
pub(crate) type Result<T> = std::result::Result<T, Status>;

/// A CRI v1 runtime.
#[derive(Clone)]
pub(crate) struct Cri {
    channel: Channel,
    runtime: RuntimeServiceClient<Channel>,
    images: ImageServiceClient<Channel>,
}

/// The path in a `unix://` endpoint.
pub(crate) fn socket_path(endpoint: &str) -> PathBuf {
    PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint))
}

fn timed<T>(message: T, limit: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

impl Cri {
    /// A client of the runtime at `endpoint` (`unix:///path`); connects when first used, and again when the runtime restarts.
    pub(crate) fn new(endpoint: &str) -> Cri {
        let path = socket_path(endpoint);
        let channel = Endpoint::from_static("http://cri.invalid").connect_with_connector_lazy(
            tower::service_fn(move |_: Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }),
        );
        Cri {
            runtime: RuntimeServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            images: ImageServiceClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE_BYTES),
            channel,
        }
    }

    /// The transport, for services of the runtime beside CRI.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) async fn version(&self) -> Result<cri::VersionResponse> {
        let message = cri::VersionRequest {
            version: "0.1.0".into(),
        };
        Ok(self
            .runtime
            .clone()
            .version(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner())
    }

    pub(crate) async fn status(&self, verbose: bool) -> Result<cri::StatusResponse> {
        let message = cri::StatusRequest { verbose };
        Ok(self
            .runtime
            .clone()
            .status(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner())
    }

    pub(crate) async fn run_sandbox(&self, config: cri::PodSandboxConfig) -> Result<String> {
        let message = cri::RunPodSandboxRequest {
            config: Some(config),
            runtime_handler: String::new(),
        };
        let answer = self
            .runtime
            .clone()
            .run_pod_sandbox(timed(message, SANDBOX_TIMEOUT))
            .await?;
        Ok(answer.into_inner().pod_sandbox_id)
    }

    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let message = cri::StopPodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        ignore_not_found(
            self.runtime
                .clone()
                .stop_pod_sandbox(timed(message, REQUEST_TIMEOUT))
                .await,
        )
    }

    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let message = cri::RemovePodSandboxRequest {
            pod_sandbox_id: id.into(),
        };
        ignore_not_found(
            self.runtime
                .clone()
                .remove_pod_sandbox(timed(message, REQUEST_TIMEOUT))
                .await,
        )
    }

    pub(crate) async fn sandbox_status(&self, id: &str) -> Result<Option<cri::PodSandboxStatus>> {
        let message = cri::PodSandboxStatusRequest {
            pod_sandbox_id: id.into(),
            verbose: false,
        };
        match self
            .runtime
            .clone()
            .pod_sandbox_status(timed(message, REQUEST_TIMEOUT))
            .await
        {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// The sandboxes that carry all `labels`; an empty list of labels means every sandbox.
    pub(crate) async fn list_sandboxes(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<Vec<cri::PodSandbox>> {
        let filter = cri::PodSandboxFilter {
            label_selector: owned(labels),
            ..Default::default()
        };
        let message = cri::ListPodSandboxRequest {
            filter: Some(filter),
        };
        Ok(self
            .runtime
            .clone()
            .list_pod_sandbox(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .items)
    }

    /// The containers, running or not, that carry all `labels`.
    pub(crate) async fn list_containers(
        &self,
        labels: &[(&str, &str)],
    ) -> Result<Vec<cri::Container>> {
        let filter = cri::ContainerFilter {
            label_selector: owned(labels),
            ..Default::default()
        };
        let message = cri::ListContainersRequest {
            filter: Some(filter),
        };
        Ok(self
            .runtime
            .clone()
            .list_containers(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .containers)
    }

    pub(crate) async fn container_status(&self, id: &str) -> Result<Option<cri::ContainerStatus>> {
        let message = cri::ContainerStatusRequest {
            container_id: id.into(),
            verbose: false,
        };
        match self
            .runtime
            .clone()
            .container_status(timed(message, REQUEST_TIMEOUT))
            .await
        {
            Ok(answer) => Ok(answer.into_inner().status),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    pub(crate) async fn create_container(
        &self,
        message: cri::CreateContainerRequest,
    ) -> Result<String> {
        let answer = self
            .runtime
            .clone()
            .create_container(timed(message, REQUEST_TIMEOUT))
            .await?;
        Ok(answer.into_inner().container_id)
    }

    pub(crate) async fn start_container(&self, id: &str) -> Result<()> {
        let message = cri::StartContainerRequest {
            container_id: id.into(),
        };
        self.runtime
            .clone()
            .start_container(timed(message, REQUEST_TIMEOUT))
            .await
            .map(|_| ())
    }

    /// Asks the container to end and kills it after `grace_seconds`.
    pub(crate) async fn stop_container(&self, id: &str, grace_seconds: i64) -> Result<()> {
        let message = cri::StopContainerRequest {
            container_id: id.into(),
            timeout: grace_seconds,
        };
        let limit = REQUEST_TIMEOUT + Duration::from_secs(grace_seconds.max(0).unsigned_abs());
        ignore_not_found(
            self.runtime
                .clone()
                .stop_container(timed(message, limit))
                .await,
        )
    }

    pub(crate) async fn remove_container(&self, id: &str) -> Result<()> {
        let message = cri::RemoveContainerRequest {
            container_id: id.into(),
        };
        ignore_not_found(
            self.runtime
                .clone()
                .remove_container(timed(message, REQUEST_TIMEOUT))
                .await,
        )
    }

    pub(crate) async fn reopen_log(&self, id: &str) -> Result<()> {
        let message = cri::ReopenContainerLogRequest {
            container_id: id.into(),
        };
        self.runtime
            .clone()
            .reopen_container_log(timed(message, REQUEST_TIMEOUT))
            .await
            .map(|_| ())
    }

    /// Runs a command to its end, `limit` at most.
    pub(crate) async fn exec_sync(
        &self,
        id: &str,
        cmd: Vec<String>,
        limit: Duration,
    ) -> Result<cri::ExecSyncResponse> {
        let timeout = i64::try_from(limit.as_secs()).unwrap_or(i64::MAX);
        let message = cri::ExecSyncRequest {
            container_id: id.into(),
            cmd,
            timeout,
        };
        let call_limit = limit.saturating_add(Duration::from_secs(10));
        Ok(self
            .runtime
            .clone()
            .exec_sync(timed(message, call_limit))
            .await?
            .into_inner())
    }

    /// The address at which the runtime streams the command's standard streams.
    pub(crate) async fn exec_url(&self, request: cri::ExecRequest) -> Result<String> {
        Ok(self
            .runtime
            .clone()
            .exec(timed(request, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .url)
    }

    /// The address at which the runtime streams the container's own standard streams.
    pub(crate) async fn attach_url(&self, request: cri::AttachRequest) -> Result<String> {
        Ok(self
            .runtime
            .clone()
            .attach(timed(request, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .url)
    }

    /// The address at which the runtime forwards ports of a sandbox.
    pub(crate) async fn port_forward_url(
        &self,
        request: cri::PortForwardRequest,
    ) -> Result<String> {
        Ok(self
            .runtime
            .clone()
            .port_forward(timed(request, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .url)
    }

    pub(crate) async fn list_container_stats(&self) -> Result<Vec<cri::ContainerStats>> {
        let message = cri::ListContainerStatsRequest { filter: None };
        Ok(self
            .runtime
            .clone()
            .list_container_stats(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .stats)
    }

    /// Tells the runtime the node's share of pod addresses.
    pub(crate) async fn update_pod_cidr(&self, pod_cidr: &str) -> Result<()> {
        let network_config = Some(cri::NetworkConfig {
            pod_cidr: pod_cidr.into(),
        });
        let message = cri::UpdateRuntimeConfigRequest {
            runtime_config: Some(cri::RuntimeConfig { network_config }),
        };
        self.runtime
            .clone()
            .update_runtime_config(timed(message, REQUEST_TIMEOUT))
            .await
            .map(|_| ())
    }

    pub(crate) async fn container_events(
        &self,
    ) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        Ok(self
            .runtime
            .clone()
            .get_container_events(cri::GetEventsRequest {})
            .await?
            .into_inner())
    }

    /// The image as it is on this node, if it is.
    pub(crate) async fn image_status(&self, image: &str) -> Result<Option<cri::Image>> {
        let image = Some(cri::ImageSpec {
            image: image.into(),
            ..Default::default()
        });
        let message = cri::ImageStatusRequest {
            image,
            verbose: false,
        };
        Ok(self
            .images
            .clone()
            .image_status(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .image)
    }

    pub(crate) async fn list_images(&self) -> Result<Vec<cri::Image>> {
        let message = cri::ListImagesRequest { filter: None };
        Ok(self
            .images
            .clone()
            .list_images(timed(message, REQUEST_TIMEOUT))
            .await?
            .into_inner()
            .images)
    }

    /// Pulls an image; the runtime ends a pull without progress, so no limit is set here.
    pub(crate) async fn pull_image(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
        sandbox: cri::PodSandboxConfig,
    ) -> Result<String> {
        let image = Some(cri::ImageSpec {
            image: image.into(),
            ..Default::default()
        });
        let message = cri::PullImageRequest {
            image,
            auth,
            sandbox_config: Some(sandbox),
        };
        Ok(self
            .images
            .clone()
            .pull_image(message)
            .await?
            .into_inner()
            .image_ref)
    }
}

fn owned(labels: &[(&str, &str)]) -> std::collections::HashMap<String, String> {
    labels
        .iter()
        .map(|(k, v)| (k.to_string(), v.to_string()))
        .collect()
}

fn ignore_not_found<T>(answer: std::result::Result<T, Status>) -> Result<()> {
    match answer {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Ok(()),
        Err(status) => Err(status),
    }
}
