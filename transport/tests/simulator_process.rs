//! The simulator process over real sockets, and the simulator in this process by its port.
#![expect(clippy::unwrap_used, reason = "a test stops where it fails")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zajil_model::id::{AccountId, Epoch, InstanceId, MessageId, RequestId};
use zajil_model::instance::{TransportKind, TransportSettings};
use zajil_model::message::{Chunk, Message, MessageRef, OnAmbiguous, Payload, Queue};
use zajil_model::phone::Phone;
use zajil_model::suppression::Suppressions;
use zajil_model::time::{Clock, Mono, Timestamp};
use zajil_model::wa_id::WaIdKey;
use zajil_transport::simulator::ledger::{LedgerLine, read_ledger};
use zajil_transport::simulator::script::AT_ONCE;
use zajil_transport::simulator::server::{Server, ServerConfig};
use zajil_transport::simulator::{Script, SimulatorFactory};
use zajil_transport::{
    EventSink, Outbound, SessionEvent, StopMode, Transport, TransportEvent, TransportFactory,
    TransportSpec,
};

#[derive(Debug)]
struct RealClock(Instant);

impl RealClock {
    #[expect(clippy::disallowed_methods, reason = "real sockets need real time")]
    fn shared() -> Arc<dyn Clock> {
        Arc::new(Self(Instant::now()))
    }
}

impl Clock for RealClock {
    #[expect(clippy::disallowed_methods, reason = "real sockets need real time")]
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Timestamp::from_micros(since.as_micros() as i64)
    }

    fn mono(&self) -> Mono {
        Mono::from_nanos(self.0.elapsed().as_nanos() as u64)
    }
}

fn frames(instance: InstanceId, first: u64, count: u64) -> Vec<Outbound> {
    let recipient = Phone::parse("+966501234567").unwrap();
    let message = Message {
        recipient,
        payload: Payload::Text("hello".into()),
        send_at: None,
        ttl_seconds: 60,
        client_ref: None,
        on_ambiguous: OnAmbiguous::Unknown,
    };
    let chunk = Arc::new(Chunk {
        account: AccountId::new(1).unwrap(),
        instance,
        queue: Queue::Normal,
        first: MessageId::new(1 << 20).unwrap().plus(first),
        created_at: Timestamp::from_seconds(1_800_000_000),
        bulk: None,
        request: RequestId(1),
        messages: vec![message; count as usize],
    });
    let key = WaIdKey::new([7; 32]);
    let outbound = |index| {
        let message = MessageRef::new(chunk.clone(), index).unwrap();
        let wa_id = key.of(message.id());
        let message = Suppressions::new().clear(recipient, message).unwrap();
        Outbound {
            wa_id,
            attempt: 1,
            message,
        }
    };
    (0..count as u32).map(outbound).collect()
}

/// An open instance and what it is told.
struct Line {
    transport: Arc<dyn Transport>,
    told: mpsc::Receiver<TransportEvent>,
}

impl Line {
    async fn open(factory: &SimulatorFactory, number: u64, settings: TransportSettings) -> Self {
        let (tell, told) = mpsc::channel(100_000);
        let sink = EventSink::new(move |delivered| {
            for event in delivered.events {
                tell.try_send(event).unwrap();
            }
        });
        let spec = TransportSpec {
            instance: InstanceId::new(number).unwrap(),
            epoch: Epoch(1),
            kind: TransportKind::Simulator,
            settings,
            phone: None,
        };
        let transport = factory.open(spec, sink).await.unwrap();
        Self { transport, told }
    }

    async fn next(&mut self) -> TransportEvent {
        tokio::time::timeout(Duration::from_secs(10), self.told.recv())
            .await
            .unwrap()
            .unwrap()
    }

    async fn online(&mut self) {
        while !matches!(
            self.next().await,
            TransportEvent::Session(SessionEvent::Online { .. })
        ) {}
    }

    async fn acks(&mut self, count: usize) {
        for _ in 0..count {
            let event = self.next().await;
            assert!(matches!(event, TransportEvent::Acked { .. }), "{event:?}");
        }
    }
}

/// A simulator process in this one.
struct Running {
    address: std::net::SocketAddr,
    stop: CancellationToken,
    serving: tokio::task::JoinHandle<()>,
}

impl Running {
    async fn start(listen: &str, ledger: &Path, script: &str) -> Self {
        let config = ServerConfig {
            listen: listen.parse().unwrap(),
            ledger: ledger.to_owned(),
            script: Script::parse(script).unwrap(),
            seed: 1,
        };
        let server = Server::bind(config, RealClock::shared()).await.unwrap();
        let (address, stop) = (server.address(), CancellationToken::new());
        let shutdown = stop.clone();
        let tasks = TaskTracker::new();
        let serving = tasks.spawn(async move { server.serve(shutdown).await.unwrap() });
        Self {
            address,
            stop,
            serving,
        }
    }

    async fn end(self) {
        self.stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), self.serving)
            .await
            .unwrap()
            .unwrap();
    }

    fn settings(&self) -> TransportSettings {
        TransportSettings {
            address: Some(self.address.to_string()),
            script: None,
        }
    }
}

