//! Random secrets: the operator token and generated passwords.

use rand::Rng;
use rand::distr::Alphanumeric;

/// Letters and digits of a token: 190 bits, beyond any guessing.
const TOKEN_LENGTH: usize = 32;

/// Letters and digits of a generated password: 119 bits, and still short enough to type.
const PASSWORD_LENGTH: usize = 20;

/// A new operator token.
pub fn token() -> String {
    random(TOKEN_LENGTH)
}

/// A new password.
pub fn password() -> String {
    random(PASSWORD_LENGTH)
}

fn random(length: usize) -> String {
    rand::rng()
        .sample_iter(Alphanumeric)
        .take(length)
        .map(char::from)
        .collect()
}
