//! Accepts connections and serves a service on them: bounded in number, in time and in bytes.
//!
//! Our own accept loop, because the bounds are the point: a connection beyond the cap is told so
//! and closed, a client that is slow to send its head or to take its answer is cut off, and a stop
//! waits for what is under way, but not for ever.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::task::TaskTracker;
use tower::{Service, ServiceExt};

use crate::config::ServerLimits;
use crate::metrics::ConnectionMetrics;
use crate::state::Peer;

mod stream;

use stream::{Answer, Impatient, Turns};

/// Header fields of a request.
const MAX_HEADERS: usize = 64;

/// Bytes of a request's head.
const MAX_HEAD_BYTES: usize = 16 * 1_024;

/// Bytes that a connection reads at once, and keeps. More would let idle connections add up.
const READ_BUFFER: usize = 64 * 1_024;

/// How long accepting rests when the system has no more file descriptors.
const OUT_OF_DESCRIPTORS_REST: Duration = Duration::from_millis(50);

/// What a connection beyond the cap is told.
const TURNED_AWAY: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\n\
content-type: application/json\r\n\
retry-after: 1\r\n\
connection: close\r\n\
content-length: 113\r\n\r\n\
{\"success\":false,\"message\":\"Unavailable: too many connections; nothing was accepted.\",\"error_code\":\"unavailable\"}";

/// How serving ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerReport {
    /// Connections whose request was still under way at the deadline, and that were cut.
    pub cut: usize,
}

/// Serves until `shutdown` is done; then lets what is under way end, within the
/// deadline of `limits`.
pub async fn serve<S>(
    listener: TcpListener,
    service: S,
    limits: ServerLimits,
    shutdown: impl Future<Output = ()>,
) -> ServerReport
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let room = Arc::new(Semaphore::new(
        limits.max_connections.min(Semaphore::MAX_PERMITS),
    ));
    let metrics = ConnectionMetrics::new();
    let tracker = TaskTracker::new();
    let open = Arc::new(AtomicUsize::new(0));
    let (stop, stopping) = watch::channel(Phase::Serving);
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                rest_after(&error).await;
                continue;
            }
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            metrics.refused();
            turn_away(&stream);
            continue;
        };
        metrics.opened();
        open.fetch_add(1, Ordering::Relaxed);
        let held = Held {
            _permit: permit,
            open: Arc::clone(&open),
            metrics: metrics.clone(),
        };
        let connection = connection(stream, peer, service.clone(), &limits, stopping.clone());
        tracker.spawn(async move {
            let _held = held;
            connection.await;
        });
    }
    drop(listener);
    end(&tracker, &stop, &open, limits.shutdown_deadline).await
}

/// How far a stop has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Serving,
    /// Requests under way may end; no new ones.
    Ending,
    /// The deadline has passed.
    Cut,
}

/// What an open connection holds.
struct Held {
    _permit: OwnedSemaphorePermit,
    open: Arc<AtomicUsize>,
    metrics: ConnectionMetrics,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.metrics.closed();
    }
}

async fn end(
    tracker: &TaskTracker,
    stop: &watch::Sender<Phase>,
    open: &AtomicUsize,
    deadline: Duration,
) -> ServerReport {
    stop.send_replace(Phase::Ending);
    tracker.close();
    if tokio::time::timeout(deadline, tracker.wait()).await.is_ok() {
        return ServerReport { cut: 0 };
    }
    let cut = open.load(Ordering::Relaxed);
    stop.send_replace(Phase::Cut);
    tracker.wait().await;
    ServerReport { cut }
}

async fn rest_after(error: &io::Error) {
    // A client that left before it was accepted says nothing about the listener.
    let of_client = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !of_client {
        tracing::warn!(%error, "cannot accept a connection");
        tokio::time::sleep(OUT_OF_DESCRIPTORS_REST).await;
    }
}

/// One attempt to say why: waiting for the client would be what the cap is to prevent.
fn turn_away(stream: &TcpStream) {
    if let Err(error) = stream.try_write(TURNED_AWAY) {
        tracing::debug!(%error, "a connection beyond the cap was closed without a word");
    }
}

/// Serves one connection until it ends or is told to.
fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    limits: &ServerLimits,
    mut phase: watch::Receiver<Phase>,
) -> impl Future<Output = ()> + Send + use<S>
where
    S: Service<Request<Body>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let turns = Turns::default();
    let stream = Impatient::new(stream, limits, turns.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        let under_way = turns.begin();
        request.extensions_mut().insert(Peer(peer.ip()));
        let answer = service.clone().oneshot(request.map(Body::new));
        async move {
            let response = answer.await?;
            Ok::<_, Infallible>(response.map(|body| Answer::new(body, under_way)))
        }
    });
    let served = http1::Builder::new()
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(MAX_HEAD_BYTES)
        .max_buf_size(READ_BUFFER)
        .serve_connection(TokioIo::new(stream), service);
    async move {
        let mut served = pin!(served);
        loop {
            tokio::select! {
                result = served.as_mut() => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection broke off");
                    }
                    return;
                }
                changed = phase.changed() => {
                    if changed.is_err() || *phase.borrow_and_update() == Phase::Cut {
                        return;
                    }
                    served.as_mut().graceful_shutdown();
                }
            }
        }
    }
}
