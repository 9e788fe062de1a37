//! What a benchmark says: figures, each beside what it is compared with.

use serde::Serialize;
use serde_json::Value;

/// What a figure is compared with, measured in the same run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Limit {
    /// What it is.
    pub(crate) name: &'static str,
    /// How much of it there was, in the unit of the figure.
    pub(crate) value: f64,
}

/// What a figure has to reach: its ratio where it has a limit, else its value.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reach {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One figure; printed as one line of JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    bench: &'static str,
    figure: &'static str,
    value: f64,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<Limit>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reach: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    met: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_us_per_message: Option<f64>,
    run: Value,
    #[serde(skip)]
    wanted: Option<Reach>,
}

impl Figure {
    /// A figure of a benchmark; `run` says how it came about.
    pub(crate) fn new(
        bench: &'static str,
        figure: &'static str,
        value: f64,
        unit: &'static str,
        run: Value,
    ) -> Self {
        Self {
            bench,
            figure,
            value: round(value),
            unit,
            limit: None,
            ratio: None,
            reach: None,
            met: None,
            cpu_us_per_message: None,
            run,
            wanted: None,
        }
        .judged()
    }

    /// The same beside a limit: from here on its ratio to it is judged.
    pub(crate) fn beside(mut self, name: &'static str, value: f64) -> Self {
        self.limit = Some(Limit {
            name,
            value: round(value),
        });
        self.ratio = (value != 0.0).then(|| round(self.value / value));
        self.judged()
    }

    /// The same with what it has to reach.
    pub(crate) fn reaching(mut self, reach: Reach) -> Self {
        self.wanted = Some(reach);
        self.judged()
    }

    /// The same with the CPU that a message took, in microseconds.
    pub(crate) fn costing(mut self, microseconds: f64) -> Self {
        self.cpu_us_per_message = Some(round(microseconds));
        self
    }

    fn judged(mut self) -> Self {
        let judged = if self.limit.is_some() {
            self.ratio
        } else {
            Some(self.value)
        };
        (self.reach, self.met) = match self.wanted {
            None => (None, None),
            Some(Reach::AtLeast(least)) => (
                Some(format!(">= {least}")),
                Some(judged.is_some_and(|value| value >= least)),
            ),
            Some(Reach::AtMost(most)) => (
                Some(format!("<= {most}")),
                Some(judged.is_some_and(|value| value <= most)),
            ),
        };
        self
    }

    /// The line of JSON.
    pub(crate) fn line(&self) -> String {
        serde_json::to_string(self).expect("a figure has only plain members")
    }
}

/// Four significant digits: more would pretend to a precision that no run has.
fn round(value: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    let digits = 3 - value.abs().log10().floor() as i32;
    if digits <= 0 {
        return value.round();
    }
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn bulk(value: f64) -> Figure {
        Figure::new("accept_bulk", "messages", value, "1/s", json!({}))
    }

    #[test]
    fn a_figure_beside_a_limit_is_judged_by_its_ratio() {
        let good = bulk(50.0)
            .beside("front", 100.0)
            .reaching(Reach::AtLeast(0.4));
        let bad = bulk(30.0)
            .beside("front", 100.0)
            .reaching(Reach::AtLeast(0.4));

        assert_eq!((good.ratio, good.met), (Some(0.5), Some(true)));
        assert_eq!((bad.ratio, bad.met), (Some(0.3), Some(false)));
    }

    #[test]
    fn a_figure_alone_is_judged_by_its_value() {
        assert_eq!(bulk(9.9).reaching(Reach::AtMost(10.0)).met, Some(true));
        assert_eq!(bulk(10.1).reaching(Reach::AtMost(10.0)).met, Some(false));
        assert_eq!(bulk(10.1).met, None);
    }

    #[test]
    fn a_limit_of_nothing_is_never_met() {
        let figure = bulk(1.0).beside("front", 0.0).reaching(Reach::AtMost(9.0));

        assert_eq!((figure.ratio, figure.met), (None, Some(false)));
    }

    #[test]
    fn values_keep_four_digits() {
        assert_eq!(
            [123_456.7, 1.234_56, 0.012_345_6, 0.0].map(round),
            [123_457.0, 1.235, 0.01235, 0.0]
        );
    }
}
