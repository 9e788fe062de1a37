//! What is sent: texts as campaigns have them, about 250 bytes of JSON a message.

use std::fmt::Write as _;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use zajil_model::message::{DEFAULT_TTL_SECONDS, Message, OnAmbiguous, Payload};
use zajil_model::phone::Phone;

/// Messages of one bulk request: as many as one may have.
pub(crate) const BULK: usize = 100;

/// Every run sends the same texts.
const SEED: u64 = 7;

const NAMES: [&str; 10] = [
    "Maria",
    "Joao",
    "Ana Paula",
    "Carlos",
    "Fernanda",
    "Luiz",
    "Beatriz",
    "Rafael",
    "Juliana",
    "Pedro",
];

const THINGS: [&str; 10] = [
    "delivery",
    "invoice",
    "appointment",
    "order",
    "subscription",
    "ticket",
    "parcel",
    "payment",
    "reservation",
    "contract",
];

/// Makes texts and recipients.
#[derive(Debug)]
pub(crate) struct Words(SmallRng);

impl Words {
    /// The words of one maker: each number says others.
    pub(crate) fn new(number: u64) -> Self {
        Self(SmallRng::seed_from_u64(SEED ^ number << 8))
    }

    /// A text.
    pub(crate) fn text(&mut self) -> String {
        let rng = &mut self.0;
        let name = NAMES[rng.random_range(0..NAMES.len())];
        let thing = THINGS[rng.random_range(0..THINGS.len())];
        format!(
            "Hello {name}, your {thing} number {:08} of {},{:02} is ready. Open \
             https://example.com/c/{:x} to see the details, or answer this message with YES, and \
             we call you at the time that suits you. Code {:06}.",
            rng.random_range(0..99_999_999),
            rng.random_range(0..900),
            rng.random_range(0..99),
            rng.random_range(0..u64::from(u32::MAX)),
            rng.random_range(0..999_999),
        )
    }

    fn digits(&mut self) -> u64 {
        5_511_900_000_000 + self.0.random_range(0..99_999_999)
    }

    fn json(&mut self) -> String {
        let digits = self.digits();
        format!(r#""recipient":"+{digits}","content":"{}""#, self.text())
    }

    /// The body of a request of `messages` messages for an instance.
    pub(crate) fn body(&mut self, instance: &str, messages: usize) -> String {
        if messages == 1 {
            return format!(r#"{{"instance":"{instance}",{}}}"#, self.json());
        }
        let mut body = format!(r#"{{"instance":"{instance}","messages":["#);
        for n in 0..messages {
            let comma = if n == 0 { "" } else { "," };
            write!(body, "{comma}{{{}}}", self.json()).expect("a string takes all");
        }
        body.push_str("]}");
        body
    }

    /// A message as the edge hands it over.
    pub(crate) fn message(&mut self) -> Message {
        Message {
            recipient: self.phone(),
            payload: Payload::Text(self.text().into()),
            send_at: None,
            ttl_seconds: DEFAULT_TTL_SECONDS,
            client_ref: None,
            on_ambiguous: OnAmbiguous::default(),
        }
    }

    /// A recipient.
    pub(crate) fn phone(&mut self) -> Phone {
        Phone::from_digits(&self.digits().to_string()).expect("13 digits are a number")
    }
}

/// The name of the instance of that number.
pub(crate) fn instance_name(number: usize) -> String {
    format!("inst-{number:06}")
}

/// The path that takes requests of `messages` messages.
pub(crate) const fn path(messages: usize) -> &'static str {
    if messages == 1 {
        "/integration/v1/messages/send"
    } else {
        "/integration/v1/messages/send-bulk"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_bulk_takes_about_250_bytes() {
        let body = Words::new(1).body("inst-000001", BULK);

        let each = body.len() / BULK;
        assert!((240..=270).contains(&each), "{each} bytes");
    }

    #[test]
    fn bodies_are_json_with_as_many_messages_as_asked_for() {
        let mut words = Words::new(1);
        let bulk: serde_json::Value = serde_json::from_str(&words.body("a", 3)).unwrap();
        let one: serde_json::Value = serde_json::from_str(&words.body("a", 1)).unwrap();

        assert_eq!(bulk["messages"].as_array().unwrap().len(), 3);
        assert_eq!(one["instance"], "a");
    }
}
