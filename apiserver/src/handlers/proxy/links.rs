//! Links in what is passed on: those that lead back to where the page came from are made to lead through the proxy (S-232).
//!
//! Pure. Pages come in pieces, and what can be told apart goes out at once, so that a page that never ends is shown too.

/// Attributes that hold a link, by the element they belong to.
const LINKS: &[(&str, &[&str])] = &[
    ("a", &["href"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["formaction", "src", "usemap"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
];

/// Elements whose content is no markup.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// A tag or comment that is longer than this is let through as it is: what is held is looked at again with every piece.
const LONGEST_TAG: usize = 16 * 1024;

/// Where links may lead, and where they are to lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Links {
    /// The path of the proxy, without a slash at its end.
    pub(super) prefix: String,
    /// Names under which the page may call the server it came from, with their ports.
    pub(super) hosts: Vec<String>,
}

impl Links {
    /// The link to write instead of this one; `None` leaves it: it is relative, or leads elsewhere, or is right.
    pub(super) fn rewrite(&self, link: &str) -> Option<String> {
        let path = match link.split_once("//") {
            Some(("" | "http:" | "https:", rest)) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                let (host, path) = rest.split_at(end);
                if !self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)) {
                    return None;
                }
                path
            }
            _ if link.starts_with('/') => link,
            _ => return None,
        };
        let inside = path.strip_prefix(self.prefix.as_str());
        if inside.is_some_and(|rest| rest.is_empty() || rest.starts_with('/')) {
            return (path != link).then(|| path.to_owned());
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Some(format!("{}{slash}{path}", self.prefix))
    }
}

/// A page on its way.
#[derive(Debug)]
pub(super) struct Page {
    links: Links,
    /// What has come and cannot be told apart yet.
    held: Vec<u8>,
    /// The element whose content is no markup and whose end has not come.
    raw: Option<&'static str>,
}

impl Page {
    pub(super) fn new(links: Links) -> Self {
        Self { links, held: Vec::new(), raw: None }
    }

    /// Takes a piece, and returns what can go on.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        self.held.extend_from_slice(piece);
        let held = std::mem::take(&mut self.held);
        let mut out = Vec::with_capacity(held.len());
        let mut rest = held.as_slice();
        while let Some(taken) = self.step(rest, &mut out) {
            rest = &rest[taken..];
        }
        self.held = rest.to_vec();
        out
    }

    /// What was held back at the end.
    pub(super) fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Writes the text before the next tag, or that tag, and says how many bytes it was; `None` waits for more.
    fn step(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        if rest.is_empty() {
            return None;
        }
        let text = rest.iter().position(|byte| *byte == b'<').unwrap_or(rest.len());
        if text > 0 {
            out.extend_from_slice(&rest[..text]);
            return Some(text);
        }
        let Some(end) = tag_end(rest, self.raw) else {
            if rest.len() < LONGEST_TAG {
                return None;
            }
            out.push(rest[0]);
            return Some(1);
        };
        let tag = &rest[..end];
        match (self.raw, std::str::from_utf8(tag)) {
            (Some(_), _) if end > 1 => {
                self.raw = None;
                out.extend_from_slice(tag);
            }
            (None, Ok(text)) => out.extend_from_slice(self.tag(text).as_bytes()),
            _ => out.extend_from_slice(tag),
        }
        Some(end)
    }

    /// A whole tag with its links rewritten.
    fn tag(&mut self, tag: &str) -> String {
        let name_end = tag[1..].find(|c: char| !c.is_ascii_alphanumeric()).map_or(tag.len(), |at| at + 1);
        let name = tag[1..name_end].to_ascii_lowercase();
        if let Some(raw) = RAW.iter().find(|raw| **raw == name) {
            self.raw = Some(raw);
        }
        let Some((_, wanted)) = LINKS.iter().find(|(element, _)| *element == name) else { return tag.to_owned() };
        let mut out = tag[..name_end].to_owned();
        let mut rest = &tag[name_end..];
        while let Some(attribute) = Attribute::next(rest) {
            out += &rest[..attribute.value.0];
            let value = &rest[attribute.value.0..attribute.value.1];
            let is_link = wanted.iter().any(|wanted| wanted.eq_ignore_ascii_case(attribute.name));
            match self.links.rewrite(value).filter(|_| is_link) {
                Some(link) => out += &link,
                None => out += value,
            }
            rest = &rest[attribute.value.1..];
        }
        out + rest
    }
}

/// The length of the tag or comment at the beginning, up to and with its `>`. One that begins none is one byte long, and
/// so is every `<` in an element without markup, but that of its end. `None` when more must come to tell.
fn tag_end(rest: &[u8], raw: Option<&str>) -> Option<usize> {
    if let Some(element) = raw {
        let end = format!("</{element}");
        let seen = &rest[..rest.len().min(end.len())];
        if !end.as_bytes()[..seen.len()].eq_ignore_ascii_case(seen) {
            return Some(1);
        }
        return if seen.len() < end.len() { None } else { position(rest, b">") };
    }
    if rest.starts_with(b"<!--") {
        return position(&rest[4..], b"-->").map(|end| end + 4);
    }
    match rest.get(1)? {
        // Longer than what a comment begins with, it is a declaration.
        b'!' if rest.len() < 4 => None,
        b'!' | b'/' | b'?' => position(rest, b">"),
        first if first.is_ascii_alphabetic() => {
            let mut quote = None;
            let mut before = b' ';
            for (at, byte) in rest.iter().enumerate() {
                match (quote, *byte) {
                    (None, b'>') => return Some(at + 1),
                    // Elsewhere than after the sign, a quotation mark is part of a name.
                    (None, mark @ (b'"' | b'\'')) if before == b'=' => quote = Some(mark),
                    (Some(open), mark) if open == mark => quote = None,
                    _ => {}
                }
                if !byte.is_ascii_whitespace() {
                    before = *byte;
                }
            }
            None
        }
        _ => Some(1),
    }
}

