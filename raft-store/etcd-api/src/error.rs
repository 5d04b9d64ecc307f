//! The store's errors as gRPC statuses. Clients tell them apart by code and exact text.

use raft_store::{Code, Error};
use tonic::Status;

/// The status that a client gets.
pub(crate) fn status(error: Error) -> Status {
    if error == Error::NotEnoughStarted {
        // etcd loses this one's code on the way.
        return Status::unknown(error.to_string());
    }
    let code = match error.code() {
        Code::InvalidArgument => tonic::Code::InvalidArgument,
        Code::NotFound => tonic::Code::NotFound,
        Code::FailedPrecondition => tonic::Code::FailedPrecondition,
        Code::OutOfRange => tonic::Code::OutOfRange,
        Code::ResourceExhausted => tonic::Code::ResourceExhausted,
        Code::Unavailable => tonic::Code::Unavailable,
        Code::Unknown => tonic::Code::Unknown,
        Code::Aborted => tonic::Code::Aborted,
        Code::DataLoss => tonic::Code::DataLoss,
        Code::Unimplemented => tonic::Code::Unimplemented,
    };
    Status::new(code, error.to_string())
}
