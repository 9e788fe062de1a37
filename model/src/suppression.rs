//! Opt-outs, and the proof that a message passed them.
//!
//! A transport takes a [`Cleared`] message only, and [`Suppressions::clear`] is the one place that
//! makes them: no path can send past an opt-out by mistake.

use rustc_hash::FxHashSet;

use crate::phone::Phone;

/// Something that passed the check of suppressions: the only thing that a transport takes.
#[derive(Clone, Debug)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    /// What was cleared.
    pub const fn get(&self) -> &T {
        &self.0
    }

    /// What was cleared, which loses its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// The recipients who opted out of the messages of one account.
#[derive(Clone, Debug, Default)]
pub struct Suppressions(FxHashSet<Phone>);

impl Suppressions {
    /// Nobody opted out.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes an opt-out; `false` when it was known.
    pub fn insert(&mut self, recipient: Phone) -> bool {
        self.0.insert(recipient)
    }

    /// Takes an opt-out back; `false` when there was none.
    pub fn remove(&mut self, recipient: Phone) -> bool {
        self.0.remove(&recipient)
    }

    /// Whether this recipient opted out.
    pub fn contains(&self, recipient: Phone) -> bool {
        self.0.contains(&recipient)
    }

    /// How many opted out.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody opted out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Phone> + '_ {
        self.0.iter().copied()
    }

    /// Checks `item`, which is meant for `recipient`; gives it back when they opted out.
    pub fn clear<T>(&self, recipient: Phone, item: T) -> Result<Cleared<T>, T> {
        if self.contains(recipient) {
            Err(item)
        } else {
            Ok(Cleared(item))
        }
    }
}

impl FromIterator<Phone> for Suppressions {
    fn from_iter<I: IntoIterator<Item = Phone>>(recipients: I) -> Self {
        Self(recipients.into_iter().collect())
    }
}

impl Extend<Phone> for Suppressions {
    fn extend<I: IntoIterator<Item = Phone>>(&mut self, recipients: I) {
        self.0.extend(recipients);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phone(text: &str) -> Phone {
        Phone::parse(text).unwrap()
    }

    #[test]
    fn what_is_meant_for_one_who_opted_out_comes_back_uncleared() {
        let out = phone("+966501234567");
        let suppressions: Suppressions = [out].into_iter().collect();

        assert_eq!(
            suppressions.clear(out, "hello").map(Cleared::into_inner),
            Err("hello")
        );
        assert_eq!(
            *suppressions
                .clear(phone("+966501234568"), "hello")
                .unwrap()
                .get(),
            "hello"
        );
    }

    #[test]
    fn an_opt_out_that_is_taken_back_lets_messages_pass_again() {
        let mut suppressions = Suppressions::new();
        let person = phone("+966501234567");

        assert!(suppressions.insert(person) && !suppressions.insert(person));
        assert_eq!(
            (suppressions.len(), suppressions.contains(person)),
            (1, true)
        );

        assert!(suppressions.remove(person) && !suppressions.remove(person));
        assert!(suppressions.is_empty() && suppressions.clear(person, ()).is_ok());
    }
}
