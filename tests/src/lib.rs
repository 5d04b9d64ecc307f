//! What whole-system tests share: a cluster of real processes, the real kubectl, waiting for conditions.
//!
//! Knows the binary and public APIs only.

mod background;
mod certificates;
mod cluster;
mod command;
mod etcd;
mod hosts;
mod kubectl;
mod machine;
mod process;
mod store_cluster;
mod wait;
mod web;

pub use background::Background;
pub use certificates::Certificates;
pub use cluster::{
    Cluster, binary, clean_data, example_images, free_port, provide_images, repository,
};
pub use command::{Output, contains, run};
pub use etcd::{Etcdctl, Program, StoreProcess, etcd_3_5, python_clients};
pub use hosts::{Host, Network};
pub use kubectl::{Kubectl, kubectls};
pub use machine::{Machine, ready_nodes, token, xebec};
pub use process::Process;
pub use store_cluster::{StoreCluster, StoreMember};
pub use wait::{eventually, eventually_async};
pub use web::{WEB, across_nodes};
