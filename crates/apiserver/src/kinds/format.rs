//! Formats of strings: DNS names, label keys and values, port names and the like. Each check answers
//! with the complaints that Kubernetes would have, none if the text is fine.

/// Complaints about one string.
pub type Complaints = Vec<String>;

const LABEL_FMT: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_FMT: &str = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const NAME_PART_FMT: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";

fn max_len(limit: usize) -> String {
    format!("must be no more than {limit} characters")
}

/// The sentence Kubernetes builds from a rule, its regular expression and examples.
fn rule(message: &str, pattern: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}', ")).collect();
    format!("{message} (e.g. {}regex used for validation is '{pattern}')", examples.join(" or "))
}

/// `must be between LO and HI, inclusive`
pub fn range_error(lo: i64, hi: i64) -> String {
    format!("must be between {lo} and {hi}, inclusive")
}

fn lower_alnum(c: u8) -> bool {
    c.is_ascii_lowercase() || c.is_ascii_digit()
}

/// Starts and ends with `edge`, everything between is `edge` or one of `inner`.
fn framed(text: &str, edge: fn(u8) -> bool, inner: &[u8]) -> bool {
    let bytes = text.as_bytes();
    match (bytes.first(), bytes.last()) {
        (Some(&a), Some(&z)) => edge(a) && edge(z) && bytes.iter().all(|&c| edge(c) || inner.contains(&c)),
        _ => false,
    }
}

fn is_label(text: &str) -> bool {
    framed(text, lower_alnum, b"-")
}

fn is_subdomain(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(is_label)
}

fn is_name_part(text: &str) -> bool {
    framed(text, |c| c.is_ascii_alphanumeric(), b"-_.")
}

/// RFC 1123 label.
pub fn dns1123_label(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_len(63));
    }
    if !is_label(text) {
        out.push(if is_subdomain(text) {
            "must not contain dots".to_owned()
        } else {
            rule(
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
                LABEL_FMT,
                &["my-name", "123-abc"],
            )
        });
    }
    out
}

/// RFC 1123 subdomain.
pub fn dns1123_subdomain(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len(253));
    }
    if !is_subdomain(text) {
        out.push(rule(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_FMT,
            &["example.com"],
        ));
    }
    out
}

/// RFC 1035 label.
pub fn dns1035_label(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_len(63));
    }
    if !is_label(text) || !text.starts_with(|c: char| c.is_ascii_lowercase()) {
        out.push(rule(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            "[a-z]([-a-z0-9]*[a-z0-9])?",
            &["my-name", "abc-123"],
        ));
    }
    out
}

/// A wildcard subdomain, `*.example.com`.
pub fn wildcard_subdomain(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len(253));
    }
    if !text.strip_prefix("*.").is_some_and(is_subdomain) {
        out.push(rule(
            "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character",
            &format!(r"\*\.{SUBDOMAIN_FMT}"),
            &["*.example.com"],
        ));
    }
    out
}

const NAME_PART_MSG: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
const NAME_PART_EXAMPLES: &[&str] = &["MyName", "my.name", "123-abc"];

/// A label key, `[PREFIX/]NAME`; also the form of annotation keys and finalizers.
pub fn qualified_name(text: &str) -> Complaints {
    let mut out = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts.as_slice() {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                out.push("prefix part must be non-empty".to_owned());
            } else {
                out.extend(dns1123_subdomain(prefix).into_iter().map(|m| format!("prefix part {m}")));
            }
            name
        }
        _ => {
            let what = rule(NAME_PART_MSG, NAME_PART_FMT, NAME_PART_EXAMPLES);
            out.push(format!(
                "a valid label key {what} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return out;
        }
    };
    if name.is_empty() {
        out.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        out.push(format!("name part {}", max_len(63)));
    }
    if !is_name_part(name) {
        out.push(format!("name part {}", rule(NAME_PART_MSG, NAME_PART_FMT, NAME_PART_EXAMPLES)));
    }
    out
}

/// A label value; may be empty.
pub fn label_value(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 63 {
        out.push(max_len(63));
    }
    if !text.is_empty() && !is_name_part(text) {
        out.push(rule(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?",
            &["MyValue", "my_value", "12345"],
        ));
    }
    out
}

