//! What happens when nothing goes wrong any more.

use super::guard::Rules;
use super::state::State;
use super::step::Step;

/// Far more than a message needs from anywhere to its end.
const ENOUGH: usize = 40;

impl State {
    /// Whether the message settles when one node takes the shard and everything is answered. What a
    /// deposed owner has on its way goes first.
    pub(crate) fn settles(&self, rules: &Rules) -> bool {
        let mut calm = self.clone();
        for n in 0..2 {
            for step in [Step::Taken(n), Step::Answered(n), Step::Noted(n)] {
                let _possible = calm.take(step, rules);
            }
        }
        let _possible = calm.take_over(0, rules);
        let helpful = [
            Step::Recorded(0),
            Step::Confirmed(0),
            Step::Pass(0),
            Step::Taken(0),
            Step::Answered(0),
            Step::TimedOut(0),
            Step::Noted(0),
            Step::Attempt(0),
            Step::Expire(0),
        ];
        for _ in 0..ENOUGH {
            if calm.stored.status.is_settled() {
                return true;
            }
            let stepped = helpful.iter().any(|step| calm.take(*step, rules).is_some());
            if !stepped && calm.wait().is_none() {
                return false;
            }
        }
        false
    }
}
