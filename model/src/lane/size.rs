//! How much of an instance's queues is kept in memory.

use std::time::Duration;

/// The least window: a very slow instance still sees a few recipients past a held one.
pub const LEAST_WINDOW: usize = 4;

/// The largest window: at higher rates reading ahead is as fast as sending, and 256 messages
/// bridge several milliseconds.
pub const LARGEST_WINDOW: usize = 256;

/// How much pace a window holds, in seconds: longer than a read from the log takes at its worst.
pub const WINDOW_SECONDS: f64 = 2.0;

/// The most messages of an instance on their way to the channel: 5,000 a second answered within
/// 200 ms, or what a channel that has stopped answering is given before it is waited for.
pub const MOST_IN_FLIGHT: usize = 1_024;

/// How many times the messages that are in flight on average may be: answers come unevenly.
const IN_FLIGHT_ROOM: f64 = 2.0;

/// The most messages of one queue in memory, held ones included: four windows. So many held
/// recipients in a row are a trouble of the instance, which reading further does not cure.
pub const QUEUE_CAP: usize = 4 * LARGEST_WINDOW;

/// The most messages of all parts in memory, held ones included, beyond [`LEAST_WINDOW`] for each.
/// With the high and the normal lane an instance holds about 6,000 at worst, some megabytes.
pub const BULK_CAP: usize = 4 * QUEUE_CAP;

/// How many ready messages of a queue to keep in memory at a pace: 2 s of it, 4 to 256.
pub fn window_size(rate_per_second: f64) -> usize {
    let wanted = (rate_per_second * WINDOW_SECONDS).ceil();
    wanted.max(LEAST_WINDOW as f64).min(LARGEST_WINDOW as f64) as usize
}

/// How many messages may be on their way to a channel that answers within `answer`: a window, and
/// where that would hold the pace back, what the pace hands over meanwhile.
pub fn most_in_flight(rate_per_second: f64, answer: Duration) -> usize {
    let meanwhile = rate_per_second * answer.as_secs_f64() * IN_FLIGHT_ROOM;
    let meanwhile = meanwhile.min(MOST_IN_FLIGHT as f64) as usize;
    window_size(rate_per_second).max(meanwhile)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fast_pace_over_a_slow_channel_has_as_many_in_flight_as_it_needs() {
        let at_once = Duration::ZERO;
        let far = Duration::from_millis(100);

        assert_eq!(most_in_flight(10.0, far), window_size(10.0));
        assert_eq!(most_in_flight(5_000.0, at_once), LARGEST_WINDOW);
        assert_eq!(most_in_flight(5_000.0, far), 1_000);
        assert_eq!(most_in_flight(1e6, Duration::MAX), MOST_IN_FLIGHT);
    }

    #[test]
    fn a_window_holds_two_seconds_of_pace_between_4_and_256() {
        let sizes = [0.001, 1.0, 10.0, 12.3, 128.0, 1e6].map(window_size);

        assert_eq!(sizes, [4, 4, 20, 25, 256, 256]);
    }
}
