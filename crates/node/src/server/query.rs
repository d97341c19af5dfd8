//! Query strings with repeated keys.

/// The decoded pairs of a query string, in order.
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = text.unwrap_or_default().split('&').filter(|p| !p.is_empty());
        Self(
            pairs
                .map(|pair| {
                    let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                    (decode(key), decode(value))
                })
                .collect(),
        )
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    pub fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// `true`, `1`, or the key alone.
    pub fn flag(&self, key: &str) -> bool {
        self.get(key).is_some_and(|v| matches!(v, "true" | "1" | ""))
    }

    /// Whether any of these spellings is set.
    pub fn any_flag(&self, keys: [&str; 2]) -> bool {
        keys.iter().any(|k| self.flag(k))
    }

    /// A number, or what is wrong with it.
    pub fn number(&self, key: &str) -> Result<Option<i64>, String> {
        let parse = |v: &str| v.parse().map_err(|_| format!("{key}: {v:?} is not a number"));
        self.get(key).filter(|v| !v.is_empty()).map(parse).transpose()
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (_, Some(byte)) => {
                out.push(byte);
                at += 2;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeated_and_escaped_values_are_kept() {
        let q = Query::parse(Some(
            "command=sh&command=-c&command=echo+a%20b%26%C3%A9&stdin=true&tty=1&bad=%zz&x=5",
        ));
        assert_eq!(q.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a b&é"]);
        assert!(q.any_flag(["stdin", "input"]) && q.flag("tty") && !q.flag("stdout"));
        assert_eq!(q.get("bad"), Some("%zz"));
        assert_eq!((q.number("x"), q.number("y")), (Ok(Some(5)), Ok(None)));
        assert!(q.number("bad").is_err());
    }
}
