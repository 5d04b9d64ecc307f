//! The `xebec` binary.
fn main() {}
