//! What was found in a request: faults by path, and what was accepted without effect.

use std::collections::BTreeMap;
use std::fmt;

use super::Complaint;
use crate::error::ApiError;

/// Faults kept of one request: all of a bulk of 100 with ten faults each; more help nobody.
const MAX_FAULTS: usize = 1_000;

/// Ignored members named in one answer; more help nobody.
const MAX_WARNINGS: usize = 100;

/// The path of a fault of the whole of what is judged, such as one that is no object.
pub(crate) const WHOLE: &str = "body";

/// The faults of a request, by path.
pub(crate) type Faults = BTreeMap<String, Vec<String>>;

/// What was found in a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Path and sentence, in the order in which they were found.
    faults: Vec<(String, String)>,
    /// Paths of what was accepted and has no effect.
    ignored: Vec<String>,
}

impl Report {
    /// Notes a fault of the field at `path`; `complaint` ends the sentence.
    pub(crate) fn fault(&mut self, path: impl fmt::Display, complaint: impl Into<Complaint>) {
        let path = path.to_string();
        let spoken = if path.contains('.') {
            path.clone()
        } else {
            path.replace('_', " ")
        };
        self.sentence(path, format!("The {spoken} field {}", complaint.into()));
    }

    /// Notes a fault of the field at `path` in a whole sentence.
    pub(crate) fn sentence(&mut self, path: String, sentence: String) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push((path, sentence));
        }
    }

    /// Notes what the rules of the model found, but for fields that are known to be faulty: a value
    /// of a wrong type was handed to the rules as an empty one.
    pub(crate) fn rules(&mut self, faults: impl IntoIterator<Item = (String, String)>) {
        let known = self.faults.len();
        for (path, sentence) in faults {
            let is_known = self.faults[..known].iter().any(|(faulty, _)| {
                path.strip_prefix(faulty.as_str())
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            });
            if !is_known {
                self.sentence(path, sentence);
            }
        }
    }

    /// Notes a member that has no effect.
    pub(crate) fn ignored(&mut self, path: impl fmt::Display) {
        if self.ignored.len() < MAX_WARNINGS {
            self.ignored.push(path.to_string());
        }
    }

    /// Whether nothing is wrong so far.
    pub(crate) fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }

    /// Whether something is wrong with the field of that path.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.faults.iter().any(|(faulty, _)| faulty == path)
    }

    /// What is wrong so far, by path.
    pub(crate) fn faults(&self) -> Faults {
        let mut faults = Faults::new();
        for (path, sentence) in &self.faults {
            faults
                .entry(path.clone())
                .or_default()
                .push(sentence.clone());
        }
        faults
    }

    /// Takes in what was found in a part of the request that stands at `place`.
    pub(crate) fn absorb(&mut self, place: Place<'_>, part: Self) {
        for (path, sentence) in part.faults {
            let path = match path.as_str() {
                WHOLE => place.to_string(),
                path => Place::Member(&place, path).to_string(),
            };
            self.sentence(path, sentence);
        }
        self.absorb_ignored(place, part.ignored);
    }

    /// Takes in the ignored members only.
    pub(crate) fn absorb_ignored(&mut self, place: Place<'_>, ignored: Vec<String>) {
        for path in ignored {
            self.ignored(Place::Member(&place, &path));
        }
    }

    /// Takes the ignored members out.
    pub(crate) fn take_ignored(&mut self) -> Vec<String> {
        std::mem::take(&mut self.ignored)
    }

    /// What was accepted and has no effect.
    pub(crate) fn warnings(self) -> Vec<String> {
        self.ignored
            .into_iter()
            .map(|path| format!("ignored: {path}"))
            .collect()
    }

    /// The warnings, if nothing is wrong.
    pub(crate) fn accepted(self) -> Result<Vec<String>, ApiError> {
        if self.is_clean() {
            Ok(self.warnings())
        } else {
            Err(ApiError::Invalid(self.faults()))
        }
    }
}

/// Where a value stands in the body.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place<'p> {
    /// The body itself.
    Root,
    /// A member of an object.
    Member(&'p Place<'p>, &'p str),
    /// An item of an array, from 0.
    Item(&'p Place<'p>, usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str(WHOLE),
            Self::Member(Place::Root, name) => f.write_str(name),
            Self::Member(parent, name) => write!(f, "{parent}.{name}"),
            Self::Item(Place::Root, index) => write!(f, "{index}"),
            Self::Item(parent, index) => write!(f, "{parent}.{index}"),
        }
    }
}
