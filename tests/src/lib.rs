//! What whole-system tests share: a cluster of real processes, the real kubectl, waiting for conditions.
//!
//! Knows the binary and public APIs only.

mod background;
mod cluster;
mod command;
mod kubectl;
mod wait;

pub use background::Background;
pub use cluster::{Cluster, binary, example_images, free_port};
pub use command::{Output, run};
pub use kubectl::{Kubectl, kubectls};
pub use wait::{eventually, eventually_async};
