//! What the log keeps, byte by byte.

use zajil_model::id::RequestId;
use zajil_model::lifecycle::{Event, Status};
use zajil_model::message::{Message, OnAmbiguous, Payload};
use zajil_model::phone::Phone;
use zajil_model::refusal::{Failure, Reason};

use super::*;
use crate::query::{Cursor, StatusChange};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_795_392_000 + seconds)
}

fn id(number: u64) -> MessageId {
    MessageId::new(7_000_000 + (number << 10)).unwrap()
}

fn chunk(texts: &[&str]) -> Arc<Chunk> {
    let message = |text: &&str| Message {
        recipient: Phone::from_digits("4915112345678").unwrap(),
        payload: Payload::Text((*text).into()),
        send_at: None,
        ttl_seconds: 86_400,
        client_ref: None,
        on_ambiguous: OnAmbiguous::Unknown,
    };
    Arc::new(Chunk {
        account: AccountId::new(1).unwrap(),
        instance: InstanceId::new(2).unwrap(),
        queue: Queue::Normal,
        first: id(0),
        created_at: at(0),
        bulk: None,
        request: RequestId(3),
        messages: texts.iter().map(message).collect(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn outcomes() -> Vec<Outcome> {
    let failure = Failure {
        reason: Reason::Throttled,
        code: 429,
    };
    let events = [
        Event::Attempt(1),
        Event::Refused {
            failure,
            retry_at: at(30),
        },
        Event::Scheduled(at(60)),
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
    let outcome = |(n, event)| Outcome {
        id: id(n as u64 % 5),
        at: at(n as i64),
        event,
    };
    events.into_iter().enumerate().map(outcome).collect()
}

/// What became of messages by each event that there is.
fn states() -> Vec<(MessageId, MessageState)> {
    let mut state = MessageState::default();
    let mut after = |outcome: Outcome| {
        state.apply(outcome.event, outcome.at);
        (outcome.id, state)
    };
    outcomes().into_iter().map(&mut after).collect()
}

fn told() -> Vec<Placed> {
    let place = |record, within| Cursor { record, within };
    let change = |n, status| StatusChange {
        id: id(n),
        status,
        at: at(n as i64),
    };
    vec![
        (place(7, 0), change(2, Status::Processing)),
        (place(7, 3), change(1, Status::Sent)),
        (place(1 << 50, 1), change(2, Status::Read)),
    ]
}

#[test]
fn every_record_comes_back_as_it_was() {
    let cancel = CancelAll {
        account: AccountId::new(1).unwrap(),
        instance: InstanceId::new(2).unwrap(),
        queue: Some(Queue::Part(BatchId::new(9).unwrap())),
        upto: id(4),
        at: at(1),
    };
    let rows = vec![
        (RowKey::new(Table::Contacts, "a", "b"), Some(vec![1, 2])),
        (RowKey::new(Table::Meta, "gone", ""), None),
    ];
    let records = [
        Record::Outcomes(outcomes()),
        Record::CancelAll(cancel),
        Record::CancelAll(CancelAll {
            queue: None,
            ..cancel
        }),
        Record::Rows(rows),
        Record::Sweep(cancel.instance),
        Record::Retire(2_961),
        Record::Known(states()),
        Record::Told(cancel.account, told()),
    ];

    for record in records {
        let encoded = encode_alone(record.clone());

        let alone = Place {
            first: true,
            last: true,
        };
        assert_eq!(decode(&encoded.payload), Ok((alone, record)));
    }
}

#[test]
fn an_append_of_several_entries_says_where_it_begins_and_ends() {
    let entries = vec![
        Entry::Accept(chunk(&["one"])),
        Entry::Outcomes(outcomes()),
        Entry::Outcomes(outcomes()),
    ];

    let records = encode(entries).unwrap();

    let places = records.iter().map(|one| decode(&one.payload).unwrap().0);
    let expected = [(true, false), (false, false), (false, true)];
    assert!(places.eq(expected.map(|(first, last)| Place { first, last })));
}

#[test]
fn the_bytes_of_a_chunk_are_those_of_every_version_before() {
    let records = encode(vec![Entry::Accept(chunk(&["hi"]))]).unwrap();

    assert_eq!(hex(&records[0].payload), GOLDEN_CHUNK);
}

#[test]
fn the_bytes_of_outcomes_are_those_of_every_version_before() {
    let encoded = encode_alone(Record::Outcomes(outcomes()));

    assert_eq!(hex(&encoded.payload), GOLDEN_OUTCOMES);
}

#[test]
fn a_chunk_is_compressed_when_that_pays_and_cut_when_it_is_long() {
    let same = "the same words again and again ".repeat(40);
    let long: Vec<&str> = vec![same.as_str(); 100];

    let records = encode(vec![Entry::Accept(chunk(&long))]).unwrap();

    assert!(records.len() > 1);
    assert!(
        records
            .iter()
            .all(|one| one.payload.len() < chunk::CHUNK_LIMIT / 4)
    );
    let mut next = id(0);
    for one in records {
        let (_, record) = decode(&one.payload).unwrap();
        assert_eq!(record, one.record);
        let Record::Accept(part) = record else {
            panic!("no chunk")
        };
        assert_eq!(part.first, next);
        next = part.last().plus(1);
    }
    assert_eq!(next, id(100));
}

#[test]
fn an_event_that_is_not_known_is_a_fault_and_no_guess() {
    let mut payload = encode_alone(Record::Outcomes(vec![Outcome {
        id: id(0),
        at: at(0),
        event: Event::Due,
    }]))
    .payload;
    *payload.last_mut().unwrap() = 99;

    assert!(matches!(decode(&payload), Err(StoreError::Corrupt { .. })));
}

const GOLDEN_CHUNK: &str = "03000187a76163636f756e7401a8696e7374616e636502a57175657565a66e6f726d616c\
    a56669727374ce006acfc0aa637265617465645f6174cf000660e646648000a772657175657374c410000000000000\
    00000000000000000003a86d657373616765739182a2746fcf000004786386804ea17081a474657874a26869";
const GOLDEN_OUTCOMES: &str = "0301010d80bfd6068080a4e6c8b9b0060001801080897a0100ad038085d41b80108089\
    7a02808aa837801080897a03801080897a04ff3f80897a05801080897a06801080897a0700ad03801080897a0800ad\
    03801080897a09ff3f80897a0a801080897a0b801080897a0c";
