//! What the simulated WhatsApp does, by passed-in time.