fn factory() -> (SimulatorFactory, TaskTracker) {
    let tasks = TaskTracker::new();
    (
        SimulatorFactory::new(RealClock::shared(), tasks.clone(), 1),
        tasks,
    )
}

fn ledger(path: &Path) -> Vec<LedgerLine> {
    read_ledger(path).unwrap().map(Result::unwrap).collect()
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.ndjson");
    (folder, path)
}

#[tokio::test]
async fn what_is_acked_is_in_the_ledger_with_its_recipient_and_its_stamps() {
    let (_folder, path) = temporary();
    let server = Running::start("127.0.0.1:0", &path, AT_ONCE).await;
    let (factory, _tasks) = factory();
    let mut phone = Line::open(&factory, 5, server.settings()).await;
    phone.online().await;
    let sent = frames(InstanceId::new(5).unwrap(), 0, 3_000);
    let ids: Vec<_> = sent.iter().map(|frame| frame.wa_id).collect();

    assert!(phone.transport.submit(sent).is_empty());
    phone.acks(1).await;

    assert!(!ledger(&path).is_empty(), "an ack came before its line");
    phone.acks(2_999).await;
    let lines = ledger(&path);
    assert_eq!(lines.iter().map(|line| line.id).collect::<Vec<_>>(), ids);
    for line in lines {
        assert_eq!(
            (line.instance.get(), line.attempt, line.shown),
            (5, 1, true)
        );
        assert_eq!(line.recipient.to_string(), "+966501234567");
        assert!(line.handed_over_at.as_micros() > 0 && line.received_at >= line.handed_over_at);
    }
    server.end().await;
}

#[tokio::test]
async fn an_engine_comes_back_to_a_simulator_that_was_restarted_on_its_port() {
    let (_folder, path) = temporary();
    let silent = r#"{"missing_acks": {"probability": 1}, "receipts": null}"#;
    let first = Running::start("127.0.0.1:0", &path, silent).await;
    let address = first.address.to_string();
    let (factory, _tasks) = factory();
    let mut phone = Line::open(&factory, 5, first.settings()).await;
    phone.online().await;
    let sent = frames(InstanceId::new(5).unwrap(), 0, 1);
    let id = sent[0].wa_id;
    assert!(phone.transport.submit(sent.clone()).is_empty());
    while ledger(&path).is_empty() {
        tokio::task::yield_now().await;
    }

    first.end().await;

    let TransportEvent::Ambiguous { wa_id, .. } = phone.next().await else {
        panic!("ambiguous")
    };
    assert_eq!(wa_id, id);
    let offline = phone.next().await;
    assert!(
        matches!(
            offline,
            TransportEvent::Session(SessionEvent::Offline { .. })
        ),
        "{offline:?}"
    );
    assert_eq!(
        phone.transport.submit(sent.clone()).len(),
        1,
        "nothing is taken while offline"
    );
    let second = Running::start(&address, &path, AT_ONCE).await;
    phone.online().await;
    assert!(phone.transport.submit(sent).is_empty());
    phone.acks(1).await;
    second.end().await;
}

#[tokio::test]
async fn one_connection_carries_a_thousand_instances_and_ends_with_the_last_of_them() {
    let (_folder, path) = temporary();
    let server = Running::start("127.0.0.1:0", &path, AT_ONCE).await;
    let (factory, tasks) = factory();
    let mut phones = Vec::new();
    for number in 1..=1_000 {
        phones.push(Line::open(&factory, number, server.settings()).await);
    }
    for (number, phone) in (1..).zip(&mut phones) {
        phone.online().await;
        let sent = frames(InstanceId::new(number).unwrap(), number, 1);
        assert!(phone.transport.submit(sent).is_empty());
    }
    for phone in &mut phones {
        phone.acks(1).await;
    }

    assert_eq!(ledger(&path).len(), 1_000);
    assert_eq!(tasks.len(), 1, "one task for the one connection");
    drop(phones);
    tasks.close();
    tokio::time::timeout(Duration::from_secs(10), tasks.wait())
        .await
        .unwrap();
    server.end().await;
}

#[tokio::test]
async fn garbage_huge_messages_and_other_versions_are_dropped_and_others_served() {
    let (_folder, path) = temporary();
    let server = Running::start("127.0.0.1:0", &path, AT_ONCE).await;
    let hello = |version: u16| {
        let body = [
            &[0x81, 0xA5][..],
            b"hello",
            &[0x81, 0xA7],
            b"version",
            &[0xCD],
            &version.to_be_bytes(),
        ]
        .concat();
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    let answer = async |bytes: Vec<u8>| {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        let mut answer = Vec::new();
        // A reset is as good an end as a close.
        let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer));
        read.await.expect("the peer is dropped").ok();
        String::from_utf8_lossy(&answer).into_owned()
    };

    assert_eq!(answer(b"GET / HTTP/1.1\r\n\r\n".to_vec()).await, "");
    assert_eq!(answer(vec![0xFF; 4_096]).await, "");
    assert_eq!(answer(vec![0, 0, 0, 3, 1, 2, 3]).await, "");
    let turned_away = answer(hello(999)).await;
    assert!(
        turned_away.contains("speaks version 1, not 999"),
        "{turned_away}"
    );
    let after_hello = [hello(1), vec![0, 0, 0, 1, 0xC1]].concat();
    assert!(answer(after_hello).await.contains("welcome"));

    let (factory, _tasks) = factory();
    Line::open(&factory, 5, server.settings())
        .await
        .online()
        .await;
    server.end().await;
}

