//! The figures of single instances, in the text form that Prometheus reads.

use zajil_actors::send::InstanceFigures;

type Family = (
    &'static str,
    &'static str,
    &'static str,
    fn(&InstanceFigures) -> f64,
);

/// The families of one instance: name, type, help, value.
const FAMILIES: [Family; 5] = [
    (
        "zajil_instance_rate",
        "gauge",
        "Messages a second that it may send now.",
        |figure| figure.view.rate,
    ),
    (
        "zajil_instance_in_flight",
        "gauge",
        "Messages handed over and unanswered.",
        |figure| f64::from(figure.view.in_flight),
    ),
    (
        "zajil_instance_depth",
        "gauge",
        "Messages that are not settled.",
        |figure| figure.view.depth.iter().sum::<u64>() as f64,
    ),
    (
        "zajil_instance_sent_total",
        "counter",
        "Messages acknowledged by WhatsApp.",
        |figure| figure.sent as f64,
    ),
    (
        "zajil_instance_failed_total",
        "counter",
        "Messages that ended unsent.",
        |figure| figure.failed as f64,
    ),
];

/// Writes the figures of instances as Prometheus reads them.
pub(super) fn exposition(figures: &[InstanceFigures]) -> String {
    let mut out = String::new();
    for (name, kind, help, value) in FAMILIES {
        out.push_str(&format!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
        for figure in figures {
            let instance = label(&figure.name);
            let (id, state) = (figure.instance, figure.view.session.label());
            let value = value(figure);
            let labels = format!("id=\"{id}\",instance=\"{instance}\",state=\"{state}\"");
            out.push_str(&format!("{name}{{{labels}}} {value}\n"));
        }
    }
    out
}

/// A text as the value of a label.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n")
}
