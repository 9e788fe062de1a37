//! What a script must keep to beyond its shape; each complaint names its field.

use super::{Disconnect, Ending, Latency, Receipt, RefusalClass, RefusalRule, Restriction, Script};

/// More rules of one kind than this are no script but a mistake, and each costs time per frame.
const MAX_RULES: usize = 256;

/// The first thing that is wrong with a script.
pub(super) fn check(script: &Script) -> Result<(), String> {
    latency("connect", script.connect)?;
    latency("latency", script.latency)?;
    if let Some(receipts) = &script.receipts {
        receipt("receipts.received", &receipts.received)?;
        receipt("receipts.read", &receipts.read)?;
        probability("receipts.repeated", receipts.repeated)?;
    }
    answers(script)?;
    each("refusals", &script.refusals, refusal)?;
    each("disconnects", &script.disconnects, disconnect)?;
    each("restrictions", &script.restrictions, restriction)?;
    each("endings", &script.endings, ending)
}

fn answers(script: &Script) -> Result<(), String> {
    if let Some(throttle) = script.throttle {
        at_least_one("throttle.per_second", Some(u64::from(throttle.per_second)))?;
    }
    if let Some(late) = script.late_acks {
        probability("late_acks.probability", late.probability)?;
        latency(
            "late_acks",
            Latency {
                min_ms: late.min_ms,
                max_ms: late.max_ms,
            },
        )?;
    }
    if let Some(missing) = script.missing_acks {
        probability("missing_acks.probability", missing.probability)?;
        probability("missing_acks.lost", missing.lost)?;
    }
    if let Some(repeated) = script.repeated_acks {
        probability("repeated_acks.probability", repeated.probability)?;
        at_least_one("repeated_acks.times", Some(u64::from(repeated.times)))?;
    }
    if let Some(unknown) = script.unknown_acks {
        probability("unknown_acks.probability", unknown.probability)?;
    }
    if let Some(nack) = script.nacks_after_sent {
        probability("nacks_after_sent.probability", nack.probability)?;
        latency(
            "nacks_after_sent",
            Latency {
                min_ms: nack.min_ms,
                max_ms: nack.max_ms,
            },
        )?;
    }
    Ok(())
}

fn each<T>(
    name: &str,
    rules: &[T],
    check: impl Fn(&str, &T) -> Result<(), String>,
) -> Result<(), String> {
    if rules.len() > MAX_RULES {
        return Err(format!("{name} must have at most {MAX_RULES} entries"));
    }
    rules
        .iter()
        .enumerate()
        .try_for_each(|(at, rule)| check(&format!("{name}[{at}]"), rule))
}

fn refusal(name: &str, rule: &RefusalRule) -> Result<(), String> {
    let conditions = rule.probability.is_some()
        || rule.every.is_some()
        || !rule.recipients.is_empty()
        || rule.first_attempts.is_some();
    if !conditions {
        return Err(format!(
            "{name} needs one of probability, every, recipients and first_attempts"
        ));
    }
    if rule.wait_ms > 0 && rule.class != RefusalClass::Throttled {
        return Err(format!(
            "{name}.wait_ms goes with the class throttled alone"
        ));
    }
    if let Some(share) = rule.probability {
        probability(&format!("{name}.probability"), share)?;
    }
    at_least_one(&format!("{name}.every"), rule.every)?;
    let digits = |suffix: &String| !suffix.is_empty() && suffix.bytes().all(|b| b.is_ascii_digit());
    if !rule.recipients.iter().all(digits) {
        return Err(format!("{name}.recipients must be digits"));
    }
    Ok(())
}

fn disconnect(name: &str, rule: &Disconnect) -> Result<(), String> {
    let given = [rule.after_frames, rule.every_frames, rule.at_ms];
    if given.iter().flatten().count() != 1 {
        return Err(format!(
            "{name} needs one of after_frames, every_frames and at_ms"
        ));
    }
    at_least_one(&format!("{name}.after_frames"), rule.after_frames)?;
    at_least_one(&format!("{name}.every_frames"), rule.every_frames)?;
    probability(&format!("{name}.shown"), rule.shown)
}

fn restriction(name: &str, rule: &Restriction) -> Result<(), String> {
    frames_or_time(name, rule.after_frames, rule.at_ms)
}

fn ending(name: &str, rule: &Ending) -> Result<(), String> {
    frames_or_time(name, rule.after_frames, rule.at_ms)
}

fn frames_or_time(name: &str, frames: Option<u64>, at_ms: Option<u64>) -> Result<(), String> {
    if frames.is_some() == at_ms.is_some() {
        return Err(format!("{name} needs one of after_frames and at_ms"));
    }
    at_least_one(&format!("{name}.after_frames"), frames)
}

fn receipt(name: &str, receipt: &Receipt) -> Result<(), String> {
    probability(&format!("{name}.probability"), receipt.probability)?;
    latency(name, receipt.latency())
}

fn latency(name: &str, latency: Latency) -> Result<(), String> {
    if latency.max_ms < latency.min_ms {
        return Err(format!("{name}.max_ms must not be below {name}.min_ms"));
    }
    Ok(())
}

fn probability(name: &str, share: f64) -> Result<(), String> {
    if (0.0..=1.0).contains(&share) {
        return Ok(());
    }
    Err(format!("{name} must be between 0 and 1"))
}

fn at_least_one(name: &str, count: Option<u64>) -> Result<(), String> {
    if count == Some(0) {
        Err(format!("{name} must be at least 1"))
    } else {
        Ok(())
    }
}