/// Where a text ends for the first time.
fn position(bytes: &[u8], text: &[u8]) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text).map(|at| at + text.len())
}

/// An attribute with a value, in the text that it was found in.
struct Attribute<'a> {
    name: &'a str,
    /// Where the value begins and ends, without its quotation marks.
    value: (usize, usize),
}

impl<'a> Attribute<'a> {
    /// The next one that has a value.
    fn next(text: &'a str) -> Option<Self> {
        let sign = text.find('=')?;
        let name = text[..sign].trim_end();
        let name = name.rsplit(|c: char| c.is_ascii_whitespace() || matches!(c, '"' | '\'' | '/')).next()?;
        let after = &text[sign + 1..];
        let begin = sign + 1 + (after.len() - after.trim_start().len());
        let rest = &text[begin..];
        let value = match rest.chars().next()? {
            mark @ ('"' | '\'') => (begin + 1, begin + 1 + rest[1..].find(mark)?),
            _ => (begin, begin + rest.find(|c: char| c.is_ascii_whitespace() || c == '>')?),
        };
        Some(Self { name, value })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/default/services/web/proxy";

    fn links() -> Links {
        Links { prefix: PREFIX.to_owned(), hosts: vec!["10.244.0.5:80".to_owned(), "localhost:8001".to_owned()] }
    }

    fn whole(page: &str) -> String {
        let mut rewriter = Page::new(links());
        let mut out = rewriter.push(page.as_bytes());
        out.extend(rewriter.finish());
        String::from_utf8(out).expect("UTF-8")
    }

    // S-232
    #[test]
    fn links_to_the_page_s_own_server_lead_through_the_proxy() {
        for (link, expected) in [
            ("/", Some("/")),
            ("/a/b?c=d#e", Some("/a/b?c=d#e")),
            ("http://10.244.0.5:80/a", Some("/a")),
            ("https://localhost:8001", Some("/")),
            ("//localhost:8001/x", Some("/x")),
            ("http://localhost:8001?q", Some("/?q")),
            ("style.css", None),
            ("../up", None),
            ("#top", None),
            ("", None),
            ("mailto:a@b", None),
            ("http://elsewhere/a", None),
            ("//cdn/x.js", None),
        ] {
            let expected = expected.map(|path| format!("{PREFIX}{path}"));
            assert_eq!(links().rewrite(link), expected, "{link}");
        }
        assert_eq!(links().rewrite(&format!("{PREFIX}/a")), None, "it leads there already");
        assert_eq!(links().rewrite(&format!("http://localhost:8001{PREFIX}/a")), Some(format!("{PREFIX}/a")));
        assert_eq!(links().rewrite(&format!("{PREFIX}x")), Some(format!("{PREFIX}{PREFIX}x")));
    }

    // S-232
    #[test]
    fn only_links_of_a_page_are_rewritten() {
        for (page, expected) in [
            (r#"<a href="/x">/x</a>"#, format!(r#"<a href="{PREFIX}/x">/x</a>"#)),
            ("<A HREF = '/x' title=\"/t\">", format!("<A HREF = '{PREFIX}/x' title=\"/t\">")),
            ("<img alt=\"a > b\" src=/i.png>", format!("<img alt=\"a > b\" src={PREFIX}/i.png>")),
            ("<form method=post action=\"/do\"/>", format!("<form method=post action=\"{PREFIX}/do\"/>")),
            (
                "<script src=\"/a.js\">if (1<2) x='<a href=\"/no\">'</script><a href=\"/yes\">",
                format!(
                    "<script src=\"{PREFIX}/a.js\">if (1<2) x='<a href=\"/no\">'</script><a href=\"{PREFIX}/yes\">"
                ),
            ),
        ] {
            assert_eq!(whole(page), expected);
        }
        for same in [
            "<!DOCTYPE html><p>1 < 2 <3</p>",
            "<!-- <a href=\"/x\"> -->",
            "<div href=\"/x\">",
            "<a name=x>",
            "<a",
            "<style>a > b { background: url(/x) }</style>",
            "<a hreflang=\"/x\">",
            "\u{fe}<",
        ] {
            assert_eq!(whole(same), same);
        }
    }

    #[test]
    fn a_tag_without_end_is_not_held_for_ever() {
        let page = format!("<a {}", "x".repeat(LONGEST_TAG));
        let mut rewriter = Page::new(links());
        assert_eq!(rewriter.push(page.as_bytes()).len(), page.len());
    }

    proptest! {
        // S-232: the pieces in which a page arrives do not show.
        #[test]
        fn pieces_make_the_same_page(
            page in "([<>/!=\"' -]|<a href=\"/x\">|<script>|</script>|<!--|-->|src|/y|é){0,40}",
            size in 1_usize..7,
        ) {
            let mut rewriter = Page::new(links());
            let mut out = Vec::new();
            for piece in page.as_bytes().chunks(size) {
                out.extend(rewriter.push(piece));
            }
            out.extend(rewriter.finish());
            prop_assert_eq!(String::from_utf8(out).expect("UTF-8"), whole(&page));
        }
    }
}
