//! Hears from the kernel when somebody deletes one of our nftables tables, as `nft flush ruleset` does.
//!
//! Firewall services flush everything when they are restarted. It must not know what the tables hold.

use rtnetlink::sys::{AsyncSocket, AsyncSocketExt, TokioSocket};

use super::conntrack::{find, messages};
use super::nft;

/// `NETLINK_NETFILTER`
const NETLINK_NETFILTER: isize = 12;
/// The multicast group of changes to nftables.
const NFNLGRP_NFTABLES: u32 = 7;
/// Subsystem 10 (nftables), message 2 (a table was deleted).
const NFT_MSG_DELTABLE: u16 = 0x0a02;
/// The attribute that holds a table's name.
const NFTA_TABLE_NAME: u16 = 1;

/// Waits for the deletion of tables.
pub(crate) struct TableWatch {
    socket: TokioSocket,
}

impl TableWatch {
    pub(crate) fn new() -> std::io::Result<TableWatch> {
        let mut socket = TokioSocket::new(NETLINK_NETFILTER)?;
        socket.socket_mut().bind_auto()?;
        socket.socket_mut().add_membership(NFNLGRP_NFTABLES)?;
        Ok(TableWatch { socket })
    }

    /// Waits until a table (`FAMILY NAME`) is gone; a table that was replaced is there.
    pub(crate) async fn gone(&mut self, table: &str) {
        let name = table.split_whitespace().next_back().unwrap_or(table);
        loop {
            let suspicious = match self.socket.recv_from_full().await {
                Ok((bytes, _)) => messages(&bytes).any(|message| deletes(message, name)),
                // Messages were lost: more came than the socket holds.
                Err(_) => true,
            };
            if suspicious && !nft::exists(table).await {
                return;
            }
        }
    }
}

fn deletes((kind, payload): (u16, &[u8]), name: &str) -> bool {
    let deleted = payload
        .get(4..)
        .and_then(|attributes| find(attributes, NFTA_TABLE_NAME));
    kind == NFT_MSG_DELTABLE
        && deleted.is_some_and(|deleted| deleted.strip_suffix(b"\0") == Some(name.as_bytes()))
}
