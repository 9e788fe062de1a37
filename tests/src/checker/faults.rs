//! The faults that can be found, in words.

use std::fmt;
use std::time::Duration;

use zajil_model::lifecycle::Status;

use super::Held;

/// How many faults are told in full.
const TOLD: usize = 20;

/// A broken promise.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Fault {
    /// Accepted, and the API does not know it (under that name).
    #[error("message {id} ({client_ref}) was accepted and is lost")]
    Lost {
        /// The id that the answer gave it.
        id: u64,
        /// The customer's name of it.
        client_ref: String,
    },
    /// Not settled in the end.
    #[error("message {id} is {status:?} for ever")]
    Stuck {
        /// Which message.
        id: u64,
        /// How it is.
        status: Status,
    },
    /// The API says something that WhatsApp's book refutes.
    #[error("message {id} is said to be {status:?}, but shown={shown}")]
    Lie {
        /// Which message.
        id: u64,
        /// What the API says.
        status: Status,
        /// Whether the recipient was shown it.
        shown: bool,
    },
    /// There is a message that the customer never asked for, or was told was refused.
    #[error("message {id} ({client_ref}) was asked for by nobody, or refused")]
    NobodyAsked {
        /// Which message.
        id: u64,
        /// Its name.
        client_ref: String,
    },
    /// WhatsApp got a frame of no message, or for somebody else than its recipient.
    #[error("the frame {wa_id} belongs to no message")]
    Phantom {
        /// WhatsApp's id of it.
        wa_id: String,
    },
    /// The recipient was shown it twice.
    #[error("{what} was shown twice")]
    ShownTwice {
        /// WhatsApp's id, or the customer's name.
        what: String,
    },
    /// Two messages were made of one.
    #[error("{what} was accepted twice")]
    AcceptedTwice {
        /// The customer's name.
        what: String,
    },
    /// Handed over again, though its outcome was written, or nobody was killed.
    #[error("the frame {wa_id} was repeated without need")]
    Repeated {
        /// WhatsApp's id of it.
        wa_id: String,
    },
    /// Handed over though held.
    #[error("the frame {wa_id} was handed over {late:?} after the barrier of {of:?}")]
    BehindBarrier {
        /// WhatsApp's id of it.
        wa_id: String,
        /// What held it.
        of: Held,
        /// How long after.
        late: Duration,
    },
    /// A recipient saw two messages the wrong way round.
    #[error("{recipient} was shown {first} before {second}, which came before it")]
    Order {
        /// Who.
        recipient: String,
        /// What was shown first.
        first: String,
        /// What should have been.
        second: String,
    },
    /// More was handed over in a window than the pace allows.
    #[error("instance {instance} handed over {frames} in {window:?}, allowed {allowed:.2}")]
    Pace {
        /// Which instance.
        instance: u64,
        /// How many.
        frames: usize,
        /// In which time.
        window: Duration,
        /// How many it may.
        allowed: f64,
    },
}

/// What was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Messages that were promised.
    pub accepted: usize,
    /// Messages whose answer was lost.
    pub indeterminate: usize,
    /// Requests that were refused.
    pub refused: usize,
    /// Frames that WhatsApp got.
    pub frames: usize,
    /// Frames that it showed.
    pub shown: usize,
    /// Every broken promise.
    pub faults: Vec<Fault>,
}

impl Report {
    /// Prints what was found.
    ///
    /// # Panics
    /// A promise was broken.
    #[track_caller]
    pub fn assert_clean(&self) {
        println!("{self}");
        assert!(self.faults.is_empty(), "{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            accepted,
            indeterminate,
            refused,
            frames,
            shown,
            faults,
        } = self;
        write!(
            f,
            "{accepted} accepted, {indeterminate} in doubt, {refused} requests refused, \
             {frames} frames, {shown} shown, {} faults",
            faults.len()
        )?;
        for fault in faults.iter().take(TOLD) {
            write!(f, "\n  {fault}")?;
        }
        if faults.len() > TOLD {
            write!(f, "\n  and {} more", faults.len() - TOLD)?;
        }
        Ok(())
    }
}
