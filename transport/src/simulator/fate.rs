//! What becomes of one frame: decided by the script and the dice, at the moment that it arrives.

use zajil_model::phone::Phone;
use zajil_model::refusal::Refusal;
use zajil_model::time::Timestamp;
use zajil_model::wa_id::WaId;

use super::dice::{Dice, Topic};
use super::script::{Latency, Order, Receipt, RefusalRule, Script};
use crate::Outbound;

/// A frame, as much of it as a simulator looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// WhatsApp's id.
    pub(crate) wa_id: WaId,
    /// Who it is for.
    pub(crate) recipient: Phone,
    /// The attempt, from 1.
    pub(crate) attempt: u8,
    /// When the engine handed it to its transport.
    pub(crate) handed_over_at: Timestamp,
}

impl Frame {
    /// What a simulator looks at of a message that was handed over at a time.
    pub(crate) fn of(outbound: &Outbound, handed_over_at: Timestamp) -> Self {
        Self {
            wa_id: outbound.wa_id,
            recipient: outbound.message.get().message().recipient,
            attempt: outbound.attempt,
            handed_over_at,
        }
    }
}

/// What happens on an instance, now or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fact {
    /// The connection is there.
    Online,
    /// The answer to an attempt: the server has it.
    Acked { wa_id: WaId, attempt: u8 },
    /// The answer to an attempt: refused.
    Refused {
        wa_id: WaId,
        attempt: u8,
        refusal: Refusal,
        code: u16,
    },
    /// An ack that answers nothing: repeated, or for an id that nobody sent.
    AckedAgain(WaId),
    /// A failure after the ack.
    Nacked {
        wa_id: WaId,
        refusal: Refusal,
        code: u16,
    },
    /// It reached the phone.
    Received(WaId),
    /// It was opened.
    Read(WaId),
    /// The disconnect of that place in the script.
    Disconnect(usize),
    /// The restriction of that place in the script.
    Restrict(usize),
    /// The ending of that place in the script.
    End(usize),
}

/// What becomes of a frame at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    /// Whether it reached the recipient's phone, or will.
    pub(crate) reaches: bool,
}

/// Facts with the microseconds until they happen.
pub(crate) type Steps = Vec<(u64, Fact)>;

/// Decides the fate of a frame that reached the server, and appends what will happen to `steps`.
/// `number` counts the frames of the instance from 1; `known` is an id that was shown before.
pub(crate) fn decide(
    script: &Script,
    dice: Dice,
    frame: &Frame,
    number: u64,
    known: bool,
    steps: &mut Steps,
) -> Fate {
    let wa_id = frame.wa_id;
    let answer_after = dice.micros(Topic::AckLatency, script.latency);
    // A server that has an id already acks it again, whatever it thinks of the message.
    if !known && let Some(rule) = refusal(script, dice, frame, number) {
        let refusal = rule.refusal();
        let fact = Fact::Refused {
            wa_id,
            attempt: frame.attempt,
            refusal,
            code: rule.code,
        };
        steps.push((answer_after, fact));
        return Fate { reaches: false };
    }
    if let Some(missing) = script.missing_acks
        && dice.happens(Topic::MissingAck, missing.probability)
    {
        let reaches = !dice.happens(Topic::Lost, missing.lost);
        if reaches && !known {
            receipts(script, dice, wa_id, answer_after, steps);
        }
        return Fate { reaches };
    }
    let acked_after = match script.late_acks {
        Some(late) if dice.happens(Topic::LateAck, late.probability) => {
            let bounds = Latency {
                min_ms: late.min_ms,
                max_ms: late.max_ms,
            };
            dice.micros(Topic::LateAckLatency, bounds)
        }
        Some(_) | None => answer_after,
    };
    steps.push((
        acked_after,
        Fact::Acked {
            wa_id,
            attempt: frame.attempt,
        },
    ));
    more_acks(script, dice, wa_id, acked_after, steps);
    if !known {
        failed_after_ack(script, dice, wa_id, acked_after, steps);
        receipts(script, dice, wa_id, acked_after, steps);
    }
    Fate { reaches: true }
}

