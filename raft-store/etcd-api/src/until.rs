//! Streams that go on until something else ends them: with an error, so that nobody takes a part for the whole.

use std::future::Future;

use futures::{Stream, StreamExt};
use tonic::Status;

/// The stream's items until it ends, or fails, or `ended` says why it must. Who has not read what there was is told that, and
/// no more of the stream.
pub(crate) fn until<T: Send + 'static>(
    items: impl Stream<Item = Result<T, Status>> + Send + 'static,
    ended: impl Future<Output = Status> + Send + 'static,
) -> impl Stream<Item = Result<T, Status>> + Send + 'static {
    let state = Some((Box::pin(items), Box::pin(ended)));
    futures::stream::unfold(state, |state| async move {
        let (mut items, mut ended) = state?;
        tokio::select! {
            biased;
            error = &mut ended => Some((Err(error), None)),
            item = items.next() => match item? {
                Ok(item) => Some((Ok(item), Some((items, ended)))),
                Err(error) => Some((Err(error), None)),
            },
        }
    })
}
