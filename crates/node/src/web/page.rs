//! What a visitor sees: a page for browsers, a line for terminals. Pure.

use std::net::SocketAddr;

use axum::http::HeaderMap;

use super::identity::Identity;

const TEMPLATE: &str = include_str!("page.html");

/// One request.
pub struct Visit<'a> {
    /// Who answers.
    pub identity: &'a Identity,
    /// Who asks.
    pub client: SocketAddr,
    /// How many requests this pod has had.
    pub number: u64,
    /// The request's headers.
    pub headers: &'a HeaderMap,
    /// URL and answer of the next tier.
    pub backend: &'a Option<(String, Result<String, String>)>,
}

/// The answer for terminals.
pub fn text(visit: &Visit<'_>) -> String {
    let Identity { pod, version, .. } = visit.identity;
    let mut text =
        format!("Hello from {pod}{} ({version}), you are {}\n", visit.identity.on_node(), visit.client.ip());
    match visit.backend {
        None => {}
        Some((_, Ok(answer))) => {
            for line in answer.lines() {
                let line =
                    line.strip_prefix("-> ").map_or(format!("-> {line}"), |rest| format!("-> -> {rest}"));
                text.push_str(&format!("{line}\n"));
            }
        }
        Some((_, Err(problem))) => text.push_str(&format!("-> {problem}\n")),
    }
    text
}

/// The answer for browsers.
pub fn html(visit: &Visit<'_>) -> String {
    let identity = visit.identity;
    let (accent, glow) = match identity.version.as_str() {
        "v1" => ("#2563eb", "#60a5fa"),
        "v2" => ("#059669", "#34d399"),
        _ => ("#9333ea", "#c084fc"),
    };
    let unknown = |text: &str| if text.is_empty() { "unknown".to_owned() } else { escape(text) };
    let rows = visit
        .headers
        .iter()
        .map(|(name, value)| {
            let value = escape(&String::from_utf8_lossy(value.as_bytes()));
            format!("<tr><td>{}</td><td>{value}</td></tr>", escape(name.as_str()))
        })
        .collect::<String>();
    let backend = match visit.backend {
        None => String::new(),
        Some((url, Ok(answer))) => format!(
            "<section><h2>Next tier</h2><p class=\"url\">{}</p><pre id=\"backend\">{}</pre></section>",
            escape(url),
            escape(answer.trim_end())
        ),
        Some((_, Err(problem))) => format!(
            "<section class=\"bad\"><h2>Next tier</h2><pre id=\"backend\">{}</pre></section>",
            escape(problem)
        ),
    };
    let values = [
        ("accent", accent.to_owned()),
        ("glow", glow.to_owned()),
        ("version", escape(&identity.version)),
        ("pod", escape(&identity.pod)),
        ("node", unknown(&identity.node)),
        ("namespace", unknown(&identity.namespace)),
        ("ip", unknown(&identity.ip)),
        ("client", visit.client.ip().to_string()),
        ("number", visit.number.to_string()),
        ("headers", rows),
        ("backend", backend),
    ];
    fill(TEMPLATE, &values)
}

/// Puts values into `{{name}}` places, in one pass, so that a value is never taken for a place.
fn fill(template: &str, values: &[(&str, String)]) -> String {
    let mut out = String::with_capacity(template.len() + 512);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let Some((name, tail)) = after.split_once("}}") else { break };
        if let Some((_, value)) = values.iter().find(|(known, _)| *known == name) {
            out.push_str(value);
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(version: &str) -> Identity {
        let text = |text: &str| text.to_owned();
        let (pod, namespace) = (text("web-1"), text("default"));
        Identity { pod, namespace, node: text("node1"), ip: text("10.244.1.2"), version: version.to_owned() }
    }

    fn show(version: &str, backend: Option<(String, Result<String, String>)>) -> (String, String) {
        let mut headers = HeaderMap::new();
        headers.insert("x-evil", "<script>{{pod}}</script>".parse().expect("header"));
        let (identity, client) = (identity(version), "172.30.0.1:4711".parse().expect("address"));
        let visit = Visit { identity: &identity, client, number: 3, headers: &headers, backend: &backend };
        (text(&visit), html(&visit))
    }

    #[test]
    fn terminals_get_one_line() {
        assert_eq!(show("v1", None).0, "Hello from web-1 on node1 (v1), you are 172.30.0.1\n");
    }

    #[test]
    fn the_next_tiers_are_shown_below() {
        let answer =
            "Hello from api-1 (v1), you are 10.244.1.2\n-> Hello from db-1 (v1), you are 10.244.1.3\n";
        let (text, html) = show("v1", Some(("http://api".into(), Ok(answer.into()))));
        assert!(text.contains("\n-> Hello from api-1") && text.contains("\n-> -> Hello from db-1"), "{text}");
        assert!(html.contains("Hello from db-1"));
        let (text, _) = show("v1", Some(("http://api".into(), Err("http://api: cannot resolve api".into()))));
        assert!(text.ends_with("-> http://api: cannot resolve api\n"));
    }

    #[test]
    fn versions_have_colours_and_nothing_is_left_to_fill() {
        let (_, one) = show("v1", None);
        let (_, two) = show("v2", None);
        assert!(one.contains("#2563eb") && two.contains("#059669"));
        assert!(one.contains("web-1") && one.contains("172.30.0.1") && !one.contains("{{number"));
    }

    #[test]
    fn headers_are_text_not_markup() {
        let (_, html) = show("v1", None);
        assert!(html.contains("&lt;script&gt;{{pod}}&lt;/script&gt;"), "{html}");
    }
}
