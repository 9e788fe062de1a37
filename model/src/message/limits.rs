//! The limits of each field of a message (`API.md`, Sends).
