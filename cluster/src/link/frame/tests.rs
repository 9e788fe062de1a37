//! What goes in comes out; what is not a frame is told so.

use rand::rngs::SmallRng;
use rand::{Rng, RngCore, SeedableRng};

use super::*;

fn wire(frame: Frame) -> BytesMut {
    let mut bytes = Vec::new();
    let body = frame.encode(&mut bytes);
    bytes.extend(body);
    BytesMut::from(&bytes[..])
}

fn call(body: Bytes) -> Incoming {
    Incoming {
        shard: Shard::new(1_023),
        epoch: Epoch(u64::MAX),
        method: Method(7),
        body,
        deadline: Duration::from_millis(1_500),
    }
}

fn replies() -> Vec<Answer> {
    let said = [
        Reply::Ok(Bytes::from_static(b"salam")),
        Reply::NotOwner {
            owner: Some(NodeId(3)),
            epoch: Epoch(9),
        },
        Reply::NotOwner {
            owner: None,
            epoch: Epoch(0),
        },
        Reply::Moving {
            retry_after: Duration::from_millis(50),
        },
        Reply::Overloaded,
        Reply::Unsupported,
        Reply::Failed("the disk is full".to_owned()),
    ];
    let large = Answer::TooLarge { bytes: 20 << 20 };
    said.map(Answer::Reply).into_iter().chain([large]).collect()
}

fn frames() -> Vec<Frame> {
    let big = Bytes::from(vec![7; COPIED + 1]);
    let mut frames = vec![
        Frame::Request {
            id: 1,
            call: call(Bytes::from_static(b"kaifa")),
        },
        Frame::Request {
            id: u64::MAX,
            call: call(big),
        },
        Frame::Cast(call(Bytes::new())),
        Frame::Cancel { id: 4 },
        Frame::Ping,
        Frame::Goaway,
    ];
    let answered = |answer| Frame::Reply { id: 5, answer };
    frames.extend(replies().into_iter().map(answered));
    frames
}

#[test]
fn every_frame_comes_out_as_it_went_in_whole_or_byte_by_byte() {
    let mut stream: Vec<u8> = Vec::new();
    for frame in frames() {
        stream.extend(wire(frame));
    }

    let mut buffer = BytesMut::new();
    let mut read = Vec::new();
    for byte in stream {
        buffer.extend([byte]);
        read.extend(Frame::take(&mut buffer, Lane::Control).unwrap());
    }

    assert_eq!(read, frames());
    assert!(buffer.is_empty());
}

#[test]
fn a_frame_longer_than_its_lane_allows_is_refused_by_its_length_alone() {
    let mut claims = BytesMut::from(&(2_u32 << 20).to_be_bytes()[..]);

    let refused = Frame::take(&mut claims.clone(), Lane::Control);

    assert_eq!(refused, Err(Malformed::TooLong(2 << 20)));
    assert_eq!(Frame::take(&mut claims, Lane::Bulk), Ok(None));
}

#[test]
fn the_longest_body_of_a_lane_fits_a_frame() {
    let body = Bytes::from(vec![1; Lane::Control.limit()]);
    let request = Frame::Request {
        id: 1,
        call: call(body),
    };

    let read = Frame::take(&mut wire(request.clone()), Lane::Control);

    assert_eq!(read, Ok(Some(request)));
}

#[test]
fn a_field_or_a_kind_of_a_newer_node_is_no_error() {
    #[derive(Serialize)]
    struct Newer {
        kind: u8,
        id: u64,
        colour: &'static str,
    }
    let newer = |kind| {
        let head = rmp_serde::to_vec_named(&Newer {
            kind,
            id: 8,
            colour: "green",
        });
        let head = head.unwrap();
        let mut bytes = BytesMut::from(&u32::try_from(head.len()).unwrap().to_be_bytes()[..]);
        bytes.extend(head);
        Frame::take(&mut bytes, Lane::Control)
    };

    assert_eq!(newer(CANCEL), Ok(Some(Frame::Cancel { id: 8 })));
    assert_eq!(newer(200), Ok(Some(Frame::Unknown { id: 8 })));
}

#[test]
fn a_shard_that_cannot_be_is_malformed() {
    let head = Head {
        kind: CAST,
        method: Some(1),
        shard: Some(1_024),
        ..Head::default()
    };

    assert_eq!(
        head.into_frame(Bytes::new()),
        Err(Malformed::Field("shard"))
    );
}

#[test]
fn a_long_failure_is_cut_between_letters() {
    let why = "ز".repeat(FAILURE_LIMIT);

    let cut = shortened(why);

    assert!(cut.len() <= FAILURE_LIMIT && cut.ends_with('ز'));
}

/// Random bytes, and frames with a few bytes changed: a frame or an error, never a panic, and
/// never more read than was there.
#[test]
fn garbage_is_a_frame_or_an_error_and_never_a_panic() {
    let seed = crate::testing::seed();
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..20_000 {
        let frames = frames();
        let mut bytes = wire(frames[random.random_range(0..frames.len())].clone());
        for _ in 0..random.random_range(1..8) {
            let at = random.random_range(0..bytes.len().min(96));
            bytes[at] = random.random();
        }
        if random.random_bool(0.2) {
            random.fill_bytes(&mut bytes);
            bytes[..3].fill(0);
        }
        while let Ok(Some(_)) = Frame::take(&mut bytes, Lane::Control) {}
    }
}
