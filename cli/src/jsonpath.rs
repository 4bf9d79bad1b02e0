//! kubectl's `-o jsonpath=…`: a text with paths in braces, which are evaluated by the rules of RFC 9535. Pure.
//!
//! The dialect: literal text stands outside of braces; inside of them are paths (`.items[*].metadata.name`, with `\.` for a
//! dot in a name), `range PATH` … `end`, and quoted text. Several values of a path are joined by blanks; objects and lists
//! are printed as JSON; what is not there is empty. Regular expressions are not part of it, as in kubectl.

use jsonpath_rust::JsonPath as _;
use serde_json::Value;

use crate::error::CliError;

/// A template that has been read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Path),
    Range(Path, Vec<Self>),
}

/// A path by the rules of the RFC, and where it begins.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Path {
    query: String,
    /// At the whole answer, also inside of a range.
    from_root: bool,
}

impl Template {
    /// Reads a template. A text without braces is one path.
    ///
    /// # Errors
    /// The part that cannot be read, with an example of one that can.
    pub(crate) fn parse(text: &str) -> Result<Self, CliError> {
        let whole = if text.contains('{') { text.to_owned() } else { format!("{{{text}}}") };
        let mut reader = Reader { rest: &whole };
        let explain = |message: String| {
            CliError::usage(format!("-o jsonpath={text}: {message}"))
                .hint("type for example -o jsonpath='{.items[*].metadata.name}'")
        };
        let (parts, end) = reader.parts().map_err(explain)?;
        if end { Err(explain("{end} without {range …} before it".to_owned())) } else { Ok(Self(parts)) }
    }

    /// What the template makes of an answer.
    ///
    /// # Errors
    /// When a path is none by the rules of the RFC.
    pub(crate) fn render(&self, answer: &Value) -> Result<String, CliError> {
        let mut text = String::new();
        render(&self.0, answer, answer, &mut text)?;
        Ok(text)
    }
}

fn render(parts: &[Part], root: &Value, here: &Value, text: &mut String) -> Result<(), CliError> {
    for part in parts {
        match part {
            Part::Text(literal) => text.push_str(literal),
            Part::Path(path) => {
                let found: Vec<String> = path.find(root, here)?.into_iter().map(shown).collect();
                text.push_str(&found.join(" "));
            }
            Part::Range(path, body) => {
                for item in path.find(root, here)? {
                    render(body, root, item, text)?;
                }
            }
        }
    }
    Ok(())
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Path {
    fn find<'a>(&self, root: &'a Value, here: &'a Value) -> Result<Vec<&'a Value>, CliError> {
        let start = if self.from_root { root } else { here };
        start.query(&self.query).map_err(|source| {
            CliError::usage(format!("jsonpath {} is no path", self.query)).because(source.to_string())
        })
    }
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    /// Everything up to `{end}` or the end of the text, and which of both it was.
    fn parts(&mut self) -> Result<(Vec<Part>, bool), String> {
        let mut parts = Vec::new();
        while !self.rest.is_empty() {
            let (literal, after) = self.rest.split_once('{').unwrap_or((self.rest, ""));
            if !literal.is_empty() {
                parts.push(Part::Text(literal.to_owned()));
            }
            if after.is_empty() {
                let open = self.rest.contains('{');
                self.rest = "";
                if open {
                    return Err("a brace is not closed".to_owned());
                }
                break;
            }
            let inside = inside(after)?;
            self.rest = &after[inside.len() + 1..];
            match inside.trim() {
                "end" => return Ok((parts, true)),
                "" => return Err("{} holds nothing".to_owned()),
                word if word == "range" || word.starts_with("range ") => {
                    let path = path(word["range".len()..].trim())?;
                    let (body, closed) = self.parts()?;
                    if !closed {
                        return Err("{range …} without {end}".to_owned());
                    }
                    parts.push(Part::Range(path, body));
                }
                quoted if quoted.starts_with(['"', '\'']) => parts.push(Part::Text(literal_text(quoted)?)),
                expression => parts.push(Part::Path(path(expression)?)),
            }
        }
        Ok((parts, false))
    }
}

/// What stands in front of the brace that closes; braces in quotes do not count.
fn inside(text: &str) -> Result<&str, String> {
    let mut quote = None;
    for (index, character) in text.char_indices() {
        match (quote, character) {
            (None, '}') => return Ok(&text[..index]),
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            _ => {}
        }
    }
    Err("a brace is not closed".to_owned())
}

fn literal_text(quoted: &str) -> Result<String, String> {
    let open = quoted.chars().next().unwrap_or('"');
    let text = quoted.strip_prefix(open).and_then(|text| text.strip_suffix(open));
    let text = text.ok_or_else(|| format!("{quoted} has an open quote"))?;
    Ok(text.replace("\\n", "\n").replace("\\t", "\t").replace(&format!("\\{open}"), &open.to_string()))
}

fn path(expression: &str) -> Result<Path, String> {
    let (from_root, steps) = match expression.strip_prefix('$') {
        Some(steps) => (true, steps),
        None => (false, expression.strip_prefix('@').unwrap_or(expression)),
    };
    let (steps, rest) = convert(steps)?;
    if !rest.is_empty() {
        return Err(format!("{rest:?} in {expression:?} is no part of a path"));
    }
    Ok(Path { query: format!("${steps}"), from_root })
}

/// Takes as many steps as there are: names go into brackets, because in kubectl's dialect they may hold `-` and `\.`.
fn convert(text: &str) -> Result<(String, &str), String> {
    let mut query = String::new();
    let mut rest = text;
    // `items` is `.items`, as long as nothing stands before it.
    if rest.starts_with(|c: char| c.is_alphanumeric() || c == '_') {
        rest = name(rest, &mut query);
    }
    loop {
        if let Some(after) = rest.strip_prefix("..") {
            query.push_str("..");
            rest = step(after, &mut query);
        } else if rest.starts_with('[') {
            rest = bracket(rest, &mut query)?;
        } else if let Some(after) = rest.strip_prefix('.') {
            rest = if after.starts_with('*') {
                query.push('.');
                step(after, &mut query)
            } else {
                step(after, &mut query)
            };
        } else {
            return Ok((query, rest));
        }
    }
}

fn step<'a>(text: &'a str, query: &mut String) -> &'a str {
    match text.strip_prefix('*') {
        Some(after) => {
            query.push('*');
            after
        }
        None => name(text, query),
    }
}

