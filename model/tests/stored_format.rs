//! What was stored once must be readable for ever: chunks and outcomes in their stored form.

#![expect(clippy::unwrap_used, reason = "these are tests, helpers included")]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use zajil_model::id::{AccountId, BatchId, InstanceId, MessageId, RequestId, Shard, Tick};
use zajil_model::lifecycle::{Event, Outcome};
use zajil_model::message::{Chunk, Message, OnAmbiguous, Payload, Poll, Queue};
use zajil_model::phone::Phone;
use zajil_model::refusal::{Failure, Reason};
use zajil_model::time::Timestamp;

fn first() -> MessageId {
    MessageId::give(Tick(114_048_000_000), Shard::new(37).unwrap())
}

fn text() -> Message {
    Message {
        recipient: Phone::parse("+966501234567").unwrap(),
        payload: Payload::Text("مرحبا".into()),
        send_at: None,
        ttl_seconds: 86_400,
        client_ref: None,
        on_ambiguous: OnAmbiguous::Unknown,
    }
}

fn poll() -> Message {
    let poll = Poll {
        question: "Lunch?".to_owned(),
        options: vec!["Yes".to_owned(), "No".to_owned()],
        selectable_count: 1,
    };
    Message {
        payload: Payload::Poll(Box::new(poll)),
        send_at: Some(Timestamp::from_seconds(1_800_000_000)),
        ttl_seconds: 60,
        client_ref: Some("order-7".into()),
        on_ambiguous: OnAmbiguous::Resend,
        ..text()
    }
}

