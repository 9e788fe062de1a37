//! A door: whoever connects to it is connected to another address.

use std::io;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::cut::Ends;

/// Leads from the network to a server elsewhere. It and all that went through end with this value.
#[derive(Debug)]
pub(super) struct Door {
    at: SocketAddr,
    to: SocketAddr,
    _at_work: JoinSet<()>,
}

impl Door {
    /// Opens one at an address, on a free port where it names none.
    pub(super) async fn open(at: SocketAddr, to: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at)
            .await
            .with_context(|| format!("cannot listen on {at}"))?;
        let at = listener.local_addr()?;
        let mut at_work = JoinSet::new();
        at_work.spawn(serve(listener, to));
        Ok(Self {
            at,
            to,
            _at_work: at_work,
        })
    }

    /// Where it is, and where it leads to.
    pub(super) const fn ends(&self) -> Ends {
        Ends {
            door: self.at,
            database: self.to,
        }
    }
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    let mut passing = JoinSet::new();
    while let Ok((from, _)) = listener.accept().await {
        passing.spawn(pass(from, to));
        while passing.try_join_next().is_some() {}
    }
}

/// Goes on until one side ends, which the other one sees.
async fn pass(mut from: TcpStream, to: SocketAddr) -> io::Result<(u64, u64)> {
    let mut to = TcpStream::connect(to).await?;
    from.set_nodelay(true)?;
    to.set_nodelay(true)?;
    copy_bidirectional(&mut from, &mut to).await
}
