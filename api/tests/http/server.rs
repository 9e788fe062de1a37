//! The accept loop: bounds on connections, and a stop that does not wait for ever.

use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use zajil_api::{ServerLimits, ServerReport, serve};

/// A server of one slow and one quick route.
async fn start(limits: ServerLimits) -> (SocketAddr, CancellationToken, JoinHandle<ServerReport>) {
    let router = Router::new()
        .route("/quick", get(|| async { "quick" }))
        .route("/slow", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = serve(listener, router, limits, stop.clone().cancelled_owned());
    #[expect(clippy::disallowed_methods, reason = "the test waits for it")]
    let server = tokio::spawn(serving);
    (address, stop, server)
}

async fn ask(address: SocketAddr, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    stream
}

async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A peer that cuts the connection ends the text, too.
    stream.read_to_end(&mut bytes).await.ok();
    String::from_utf8(bytes).unwrap()
}

const QUICK: &str = "GET /quick HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const SLOW: &str = "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_beyond_the_cap_is_told_and_closed() {
    let limits = ServerLimits {
        max_connections: 1,
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;
    let mut held = ask(address, SLOW).await;
    held.write_all(b"\r\n").await.unwrap();

    let mut turned_away = TcpStream::connect(address).await.unwrap();
    let text = read_to_end(&mut turned_away).await;

    assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let announced = format!("content-length: {}", body.len());
    assert!(
        head.contains(&announced) && head.contains("retry-after"),
        "{head}\n{}",
        body.len()
    );
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(body).unwrap()["error_code"],
        "unavailable"
    );
    drop(held);
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_cuts_what_does_not() {
    let limits = ServerLimits {
        shutdown_deadline: Duration::from_millis(100),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;
    let mut quick = ask(address, QUICK).await;
    let quick = read_to_end(&mut quick).await;
    let mut slow = ask(address, SLOW).await;
    // The slow request is under way once another connection, accepted later, was answered.
    read_to_end(&mut ask(address, QUICK).await).await;

    stop.cancel();
    let report = server.await.unwrap();

    assert!(quick.ends_with("quick"), "{quick}");
    assert_eq!(report.cut, 1);
    assert_eq!(read_to_end(&mut slow).await, "");
}

#[tokio::test]
async fn a_client_that_never_ends_its_head_is_cut_off() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;

    let mut silent = ask(address, "GET /quick HTTP/1.1\r\nhost:").await;
    let text = read_to_end(&mut silent).await;

    assert!(!text.contains("200 OK"), "{text}");
    stop.cancel();
    assert_eq!(server.await.unwrap(), ServerReport { cut: 0 });
}

/// Reads one answer of a connection that stays open.
async fn read_answer(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"quick") {
        let read = stream.read_buf(&mut bytes).await.unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8(bytes));
    }
    String::from_utf8(bytes).unwrap()
}

const AGAIN: &str = "GET /quick HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn a_pooled_connection_is_good_after_a_pause_that_a_head_may_not_make() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_secs(60),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;
    let mut pooled = ask(address, AGAIN).await;
    read_answer(&mut pooled).await;

    tokio::time::sleep(Duration::from_millis(250)).await;
    pooled.write_all(AGAIN.as_bytes()).await.unwrap();
    let again = read_answer(&mut pooled).await;
    // The second head begins, and does not end.
    pooled.write_all(b"GET /quick HT").await.unwrap();
    let cut = tokio::time::timeout(Duration::from_secs(10), read_to_end(&mut pooled)).await;

    assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
    assert_eq!(cut, Ok(String::new()));
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn a_head_that_trickles_in_has_no_more_time_than_one_that_stops() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_secs(60),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;
    let mut pooled = ask(address, AGAIN).await;
    read_answer(&mut pooled).await;

    let began = tokio::time::Instant::now();
    let (mut reading, mut writing) = pooled.into_split();
    let trickle = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writing.write_all(b"G").await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let mut bytes = Vec::new();
    tokio::select! {
        () = trickle => {}
        // A peer that cuts the connection ends the text, too.
        read = reading.read_to_end(&mut bytes) => drop(read),
    }

    assert_eq!(bytes, b"");
    assert!(began.elapsed() < Duration::from_secs(5));
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn an_idle_connection_is_closed_in_the_end() {
    let limits = ServerLimits {
        idle_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;
    let mut pooled = ask(address, AGAIN).await;
    read_answer(&mut pooled).await;

    let closed = tokio::time::timeout(Duration::from_secs(5), pooled.read(&mut [0])).await;

    assert_eq!(closed.unwrap().unwrap(), 0, "closed in good order");
    stop.cancel();
    server.await.unwrap();
}

#[tokio::test]
async fn a_request_may_take_longer_than_a_head_or_a_pause() {
    let limits = ServerLimits {
        header_timeout: Duration::from_millis(50),
        idle_timeout: Duration::from_millis(50),
        ..ServerLimits::default()
    };
    let (address, stop, server) = start(limits).await;

    let mut slow = ask(address, SLOW).await;
    let waited = tokio::time::timeout(Duration::from_millis(400), slow.read(&mut [0])).await;

    assert!(waited.is_err(), "cut off: {waited:?}");
    stop.cancel();
    drop(slow);
    server.await.unwrap();
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let (address, stop, server) = start(ServerLimits::default()).await;
    let large = format!(
        "GET /quick HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n",
        "y".repeat(20_000)
    );
    let many: String = (0..80).map(|n| format!("x-{n}: y\r\n")).collect();
    let many = format!("GET /quick HTTP/1.1\r\nhost: x\r\n{many}\r\n");

    for head in [large, many] {
        let text = read_to_end(&mut ask(address, &head).await).await;
        assert!(text.starts_with("HTTP/1.1 431 "), "{text}");
    }
    stop.cancel();
    server.await.unwrap();
}
