//! control-plane: API server, scheduler and controllers, put together. It knows the datastore as `api_server::Store` only.

mod api_services;
mod cluster_dns;
mod cluster_settings;
mod component_leases;
mod config;
mod control_plane;
mod endpoints;
mod kubeadm;
mod leader;
mod own_node;
mod rotation;

pub use config::ControlPlaneConfig;
pub use control_plane::{ControlPlane, ControlPlaneError, certificates};
pub use endpoints::LivingMasters;
pub use leader::Leadership;
