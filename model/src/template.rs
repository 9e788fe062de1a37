//! Texts with variables: `Hello {{name}}`.
//!
//! A variable is a name of letters, digits and `_` between double braces, spaces around it allowed.
//! Everything else is plain text, unbalanced braces included: a template is never malformed. What
//! is filled in is not read for variables again.

use crate::message::limits::MAX_CONTENT;

/// A text with variables, read once and filled in for each recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
    names: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Variable(Box<str>),
}

/// Why a template makes no content for a recipient.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// Variables that the recipient has no value for, in the order of the text.
    #[error("no value for {}", .0.join(", "))]
    Missing(Vec<String>),
    /// Nothing is left once the values are filled in.
    #[error("the text is empty once its variables are filled in")]
    Empty,
    /// More scalars than a content may have.
    #[error("the text has more than {MAX_CONTENT} characters once its variables are filled in")]
    TooLong,
}

impl Template {
    /// Reads a text, in one pass over it.
    pub fn parse(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut names: Vec<Box<str>> = Vec::new();
        let (mut plain_from, mut at) = (0, 0);
        while let Some(found) = text[at..].find("{{") {
            let open = at + found;
            let Some((name, after)) = variable(text, open) else {
                // One brace on, not two: in `{{{name}}` the variable begins at the second.
                at = open + 1;
                continue;
            };
            if plain_from < open {
                parts.push(Part::Text(text[plain_from..open].into()));
            }
            parts.push(Part::Variable(name.into()));
            if !names.iter().any(|known| **known == *name) {
                names.push(name.into());
            }
            (plain_from, at) = (after, after);
        }
        if plain_from < text.len() {
            parts.push(Part::Text(text[plain_from..].into()));
        }
        Self { parts, names }
    }

    /// The names of its variables, each once, in the order of the text.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// The content for one recipient, whose values `lookup` tells.
    pub fn render<'v>(
        &self,
        mut lookup: impl FnMut(&str) -> Option<&'v str>,
    ) -> Result<String, RenderError> {
        let missing: Vec<String> = self
            .variables()
            .filter(|name| lookup(name).is_none())
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            return Err(RenderError::Missing(missing));
        }
        let mut content = String::new();
        let mut scalars = 0;
        for part in &self.parts {
            let piece = match part {
                Part::Text(text) => text,
                Part::Variable(name) => lookup(name).unwrap_or_default(),
            };
            // Counted before it is copied: values are as long as a caller likes.
            scalars += piece.chars().count();
            if scalars > MAX_CONTENT {
                return Err(RenderError::TooLong);
            }
            content.push_str(piece);
        }
        if content.is_empty() {
            Err(RenderError::Empty)
        } else {
            Ok(content)
        }
    }
}

/// The variable whose braces open at a place: its name, and the place after it.
fn variable(text: &str, open: usize) -> Option<(&str, usize)> {
    let inner = text[open + 2..].trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_')?;
    let (name, rest) = inner.split_at(end);
    let rest = rest.trim_start().strip_prefix("}}")?;
    (!name.is_empty()).then_some((name, text.len() - rest.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(text: &str, values: &[(&str, &str)]) -> Result<String, RenderError> {
        Template::parse(text).render(|name| {
            values
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| *value)
        })
    }

    fn variables(text: &str) -> Vec<String> {
        Template::parse(text)
            .variables()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn variables_are_filled_in_wherever_they_stand() {
        let values = [("name", "Ali"), ("code_2", "77")];

        let text = filled("{{name}}, {{ code_2 }}! {{name}}", &values);

        assert_eq!(text, Ok("Ali, 77! Ali".to_owned()));
        assert_eq!(
            variables("{{name}}, {{ code_2 }}! {{name}}"),
            ["name", "code_2"]
        );
    }

    #[test]
    fn what_is_no_variable_is_plain_text() {
        for text in [
            "{{",
            "}}",
            "{{}}",
            "{{ }}",
            "{{a b}}",
            "{a}",
            "{{a}",
            "{{ä}}",
            "{{a\u{202e}}}",
        ] {
            assert_eq!(filled(text, &[]), Ok(text.to_owned()), "{text:?}");
        }
        assert_eq!(
            filled("{{{a}}}{{{{a}}", &[("a", "1")]),
            Ok("{1}{{1".to_owned())
        );
        assert_eq!(
            filled("{{x {{a}} é", &[("a", "1")]),
            Ok("{{x 1 é".to_owned())
        );
    }

    #[test]
    fn every_missing_variable_is_named_once() {
        let missing = filled("{{a}} {{b}} {{c}} {{a}}", &[("b", "")]).unwrap_err();

        assert_eq!(
            missing,
            RenderError::Missing(vec!["a".to_owned(), "c".to_owned()])
        );
    }

    #[test]
    fn a_value_is_not_read_for_variables() {
        assert_eq!(
            filled("{{a}}", &[("a", "{{b}}"), ("b", "no")]),
            Ok("{{b}}".to_owned())
        );
    }

    #[test]
    fn what_is_filled_in_counts_towards_the_limit_of_a_content() {
        let long = "é".repeat(MAX_CONTENT);

        assert_eq!(filled("{{a}}", &[("a", &long)]), Ok(long.clone()));
        assert_eq!(filled("{{a}}.", &[("a", &long)]), Err(RenderError::TooLong));
        assert_eq!(
            filled("{{a}}", &[("a", &format!("{long}."))]),
            Err(RenderError::TooLong)
        );
        let half = "é".repeat(MAX_CONTENT / 2);
        assert_eq!(filled("{{a}}{{a}}", &[("a", &half)]), Ok(long));
        assert_eq!(filled("{{a}}", &[("a", "")]), Err(RenderError::Empty));
    }

    proptest! {
        #[test]
        fn no_text_is_malformed(text in "[{} a_é]{1,40}") {
            let template = Template::parse(&text);
            let as_written = template.render(|_| Some("x"));

            prop_assert!(as_written.is_ok());
            if template.variables().next().is_none() {
                prop_assert_eq!(as_written.unwrap(), text);
            }
        }
    }
}