/// A name up to the next step; `.` alone is the value itself.
fn name<'a>(text: &'a str, query: &mut String) -> &'a str {
    let mut plain = String::new();
    let mut characters = text.char_indices().peekable();
    let mut end = text.len();
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => plain.extend(characters.next().map(|(_, escaped)| escaped)),
            c if c.is_alphanumeric() || matches!(c, '-' | '_' | '/') => plain.push(c),
            _ => {
                end = index;
                break;
            }
        }
    }
    if !plain.is_empty() {
        query.push_str(&format!("['{}']", plain.replace('\'', "\\'")));
    }
    &text[end..]
}

/// `[0]`, `[*]`, `['name']`, `[1:3]`, or a filter, whose paths are converted too.
fn bracket<'a>(text: &'a str, query: &mut String) -> Result<&'a str, String> {
    let mut quote = None;
    let mut depth = 0;
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        if quote.is_none() && matches!(character, '@' | '$') {
            let (steps, after) = convert(&rest[1..])?;
            query.push(character);
            query.push_str(&steps);
            rest = after;
            continue;
        }
        query.push(character);
        rest = &rest[character.len_utf8()..];
        match (quote, character) {
            (None, '"' | '\'') => quote = Some(character),
            (Some(open), _) if open == character => quote = None,
            (None, '[') => depth += 1,
            (None, ']') => {
                depth -= 1;
                if depth == 0 {
                    return Ok(rest);
                }
            }
            _ => {}
        }
    }
    Err(format!("{text:?} has an open bracket"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer() -> Value {
        json!({"kind": "List", "items": [
            {"metadata": {"name": "web", "labels": {"app.kubernetes.io/name": "w"}}, "status": {"podIP": "10.244.0.2",
             "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "False"}]}},
            {"metadata": {"name": "db-0", "labels": {}}, "spec": {"ports": [1, 2, 3]}, "status": {"podIP": "10.244.0.3"}},
        ]})
    }

    fn render(template: &str) -> String {
        Template::parse(template).and_then(|template| template.render(&answer())).expect(template)
    }

    #[test]
    fn templates_mean_what_they_mean_to_kubectl() {
        for (template, text) in [
            ("{.kind}", "List"),
            (".kind", "List"),
            ("{.items[*].metadata.name}", "web db-0"),
            ("{.items[0].metadata.name}!", "web!"),
            ("{$.items[-1:].metadata['name']}", "db-0"),
            (r"{.items[*].metadata.labels.app\.kubernetes\.io/name}", "w"),
            (
                r#"{range .items[*]}{.metadata.name}{"\t"}{.status.podIP}{"\n"}{end}"#,
                "web\t10.244.0.2\ndb-0\t10.244.0.3\n",
            ),
            (r#"{.items[?(@.metadata.name=="db-0")].status.podIP}"#, "10.244.0.3"),
            (r#"{.items[0].status.conditions[?(@.type=="Ready")].status}"#, "True"),
            ("{.items[1].spec.ports}", "[1,2,3]"),
            ("{.items[1].spec.ports[0:2]}", "1 2"),
            ("{..podIP}", "10.244.0.2 10.244.0.3"),
            ("{range .items[*]}{$.kind} {end}", "List List "),
            ("{.items[*].nowhere}", ""),
            ("{.items[1].metadata.*}", "db-0 {}"),
            ("{'a}b'}", "a}b"),
        ] {
            assert_eq!(render(template), text, "{template}");
        }
    }

    #[test]
    fn what_is_no_template_is_refused_with_an_example() {
        for (template, message) in [
            ("{.kind", "brace is not closed"),
            ("{range .items[*]}x", "without {end}"),
            ("x{end}", "without {range"),
            ("{.items[0}", "open bracket"),
            ("{}", "holds nothing"),
            ("{.a b}", "no part of a path"),
        ] {
            let text = Template::parse(template).expect_err(template).render();
            assert!(text.contains(message) && text.contains("hint: type for example"), "{template}: {text}");
        }
    }
}
