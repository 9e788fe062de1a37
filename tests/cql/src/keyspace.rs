//! A keyspace for one test.

use std::fmt::{self, Display};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::script::script_now;

/// A name of a keyspace may have 48 letters; this and what makes it unique stay below.
const ABOUT_LETTERS: usize = 28;

/// The name of a keyspace that nobody else uses. What was made under it is dropped with it, since
/// each of a few hundred tables costs the server a quarter of a mebibyte.
#[derive(Debug)]
pub struct Keyspace {
    name: String,
    contact_point: String,
}

impl Keyspace {
    /// Its name carries what the test is about, for whoever looks into the server.
    pub(crate) fn fresh(about: &str, contact_point: &str) -> Self {
        let about: String = about
            .chars()
            .filter_map(|letter| match letter {
                'a'..='z' | '0'..='9' => Some(letter),
                'A'..='Z' => Some(letter.to_ascii_lowercase()),
                ' ' | '_' => Some('_'),
                _ => None,
            })
            .take(ABOUT_LETTERS)
            .collect();
        let unique: u64 = StdRng::from_os_rng().random();
        Self {
            name: format!("t_{about}_{unique:016x}"),
            contact_point: contact_point.to_owned(),
        }
    }

    /// The name, which needs no quotes.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Display for Keyspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Drop for Keyspace {
    fn drop(&mut self) {
        let drop = format!("DROP KEYSPACE IF EXISTS {}", self.name);
        let dropped = script_now(&["query", "--at", &self.contact_point, "--text", &drop]);
        if let Err(why) = dropped {
            // A test may have killed this very node.
            println!("keyspace {} stays: {why}", self.name);
        }
    }
}
