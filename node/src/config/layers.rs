//! Settings from several places, laid over each other: defaults, file, environment, flags.
//!
//! Every fault is collected, so that one start tells all that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::schema::{self, SETTINGS, Setting};

/// What the names of environment variables that are settings begin with.
pub const ENV_PREFIX: &str = "ZAJIL__";

/// What an environment variable ends with that names the file which holds a secret.
const FILE_SUFFIX: &str = "_FILE";

/// What stands in place of a secret.
const MASK: &str = "********";

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nobody said anything.
    Default,
    /// A configuration file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A flag of the command line.
    Flag(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(name) => write!(f, "flag {name}"),
        }
    }
}

/// One thing that is wrong with the configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A value that its setting cannot have.
    #[error("{key} = {value:?} ({from}): must be {wanted}")]
    Value {
        /// The setting.
        key: String,
        /// What was given, masked where it is a secret.
        value: String,
        /// What would be right.
        wanted: String,
        /// Where it was given.
        from: Source,
    },
    /// A key that no setting has.
    #[error("{key} ({from}): there is no such setting{}", hint(.nearest))]
    Unknown {
        /// The key.
        key: String,
        /// The setting that was probably meant.
        nearest: Option<&'static str>,
        /// Where it was given.
        from: Source,
    },
    /// Something that names no value.
    #[error("{text} ({from}): must be section.key=value")]
    Pair {
        /// What was given.
        text: String,
        /// Where it was given.
        from: Source,
    },
    /// A file that cannot be read, or is no TOML.
    #[error("{}: {reason}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system or the parser said.
        reason: String,
    },
}

fn hint(nearest: &Option<&'static str>) -> String {
    nearest
        .map(|key| format!("; did you mean {key}?"))
        .unwrap_or_default()
}

/// A value with where it comes from.
#[derive(Clone, Debug)]
pub struct Given {
    /// As it was written.
    pub text: String,
    /// By whom.
    pub from: Source,
}

/// The value of every setting.
#[derive(Debug)]
pub struct Layers {
    values: BTreeMap<&'static str, Given>,
    faults: Vec<Fault>,
}

impl Layers {
    /// The defaults alone.
    pub fn defaults() -> Self {
        let given = |it: &Setting| Given {
            text: it.default.to_owned(),
            from: Source::Default,
        };
        let values = SETTINGS.iter().map(|it| (it.key, given(it))).collect();
        Self {
            values,
            faults: Vec::new(),
        }
    }

    /// Lays one value over what is there.
    pub fn set(&mut self, key: &str, text: String, from: Source) {
        let Some(setting) = schema::find(key) else {
            let nearest = schema::nearest(key);
            return self.faults.push(Fault::Unknown {
                key: key.to_owned(),
                nearest,
                from,
            });
        };
        let is_none = text.is_empty() && setting.default.is_empty();
        if is_none || setting.kind.admits(&text) {
            self.values.insert(setting.key, Given { text, from });
        } else {
            self.faults.push(wrong(setting, &text, from));
        }
    }

    /// Lays one value over what is there, written as `section.key=value`.
    pub fn pair(&mut self, text: &str, from: Source) {
        match text.split_once('=') {
            Some((key, value)) => self.set(key.trim(), value.trim().to_owned(), from),
            None => self.faults.push(Fault::Pair {
                text: text.to_owned(),
                from,
            }),
        }
    }

    /// Lays a TOML file over what is there.
    pub fn file(&mut self, path: &Path) {
        let fault = |reason: String| Fault::File {
            path: path.to_owned(),
            reason,
        };
        match std::fs::read_to_string(path) {
            Err(error) => self.faults.push(fault(format!("cannot be read: {error}"))),
            Ok(text) => match text.parse::<toml::Table>() {
                Err(error) => self
                    .faults
                    .push(fault(error.to_string().trim_end().to_owned())),
                Ok(table) => self.table("", table, &Source::File(path.to_owned())),
            },
        }
    }

