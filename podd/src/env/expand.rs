//! `$(VAR)` in environment values, commands and arguments (P-066).

/// Replaces every `$(NAME)` that `lookup` knows; `$$` stands for one dollar sign, everything else for itself.
pub(crate) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        if let Some(tail) = after.strip_prefix('$') {
            out.push('$');
            rest = tail;
        } else if let Some((name, tail)) = after.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match lookup(name) {
                Some(value) => out.push_str(&value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = tail;
        } else {
            out.push('$');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".to_owned()),
            "EMPTY" => Some(String::new()),
            "DOLLAR" => Some("$(A)".to_owned()),
            _ => None,
        }
    }

    #[test]
    fn references_expand_once_and_the_unknown_stays() {
        let table = [
            ("P-066", "x-$(A)-y", "x-alpha-y"),
            ("P-066", "$(A)$(EMPTY)$(A)", "alphaalpha"),
            ("P-066", "$(NOPE) stays", "$(NOPE) stays"),
            ("P-066", "$$(A)", "$(A)"),
            ("P-066", "$$$(A)", "$alpha"),
            ("P-066", "$$$$", "$$"),
            ("P-066", "$(DOLLAR)", "$(A)"),
            ("P-066", "$A $ $(A", "$A $ $(A"),
        ];
        for (statement, text, expected) in table {
            assert_eq!(expand(text, lookup), expected, "{statement} {text}");
        }
    }

    proptest! {
        // P-066
        #[test]
        fn doubling_every_dollar_protects_any_text(text in "[$()AB ]{0,40}") {
            prop_assert_eq!(expand(&text.replace('$', "$$"), lookup), text);
        }
    }
}
