//! How far a long command is: a bar on a terminal, plain lines elsewhere, on standard error.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressStyle};

/// How far something is.
#[derive(Debug)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    what: &'static str,
    told: u64,
}

impl Progress {
    /// Nothing yet, of `total` if that is known.
    pub(crate) fn new(total: Option<u64>, what: &'static str) -> Self {
        let bar = io::stderr().is_terminal().then(|| bar(total, what));
        Self { bar, what, told: 0 }
    }

    /// This many, and something to say beside it.
    pub(crate) fn at(&mut self, count: u64, note: &str) {
        match &self.bar {
            Some(bar) => {
                bar.set_position(count);
                bar.set_message(note.to_owned());
            }
            None if count != self.told => {
                eprintln!("{}", format!("{count} {}  {note}", self.what).trim_end());
            }
            None => {}
        }
        self.told = count;
    }

    /// There are this many in all.
    pub(crate) fn of(&self, total: u64) {
        if let Some(bar) = &self.bar {
            bar.set_length(total);
        }
    }

    /// No more follows.
    pub(crate) fn done(self) {
        if let Some(bar) = self.bar {
            bar.finish();
        }
    }
}

fn bar(total: Option<u64>, what: &str) -> ProgressBar {
    let template = match total {
        Some(_) => format!("{{bar:30}} {{pos}}/{{len}} {what}  {{msg}}"),
        None => format!("{{pos}} {what}  {{elapsed}}"),
    };
    let style = ProgressStyle::with_template(&template).expect("the template is right");
    ProgressBar::new(total.unwrap_or(0)).with_style(style)
}
