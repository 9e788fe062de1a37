//! Claims, whatever comes in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use zajil_model::id::{MessageId, Shard, Tick};
use zajil_model::lease::shard::{Claim, ClaimError, Claims, MAX_CLAIMS};

#[derive(Clone, Copy, Debug)]
enum Step {
    /// An attempt of a message is claimed: the next, or one before or after it.
    Claim(u64, i8),
    /// The outcome of its claim is durable.
    Answered(u64),
    /// A late answer to an attempt that is long over.
    Late(u64, u8),
}

fn step() -> impl Strategy<Value = Step> {
    let message = 0..240_u64;
    prop_oneof![
        6 => (message.clone(), -1..2_i8).prop_map(|(id, off)| Step::Claim(id, off)),
        2 => message.clone().prop_map(Step::Answered),
        1 => (message, 0..4_u8).prop_map(|(id, attempt)| Step::Late(id, attempt)),
    ]
}

fn message(n: u64) -> MessageId {
    MessageId::give(Tick(n + 1), Shard::of(1))
}

proptest! {
    #[test]
    fn at_most_200_are_open_one_of_a_message_and_the_next_only_after_its_outcome(
        steps in prop::collection::vec(step(), 1..1_500),
    ) {
        let mut claims = Claims::default();
        let mut open: BTreeMap<u64, u8> = BTreeMap::new();
        let mut made: BTreeMap<u64, u8> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Claim(n, off) => {
                    let next = made.get(&n).copied().unwrap_or_default() + 1;
                    let attempt = next.saturating_add_signed(off).max(1);
                    let expected = match open.get(&n) {
                        Some(_) => Err(ClaimError::Unanswered),
                        None if open.len() == MAX_CLAIMS => Err(ClaimError::Full),
                        None => Ok(Claim { id: message(n), attempt }),
                    };
                    let claimed = claims.claim(message(n), attempt);
                    prop_assert_eq!(claimed, expected);
                    if claimed.is_ok() {
                        open.insert(n, attempt);
                        made.insert(n, attempt);
                    }
                }
                Step::Answered(n) => {
                    if let Some(attempt) = open.remove(&n) {
                        claims.answered(Claim { id: message(n), attempt });
                    }
                }
                Step::Late(n, attempt) => {
                    if open.get(&n) != Some(&attempt) {
                        claims.answered(Claim { id: message(n), attempt });
                    }
                }
            }
            let expected = open.iter().map(|(n, attempt)| Claim { id: message(*n), attempt: *attempt });
            prop_assert!(claims.open().eq(expected));
            prop_assert_eq!(claims.room(), MAX_CLAIMS - open.len());
        }
    }
}