#[tokio::test]
async fn capabilities_follow_the_script_and_the_simulator_that_was_connected() {
    let (_folder, path) = temporary();
    let script = r#"{"idempotent": false}"#;
    let server = Running::start("127.0.0.1:0", &path, script).await;
    let (factory, _tasks) = factory();
    let local = |script: Option<&str>| TransportSettings {
        address: None,
        script: script.map(str::to_owned),
    };

    let tells = |settings| factory.capabilities(&settings).idempotent_by_id;
    assert_eq!(tells(local(None)), Some(true));
    assert_eq!(tells(local(Some(script))), Some(false));
    assert_eq!(tells(server.settings()), None);
    Line::open(&factory, 5, server.settings())
        .await
        .online()
        .await;
    assert_eq!(tells(server.settings()), Some(false));
    server.end().await;
}

#[tokio::test]
async fn ten_thousand_instances_in_this_process_need_no_task_and_answer_at_once() {
    let (factory, tasks) = factory();
    let settings = TransportSettings {
        address: None,
        script: Some(AT_ONCE.to_owned()),
    };
    let (tell, mut told) = mpsc::channel(100_000);
    let mut transports = Vec::new();
    for number in 1..=10_000 {
        let tell = tell.clone();
        let sink = EventSink::new(move |delivered| tell.try_send(delivered.events).unwrap());
        let spec = TransportSpec {
            instance: InstanceId::new(number).unwrap(),
            epoch: Epoch(1),
            kind: TransportKind::Simulator,
            settings: settings.clone(),
            phone: None,
        };
        transports.push(factory.open(spec, sink).await.unwrap());
    }
    for transport in &transports {
        let sent = frames(InstanceId::new(1).unwrap(), 0, 5);
        assert!(transport.submit(sent).is_empty());
    }

    let (mut online, mut acks) = (0, 0);
    while let Ok(events) = told.try_recv() {
        match events.len() {
            1 => online += 1,
            more => acks += more,
        }
    }
    assert_eq!((online, acks, tasks.len()), (10_000, 50_000, 0));
}

#[tokio::test]
async fn in_this_process_receipts_come_and_the_driver_ends_with_the_last_instance() {
    let (factory, tasks) = factory();
    let script = r#"{"receipts": {"received": {"probability": 1, "min_ms": 5, "max_ms": 10},
        "read": {"probability": 1, "min_ms": 5, "max_ms": 10}}}"#;
    let settings = TransportSettings {
        address: None,
        script: Some(script.to_owned()),
    };
    let mut phone = Line::open(&factory, 5, settings).await;
    phone.online().await;

    assert!(
        phone
            .transport
            .submit(frames(InstanceId::new(5).unwrap(), 0, 1))
            .is_empty()
    );

    assert!(matches!(phone.next().await, TransportEvent::Acked { .. }));
    assert!(matches!(
        phone.next().await,
        TransportEvent::Received { .. }
    ));
    assert!(matches!(phone.next().await, TransportEvent::Read { .. }));
    assert!(
        phone
            .transport
            .submit(frames(InstanceId::new(5).unwrap(), 9, 1))
            .is_empty()
    );
    phone.transport.stop(StopMode::Abort).await;
    assert!(matches!(
        phone.next().await,
        TransportEvent::Ambiguous { .. }
    ));
    tasks.close();
    tokio::time::timeout(Duration::from_secs(10), tasks.wait())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_slow_listener_gets_everything_and_holds_up_nobody() {
    let (factory, _tasks) = factory();
    let settings = TransportSettings {
        address: None,
        script: Some(AT_ONCE.to_owned()),
    };
    let (tell, mut told) = mpsc::channel(1_000);
    let spec = TransportSpec {
        instance: InstanceId::new(5).unwrap(),
        epoch: Epoch(1),
        kind: TransportKind::Simulator,
        settings: settings.clone(),
        phone: None,
    };
    let sink = EventSink::new(move |delivered| tell.try_send(delivered).unwrap());
    let slow = factory.open(spec, sink).await.unwrap();
    for first in 0..200 {
        assert!(
            slow.submit(frames(InstanceId::new(5).unwrap(), first, 1))
                .is_empty()
        );
    }
    let mut phone = Line::open(&factory, 6, settings).await;
    phone.online().await;
    assert!(
        phone
            .transport
            .submit(frames(InstanceId::new(6).unwrap(), 0, 1))
            .is_empty()
    );
    phone.acks(1).await;

    let mut events = 0;
    while events < 201 {
        events += told.recv().await.unwrap().events.len();
    }
    assert_eq!(events, 201);
}