/// The name of a container port (RFC 6335 service name).
pub fn port_name(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 15 {
        out.push(max_len(15));
    }
    if text.is_empty() || !text.bytes().all(|c| lower_alnum(c) || c == b'-') {
        out.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        out.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        out.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        out.push("must not begin or end with a hyphen".to_owned());
    }
    out
}

/// 1–65535.
pub fn port_number(port: i64) -> Complaints {
    in_range(port, 1, 65535)
}

pub fn in_range(value: i64, lo: i64, hi: i64) -> Complaints {
    if (lo..=hi).contains(&value) { Vec::new() } else { vec![range_error(lo, hi)] }
}

/// The name of an environment variable: printable ASCII without `=`.
pub fn env_var_name(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.is_empty() {
        out.push("environment variable name must be non-empty".to_owned());
    }
    if !text.bytes().all(|c| (b' '..=b'~').contains(&c) && c != b'=') {
        out.push(
            "a valid environment variable name must consist only of printable ASCII characters other than '='"
                .to_owned(),
        );
    }
    out
}

/// A key of a ConfigMap or Secret.
pub fn config_key(text: &str) -> Complaints {
    let mut out = Vec::new();
    if text.len() > 253 {
        out.push(max_len(253));
    }
    if text.is_empty() || !text.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_.".contains(&c)) {
        out.push(rule(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            "[-._a-zA-Z0-9]+",
            &["key.name", "KEY_NAME", "key-name"],
        ));
    }
    match text {
        "." => out.push("must not be '.'".to_owned()),
        ".." => out.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => out.push("must not start with '..'".to_owned()),
        _ => {}
    }
    out
}

/// The name of an HTTP header.
pub fn http_header_name(text: &str) -> Complaints {
    if !text.is_empty() && text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-') {
        return Vec::new();
    }
    vec![rule(
        "a valid HTTP header must consist of alphanumeric characters or '-'",
        "[-A-Za-z0-9]+",
        &["X-Header-Name"],
    )]
}

/// `25%`
pub fn percent(text: &str) -> Complaints {
    let digits = text.strip_suffix('%').unwrap_or("");
    if !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit()) {
        return Vec::new();
    }
    vec![rule(
        "a valid percent string must be a numeric string followed by an ending '%'",
        "[0-9]+%",
        &["1%", "93%"],
    )]
}

/// A name that may stand in a URL path, e.g. of RBAC objects.
pub fn path_segment(text: &str) -> Complaints {
    if text == "." || text == ".." {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"].iter().filter(|c| text.contains(**c)).map(|c| format!("may not contain '{c}'")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dns_names() {
        assert!(dns1123_label("a-1").is_empty());
        assert_eq!(dns1123_label("a.b"), ["must not contain dots"]);
        assert_eq!(dns1123_label(&"a".repeat(64)), ["must be no more than 63 characters"]);
        assert!(dns1123_subdomain("a.b-c.d0").is_empty());
        for bad in ["", ".", "a..b", "-a", "a-", "A", "a_b", "ä"] {
            assert_eq!(dns1123_subdomain(bad).len(), 1, "{bad}");
        }
        assert_eq!(
            dns1123_subdomain("A"),
            [
                r"a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ]
        );
        assert_eq!(
            dns1035_label("1a"),
            [
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ]
        );
        assert!(wildcard_subdomain("*.a.b").is_empty());
        assert_eq!(wildcard_subdomain("a.*").len(), 1);
    }

    #[test]
    fn keys_values_and_ports() {
        assert!(qualified_name("example.com/My_Name.1").is_empty());
        assert_eq!(qualified_name("/x"), ["prefix part must be non-empty"]);
        assert_eq!(qualified_name("a/").len(), 2);
        assert!(qualified_name("a/b/c")[0].ends_with("(e.g. 'example.com/MyName')"));
        assert!(label_value("").is_empty());
        assert_eq!(label_value("-x").len(), 1);
        assert!(port_name("http-2").is_empty());
        assert_eq!(port_name("80"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_name("a--b-").len(), 2);
        assert_eq!(port_number(70000), ["must be between 1 and 65535, inclusive"]);
        assert_eq!(env_var_name("A=B").len(), 1);
        assert_eq!(config_key("..x"), ["must not start with '..'"]);
        assert!(percent("25%").is_empty());
        assert_eq!(percent("%").len(), 1);
        assert_eq!(path_segment("a/b%"), ["may not contain '/'", "may not contain '%'"]);
    }
}
