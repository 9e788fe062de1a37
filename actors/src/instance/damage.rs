//! What of an instance cannot be read, because stored bytes are not what was written.
//!
//! Damage heals by itself in no case, so its queue stops there: what lies behind might overtake
//! what cannot be read. Somebody has to hear of it: a line in the log, a metric, a check of
//! `/readyz`. Reads are tried again, because an operator may put the bytes back.

use rustc_hash::FxHashSet;
use zajil_model::message::Queue;
use zajil_storage::StoreError;

use crate::instance::InstanceState;

/// Something that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// A queue, ahead of its sending.
    Queue(Queue),
    /// A queue, for what expired in it.
    Backlog(Queue),
    /// The schedule.
    Schedule,
}

/// The places whose last read met damage: at most a few, whatever their queues hold.
#[derive(Debug, Default)]
pub(crate) struct Damage(FxHashSet<Place>);

/// What a read taught.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learnt {
    /// There is damage that was not known.
    Broke,
    /// Damage that was known is gone.
    Healed,
    /// Nothing new.
    Nothing,
}

impl Damage {
    /// Whether anything is damaged.
    fn is_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// A read of a place ended.
    fn note(&mut self, place: Place, error: Option<&StoreError>) -> Learnt {
        match error {
            Some(StoreError::Corrupt { .. }) if self.0.insert(place) => Learnt::Broke,
            None if self.0.remove(&place) => Learnt::Healed,
            // A read that failed otherwise says nothing of the bytes.
            Some(_) | None => Learnt::Nothing,
        }
    }
}

impl InstanceState {
    /// A read of a place ended, with an error or without: tells who may have to act.
    pub(super) fn note_read(&mut self, place: Place, error: Option<&StoreError>) {
        let instance = self.me.id();
        match (self.inbox.damage.note(place, error), error) {
            (Learnt::Broke, Some(error)) => {
                tracing::error!(%instance, ?place, %error, "stored messages are damaged; what is behind them waits");
            }
            (Learnt::Healed, _) => tracing::info!(%instance, ?place, "can be read again"),
            (_, Some(error)) => tracing::warn!(%instance, ?place, %error, "cannot read"),
            (_, None) => return,
        }
        self.me.handle.set_damaged(self.inbox.damage.is_any());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrupt() -> StoreError {
        StoreError::Corrupt {
            what: "log",
            detail: "a record".to_owned(),
        }
    }

    #[test]
    fn damage_is_told_once_and_only_a_good_read_of_the_same_place_ends_it() {
        let mut damage = Damage::default();
        let place = Place::Queue(Queue::Normal);

        assert_eq!(damage.note(place, Some(&corrupt())), Learnt::Broke);
        assert_eq!(damage.note(place, Some(&corrupt())), Learnt::Nothing);
        assert_eq!(
            damage.note(place, Some(&StoreError::Closed)),
            Learnt::Nothing
        );
        assert_eq!(damage.note(Place::Schedule, None), Learnt::Nothing);
        assert!(damage.is_any());

        assert_eq!(damage.note(place, None), Learnt::Healed);
        assert!(!damage.is_any());
    }

    #[test]
    fn a_store_that_is_overloaded_is_not_damaged() {
        let mut damage = Damage::default();

        let learnt = damage.note(Place::Schedule, Some(&StoreError::Overloaded));

        assert_eq!(learnt, Learnt::Nothing);
        assert!(!damage.is_any());
    }
}