/// The first rule that refuses this frame.
fn refusal<'a>(
    script: &'a Script,
    dice: Dice,
    frame: &Frame,
    number: u64,
) -> Option<&'a RefusalRule> {
    script
        .refusals
        .iter()
        .enumerate()
        .find_map(|(place, rule)| {
            let matches = rule.every.is_none_or(|every| number.is_multiple_of(every))
                && rule.first_attempts.is_none_or(|last| frame.attempt <= last)
                && ends_like_one(frame.recipient, &rule.recipients)
                && rule
                    .probability
                    .is_none_or(|share| dice.happens_nth(Topic::Refusals, place, share));
            matches.then_some(rule)
        })
}

fn ends_like_one(recipient: Phone, suffixes: &[String]) -> bool {
    if suffixes.is_empty() {
        return true;
    }
    let digits = recipient.digits().to_string();
    suffixes.iter().any(|suffix| digits.ends_with(suffix))
}

fn more_acks(script: &Script, dice: Dice, wa_id: WaId, acked_after: u64, steps: &mut Steps) {
    if let Some(repeated) = script.repeated_acks
        && dice.happens(Topic::RepeatedAck, repeated.probability)
    {
        let gap = dice.micros(Topic::RepeatedAckLatency, script.latency);
        for time in 1..=u64::from(repeated.times) {
            steps.push((acked_after + time * gap, Fact::AckedAgain(wa_id)));
        }
    }
    if let Some(unknown) = script.unknown_acks
        && dice.happens(Topic::UnknownAck, unknown.probability)
        && let Ok(nobodys) = format!("3EB0{:018X}", dice.roll(Topic::UnknownAckId as u64)).parse()
    {
        steps.push((acked_after, Fact::AckedAgain(nobodys)));
    }
}

fn failed_after_ack(script: &Script, dice: Dice, wa_id: WaId, acked: u64, steps: &mut Steps) {
    if let Some(nack) = script.nacks_after_sent
        && dice.happens(Topic::Nack, nack.probability)
    {
        let bounds = Latency {
            min_ms: nack.min_ms,
            max_ms: nack.max_ms,
        };
        let after = acked + dice.micros(Topic::NackLatency, bounds);
        let refusal = nack.class.refusal(0);
        steps.push((
            after,
            Fact::Nacked {
                wa_id,
                refusal,
                code: nack.code,
            },
        ));
    }
}

/// The receipts of a message that reaches its recipient.
pub(crate) fn receipts(script: &Script, dice: Dice, wa_id: WaId, acked: u64, steps: &mut Steps) {
    let Some(receipts) = &script.receipts else {
        return;
    };
    let mut tell = |fact: Fact, receipt: &Receipt, topics: [Topic; 3], from: u64| {
        let [whether, when, again] = topics;
        if !dice.happens(whether, receipt.probability) {
            return None;
        }
        let at = from + dice.micros(when, receipt.latency());
        steps.push((at, fact));
        if dice.happens(again, receipts.repeated) {
            steps.push((at, fact));
        }
        Some(at)
    };
    let from = match receipts.order {
        Order::InOrder => acked,
        Order::Any => 0,
    };
    let topics = [
        Topic::Received,
        Topic::ReceivedLatency,
        Topic::ReceivedAgain,
    ];
    let received = tell(Fact::Received(wa_id), &receipts.received, topics, from);
    let read_from = match (receipts.order, received) {
        (Order::Any, _) => Some(0),
        (Order::InOrder, received) => received,
    };
    if let Some(from) = read_from {
        let topics = [Topic::Read, Topic::ReadLatency, Topic::ReadAgain];
        tell(Fact::Read(wa_id), &receipts.read, topics, from);
    }
}
