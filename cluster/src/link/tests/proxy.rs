//! A cable between two nodes that a test can cut and stop.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

/// How the cable is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cable {
    Good,
    /// Nothing moves, and nobody is told.
    Stuck,
    /// Both ends are told that it is gone.
    Cut,
}

/// Forwards connections to a node.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    cable: watch::Sender<Cable>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn to(node: &Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = node.address;
        let cable = watch::Sender::new(Cable::Good);
        let watched = cable.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(target).await.unwrap();
                connections.spawn(forward(near, far, watched.subscribe()));
            }
        });
        Self {
            address,
            cable,
            _tasks: tasks,
        }
    }

    pub(super) fn becomes(&self, cable: Cable) {
        self.cable.send_replace(cable);
    }
}

async fn forward(near: TcpStream, far: TcpStream, cable: watch::Receiver<Cable>) {
    let (mut near, mut far) = (near.into_split(), far.into_split());
    let mut cut = cable.clone();
    tokio::select! {
        () = one_way(&mut near.0, &mut far.1, cable.clone()) => {}
        () = one_way(&mut far.0, &mut near.1, cable) => {}
        _ = cut.wait_for(|it| *it == Cable::Cut) => {}
    }
}

async fn one_way(
    from: &mut (impl AsyncReadExt + Unpin),
    to: &mut (impl AsyncWriteExt + Unpin),
    mut cable: watch::Receiver<Cable>,
) {
    let mut buffer = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if cable.wait_for(|it| *it == Cable::Good).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
