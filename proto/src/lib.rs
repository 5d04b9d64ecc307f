//! xebec-proto.
