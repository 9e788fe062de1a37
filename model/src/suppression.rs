//! Opt-outs, and the proof that a message passed them.

/// Something that passed the check of suppressions: the only thing that a transport takes.
#[derive(Clone, Debug)]
pub struct Cleared<T>(T);

impl<T> Cleared<T> {
    /// What was cleared.
    pub const fn get(&self) -> &T {
        &self.0
    }
}
