//! Why a reconciliation failed. It is tried again later either way; the kind only decides how loudly.

use api_machinery::Status;

/// What can go wrong while one key is reconciled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The API refused a request.
    #[error("{0}")]
    Api(#[from] Status),
    /// The object asks for something that has no meaning, e.g. a selector with an unknown operator.
    #[error("{0}")]
    Invalid(String),
    /// What is needed is not there yet; the work goes on later.
    #[error("{0}")]
    NotReady(String),
    /// A certificate or key could not be made.
    #[error("{0}")]
    Certificate(String),
}

impl Error {
    /// Ordinary on the way to convergence: another writer was faster, the own last write is not seen yet, or the object is gone
    /// already.
    pub(crate) fn is_routine(&self) -> bool {
        match self {
            Self::Api(status) => {
                api_client::is_conflict(status)
                    || api_client::is_already_exists(status)
                    || api_client::is_not_found(status)
            }
            Self::NotReady(_) => true,
            Self::Invalid(_) | Self::Certificate(_) => false,
        }
    }
}

/// The outcome of one reconciliation.
pub(crate) type Outcome<T = ()> = Result<T, Error>;