fn chunk() -> Chunk {
    Chunk {
        account: AccountId::new(1_024).unwrap(),
        instance: InstanceId::new(2_049).unwrap(),
        queue: Queue::Part(BatchId::new(3_074).unwrap()),
        first: first(),
        created_at: Timestamp::from_seconds(1_796_000_000),
        bulk: None,
        request: RequestId(7),
        messages: vec![text(), poll()],
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits = text.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// Any MessagePack map, to add members to what is stored and take them away.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Value {
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    // Before texts, which take bytes for themselves.
    Bytes(RawBytes),
    Text(String),
    Array(Vec<Value>),
    Map(BTreeMap<String, Value>),
    Nil,
}

/// Bytes that stay bytes: the request id is stored so.
#[derive(Debug)]
struct RawBytes(Vec<u8>);

impl Serialize for RawBytes {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for RawBytes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = RawBytes;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<RawBytes, E> {
                Ok(RawBytes(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Visitor)
    }
}

#[test]
fn a_chunk_is_stored_as_it_always_was() {
    let stored = rmp_serde::to_vec_named(&chunk()).unwrap();

    assert_eq!(hex(&stored), GOLDEN_CHUNK);
    assert_eq!(
        rmp_serde::from_slice::<Chunk>(&unhex(GOLDEN_CHUNK)).unwrap(),
        chunk()
    );
}

#[test]
fn a_chunk_of_a_later_version_is_readable() {
    let stored = rmp_serde::to_vec_named(&chunk()).unwrap();
    let mut value: BTreeMap<String, Value> = rmp_serde::from_slice(&stored).unwrap();
    value.insert(
        "added_later".to_owned(),
        Value::Array(vec![Value::Nil, Value::Bool(true)]),
    );
    let Some(Value::Array(messages)) = value.get_mut("messages") else {
        panic!("no messages")
    };
    for message in messages {
        let Value::Map(message) = message else {
            panic!("no map")
        };
        message.insert("new".to_owned(), Value::Text("?".to_owned()));
    }

    let later = rmp_serde::to_vec_named(&value).unwrap();

    assert_eq!(rmp_serde::from_slice::<Chunk>(&later).unwrap(), chunk());
}

#[test]
fn a_chunk_without_what_is_optional_is_readable() {
    let stored = rmp_serde::to_vec_named(&chunk()).unwrap();
    let mut value: BTreeMap<String, Value> = rmp_serde::from_slice(&stored).unwrap();
    let Some(Value::Array(messages)) = value.get_mut("messages") else {
        panic!("no messages")
    };
    let Value::Map(second) = &mut messages[1] else {
        panic!("no map")
    };
    second.retain(|name, _| ["to", "p"].contains(&name.as_str()));

    let bare = rmp_serde::to_vec_named(&value).unwrap();

    let mut expected = chunk();
    expected.messages[1] = Message {
        payload: poll().payload,
        ..text()
    };
    assert_eq!(rmp_serde::from_slice::<Chunk>(&bare).unwrap(), expected);
}

#[test]
fn an_ordinary_message_is_stored_without_its_defaults() {
    let stored = rmp_serde::to_vec_named(&text()).unwrap();
    let value: BTreeMap<String, Value> = rmp_serde::from_slice(&stored).unwrap();

    assert_eq!(value.keys().collect::<Vec<_>>(), ["p", "to"]);
}

#[test]
fn outcomes_are_stored_as_they_always_were() {
    let failure = Failure {
        reason: Reason::NoSuchRecipient,
        code: 404,
    };
    let later = Timestamp::from_seconds(1_796_000_060);
    let events = [
        Event::Attempt(1),
        Event::Refused {
            failure,
            retry_at: later,
        },
        Event::Scheduled(later),
        Event::Due,
        Event::Acked,
        Event::Delivered,
        Event::Read,
        Event::Rejected(failure),
        Event::Failed(failure),
        Event::Expired,
        Event::Cancelled,
        Event::Suppressed,
        Event::Unknown,
    ];

    for (event, golden) in events.into_iter().zip(GOLDEN_OUTCOMES) {
        let outcome = Outcome {
            id: first(),
            at: Timestamp::from_seconds(1_796_000_000),
            event,
        };
        let stored = rmp_serde::to_vec_named(&outcome).unwrap();

        assert_eq!(hex(&stored), format!("{GOLDEN_HEAD}{golden}"), "{event:?}");
        assert_eq!(rmp_serde::from_slice::<Outcome>(&stored).unwrap(), outcome);
    }
}

const GOLDEN_CHUNK: &str = "\
    87a76163636f756e74cd0400a8696e7374616e6365cd0801a5717565756581a470617274cd0c02a56669727374cf\
    00006a3729800025aa637265617465645f6174cf00066173d6044000a772657175657374c4100000000000000000\
    0000000000000007a86d657373616765739282a2746fcf000000e107f67787a17081a474657874aad985d8b1d8ad\
    d8a8d8a786a2746fcf000000e107f67787a17081a4706f6c6c83a87175657374696f6ea64c756e63683fa76f7074\
    696f6e7392a3596573a24e6fb073656c65637461626c655f636f756e7401a26174cf0006651728988000a374746c\
    3ca3726566a76f726465722d37a3616d62a6726573656e64";

/// `id`, `at` and the name of the event, as each outcome begins.
const GOLDEN_HEAD: &str = "83a26964cf00006a3729800025a26174cf00066173d6044000a56576656e74";

const GOLDEN_OUTCOMES: [&str; 13] = [
    "81a7617474656d707401",
    "81a77265667573656482a76661696c75726582a6726561736f6eb16e6f5f737563685f72656369706965\
     6e74a4636f6465cd0194a872657472795f6174cf00066173d997c700",
    "81a97363686564756c6564cf00066173d997c700",
    "a3647565",
    "a561636b6564",
    "a964656c697665726564",
    "a472656164",
    "81a872656a656374656482a6726561736f6eb16e6f5f737563685f726563697069656e74a4636f6465cd\
     0194",
    "81a66661696c656482a6726561736f6eb16e6f5f737563685f726563697069656e74a4636f6465cd0194",
    "a765787069726564",
    "a963616e63656c6c6564",
    "aa73757070726573736564",
    "a7756e6b6e6f776e",
];