    fn table(&mut self, prefix: &str, table: toml::Table, from: &Source) {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            match value {
                toml::Value::Table(inner) => self.table(&format!("{key}."), inner, from),
                toml::Value::String(text) => self.set(&key, text, from.clone()),
                other => self.set(&key, other.to_string(), from.clone()),
            }
        }
    }

    /// Lays environment variables over what is there: `ZAJIL__SECTION__KEY`, and for secrets
    /// also `ZAJIL__SECTION__KEY_FILE`, the file that holds it. Others are left alone.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            let Some(rest) = name.strip_prefix(ENV_PREFIX) else {
                continue;
            };
            let secret_key = rest
                .strip_suffix(FILE_SUFFIX)
                .map(key_of)
                .filter(|key| is_secret(key));
            let from = Source::Environment(name.clone());
            match secret_key {
                None => self.set(&key_of(rest), value, from),
                Some(key) => match std::fs::read_to_string(&value) {
                    Ok(text) => self.set(&key, text.trim().to_owned(), from),
                    Err(error) => {
                        let path = PathBuf::from(value);
                        self.faults.push(Fault::File {
                            path,
                            reason: error.to_string(),
                        });
                    }
                },
            }
        }
    }

    /// Notes that a value which fits its kind is wrong in this place.
    pub fn refuse(&mut self, key: &'static str, wanted: String) {
        let setting = schema::find(key).expect("the key is in the schema");
        let given = self.values[key].clone();
        let fault = wrong(setting, &given.text, given.from);
        if let Fault::Value {
            key, value, from, ..
        } = fault
        {
            self.faults.push(Fault::Value {
                key,
                value,
                wanted,
                from,
            });
        }
    }

    /// The value of a setting that is in the schema.
    pub fn text(&self, key: &'static str) -> &str {
        &self.values[key].text
    }

    /// All that is wrong so far.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }

    /// Every setting with its value (secrets masked) and where it comes from, as TOML that can be
    /// read again.
    pub fn show(&self) -> String {
        let mut text = String::new();
        let mut section = "";
        for setting in SETTINGS {
            let (head, name) = setting.key.split_once('.').expect("keys have a section");
            if head != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                text.push_str(&format!("{gap}[{head}]\n"));
                section = head;
            }
            let given = &self.values[setting.key];
            let value = toml::Value::String(masked(setting, &given.text));
            let line = format!("{name} = {value}");
            text.push_str(&format!("{line:<40} # {}\n", given.from));
        }
        text
    }
}

fn key_of(variable: &str) -> String {
    variable.to_ascii_lowercase().replace("__", ".")
}

fn is_secret(key: &str) -> bool {
    schema::find(key).is_some_and(|setting| setting.secret)
}

fn masked(setting: &Setting, text: &str) -> String {
    if setting.secret && !text.is_empty() {
        MASK.to_owned()
    } else {
        text.to_owned()
    }
}

fn wrong(setting: &Setting, text: &str, from: Source) -> Fault {
    Fault::Value {
        key: setting.key.to_owned(),
        value: masked(setting, text),
        wanted: setting.kind.wanted(),
        from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers_of(toml: &str) -> Layers {
        let mut layers = Layers::defaults();
        layers.table(
            "",
            toml.parse().unwrap(),
            &Source::File("zajil.toml".into()),
        );
        layers
    }

    #[test]
    fn each_layer_overrides_the_one_below() {
        let mut layers = layers_of("[log]\nlevel = \"debug\"\nformat = \"json\"");
        layers.environment([("ZAJIL__LOG__LEVEL".to_owned(), "warn".to_owned())]);
        layers.set(
            "node.data_dir",
            "elsewhere".to_owned(),
            Source::Flag("--data-dir"),
        );

        assert_eq!(layers.text("log.level"), "warn");
        assert_eq!(layers.text("log.format"), "json");
        assert_eq!(layers.text("node.data_dir"), "elsewhere");
        assert_eq!(layers.text("api.listen"), "127.0.0.1:8080");
        assert_eq!(layers.faults(), []);
    }

    #[test]
    fn every_fault_is_told_at_once_with_its_source_and_what_would_be_right() {
        let mut layers = layers_of("[storage]\nretention = \"7d\"\nretenton = \"90d\"");
        layers.environment([("ZAJIL__LOG__FORMAT".to_owned(), "xml".to_owned())]);
        layers.set(
            "node.drain_timeout",
            "soon".to_owned(),
            Source::Flag("--set"),
        );

        let told: Vec<String> = layers.faults().iter().map(ToString::to_string).collect();

        assert_eq!(
            told,
            [
                "storage.retention = \"7d\" (zajil.toml): must be a time from \"45d\" to \
                 \"3650d\" (units ms, s, m, h, d)",
                "storage.retenton (zajil.toml): there is no such setting; did you mean \
                 storage.retention?",
                "log.format = \"xml\" (environment ZAJIL__LOG__FORMAT): must be one of auto, \
                 text, json",
                "node.drain_timeout = \"soon\" (flag --set): must be a time from \"0ms\" to \
                 \"10m\" (units ms, s, m, h, d)",
            ]
        );
    }

    #[test]
    fn what_is_shown_masks_secrets_and_reads_back_as_the_same() {
        let mut layers = layers_of("[operations]\ntoken = \"hush\"\n[log]\nlevel = \"debug\"");
        layers.environment([("HOME".to_owned(), "/home/zajil".to_owned())]);

        let shown = layers.show();

        assert!(!shown.contains("hush"), "{shown}");
        assert!(shown.contains("# zajil.toml"), "{shown}");
        assert_eq!(layers_of(&shown).text("log.level"), "debug");
        assert_eq!(layers_of(&shown).faults(), []);
    }

    #[test]
    fn a_secret_can_come_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        std::fs::write(&file, "hush\n").unwrap();
        let mut layers = Layers::defaults();

        let name = "ZAJIL__OPERATIONS__TOKEN_FILE".to_owned();
        layers.environment([(name, file.display().to_string())]);

        assert_eq!(layers.text("operations.token"), "hush");
        assert_eq!(layers.faults(), []);
    }
}
