//! Calls between members: framed messages over one lasting connection per direction and pair.
//!
//! `net` makes streams of bytes (TCP, TLS, or a simulator's), `frame` cuts them into checked frames, `connection` and
//! `link` are the calling side, `server` the called one, `message` what is said. Every connection begins with a
//! greeting that names protocol, cluster, caller and called; whoever it does not fit is refused. Must not know
//! what a call means.

mod connection;
mod foreign;
mod frame;
mod greeting;
mod link;
mod message;
mod net;
mod server;
mod tls;

pub use connection::Connection;
pub use foreign::{decode_foreign_frame, sample_append, sample_frame};
pub use frame::Kind;
pub use greeting::{Hello, Me, Refusal};
pub use link::{Link, PeerError, Peers, introduce};
pub use message::{
    decode_append, decode_append_answer, decode_proposal, encode_append, encode_append_answer,
    encode_proposal,
};
pub use net::{PeerListener, PeerNetwork, PeerStream};
pub use server::{Answer, Service, serve};
pub use tls::{PeerTls, Tcp};
