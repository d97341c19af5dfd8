//! Links that a proxied page or redirect contains, made to lead through the proxy again.

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// Attributes that hold a URL, as HTML 4 and 5 list them; those that no browser knows any more left out.
const URLS: [(&[u8], &[&[u8]]); 19] = [
    (b"a", &[b"href"]),
    (b"area", &[b"href"]),
    (b"audio", &[b"src"]),
    (b"base", &[b"href"]),
    (b"blockquote", &[b"cite"]),
    (b"body", &[b"background"]),
    (b"button", &[b"formaction"]),
    (b"del", &[b"cite"]),
    (b"embed", &[b"src"]),
    (b"form", &[b"action"]),
    (b"frame", &[b"longdesc", b"src"]),
    (b"html", &[b"manifest"]),
    (b"iframe", &[b"longdesc", b"src"]),
    (b"img", &[b"longdesc", b"src", b"usemap"]),
    (b"input", &[b"src", b"usemap", b"formaction"]),
    (b"link", &[b"href"]),
    (b"object", &[b"classid", b"codebase", b"data", b"usemap"]),
    (b"script", &[b"src"]),
    (b"source", &[b"src"]),
];

/// Which URLs are the backend's own, and what they get in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Links {
    /// The proxy's path, without what follows it: `/api/v1/namespaces/a/services/web/proxy`.
    pub prefix: String,
    /// The address that the request went to, as in `10.0.0.5:80`.
    pub backend: String,
    /// The host that the client asked for.
    pub host: String,
}

impl Links {
    /// The URL as the client has to ask for it; `None` when it stays as it is.
    pub fn rewrite(&self, url: &str) -> Option<String> {
        let (host, rest) = split(url)?;
        let ours = host.is_empty() || host == self.backend || host == self.host;
        if !ours || !rest.starts_with('/') {
            return None;
        }
        // A link that names the client's own host keeps it.
        let kept = if host == self.host { &url[..url.len() - rest.len()] } else { "" };
        let prefix = if rest.starts_with(&self.prefix) { "" } else { self.prefix.as_str() };
        let rewritten = format!("{kept}{prefix}{rest}");
        (rewritten != url).then_some(rewritten)
    }

    /// A page with its links rewritten, everything else untouched.
    pub fn rewrite_html(&self, page: &str) -> String {
        let mut out = String::with_capacity(page.len() + 256);
        let mut done = 0;
        for token in Tokenizer::new_with_emitter(page, DefaultEmitter::<usize>::new_with_span()) {
            let Ok(Token::StartTag(tag)) = token else { continue };
            let names = URLS.iter().find(|(name, _)| tag.name == *name).map_or(&[][..], |(_, names)| *names);
            let values = tag.attributes.iter().filter(|(name, _)| names.contains(&name.as_slice()));
            let mut found: Vec<_> = values.map(|(_, value)| value).collect();
            found.sort_by_key(|value| value.span.start);
            for value in found {
                let new = std::str::from_utf8(&value.value).ok().and_then(|url| self.rewrite(url));
                let (from, to) = (value.span.start, value.span.end);
                if let (Some(new), Some(before), Some(attribute)) =
                    (new, page.get(done..from), page.get(from..to))
                {
                    out.push_str(before);
                    out.push_str(&with_value(attribute, &new.replace('&', "&amp;").replace('"', "&quot;")));
                    done = to;
                }
            }
        }
        out.push_str(page.get(done..).unwrap_or_default());
        out
    }
}

/// `name = "old"` with another value; quotes, or none, and what follows stay.
fn with_value(attribute: &str, value: &str) -> String {
    let equals = attribute.find('=').map_or(attribute.len(), |at| at + 1);
    let (name, old) = attribute.split_at(equals);
    let rest = old.trim_start();
    let (quote, end) = match rest.chars().next() {
        Some(quote @ ('"' | '\'')) => (1, rest[1..].find(quote).map_or(rest.len(), |end| end + 1)),
        _ => (0, rest.find(|c: char| c.is_whitespace() || c == '>').unwrap_or(rest.len())),
    };
    format!("{name}{}{value}{}", &old[..old.len() - rest.len() + quote], &rest[end..])
}

/// Host, and the path with all that follows; `None` for what has no path (`mailto:x`).
fn split(url: &str) -> Option<(&str, &str)> {
    let scheme = url.find(':').filter(|end| url[..*end].bytes().all(|b| b.is_ascii_alphanumeric()));
    let rest = &url[scheme.map_or(0, |end| end + 1)..];
    match rest.strip_prefix("//") {
        Some(after) => Some(after.split_at(after.find(['/', '?', '#']).unwrap_or(after.len()))),
        None if scheme.is_none() => Some(("", rest)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        Links { prefix: "/p/proxy".into(), backend: "10.0.0.5:80".into(), host: "localhost:8001".into() }
    }

    #[test]
    fn only_the_backends_own_urls_change() {
        let cases = [
            ("/x?y#z", Some("/p/proxy/x?y#z")),
            ("/", Some("/p/proxy/")),
            ("http://10.0.0.5:80/x", Some("/p/proxy/x")),
            ("//10.0.0.5:80/x", Some("/p/proxy/x")),
            ("http://localhost:8001/x", Some("http://localhost:8001/p/proxy/x")),
            ("/p/proxy/x", None),
            ("x/y", None),
            ("../x", None),
            ("#top", None),
            ("http://example.com/x", None),
            ("mailto:me@example.com", None),
            ("http://10.0.0.5:80", None),
            ("", None),
        ];
        for (url, want) in cases {
            assert_eq!(links().rewrite(url).as_deref(), want, "{url}");
        }
    }

    #[test]
    fn links_in_a_page_change_and_nothing_else() {
        let cases = [
            (r#"<a href="/rewriteme">test</a>"#, r#"<a href="/p/proxy/rewriteme">test</a>"#),
            ("<a class=b href=/x>é</a>", "<a class=b href=/p/proxy/x>é</a>"),
            ("<IMG SRC='/i.png' alt='/i.png'>", "<IMG SRC='/p/proxy/i.png' alt='/i.png'>"),
            ("<a href=\"/?a=1&amp;b\" title=\"<\">", "<a href=\"/p/proxy/?a=1&amp;b\" title=\"<\">"),
            ("<script src=/s.js></script>é<b href=/x>", "<script src=/p/proxy/s.js></script>é<b href=/x>"),
            ("<!-- <a href=/x> --> & <br><a", "<!-- <a href=/x> --> & <br><a"),
            ("<input src=/a formaction=/b>", "<input src=/p/proxy/a formaction=/p/proxy/b>"),
        ];
        for (page, want) in cases {
            assert_eq!(links().rewrite_html(page), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_page_survives(page in "[<>/a-cé\"'= &!-]{0,60}") {
            let none = Links { prefix: "/".into(), ..links() };
            proptest::prop_assert_eq!(none.rewrite_html(&page), page);
        }
    }
}
