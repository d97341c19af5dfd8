//! Image names as Docker reads them: `nginx` is `docker.io/library/nginx:latest`.
//!
//! The grammar is the one of the distribution project (`reference/regexp.go`), written out: the registry
//! client's own parser compiles it to a regular expression of 9 MB, in every node's process.

use oci_client::Reference;

use super::ImageError;

const LONGEST_NAME: usize = 255;
const LONGEST_TAG: usize = 128;

/// A normalised image name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName(Reference);

impl ImageName {
    /// Parses and normalises a name with optional registry, tag and digest.
    pub fn parse(image: &str) -> Result<Self, ImageError> {
        let invalid =
            |cause: &str| ImageError::InvalidName { image: image.to_owned(), cause: cause.to_owned() };
        let (rest, digest) = match image.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (image, None),
        };
        let (name, tag) = split_tag(rest);
        let (registry, repository) = split_registry(name);
        if !repository.split('/').all(is_component) {
            let lower = repository.to_ascii_lowercase();
            let cased = lower != repository && lower.split('/').all(is_component);
            return Err(invalid(if cased {
                "repository name must be lowercase"
            } else {
                "invalid reference format"
            }));
        }
        if !is_registry(registry) || !tag.is_none_or(is_tag) || !digest.is_none_or(is_digest) {
            return Err(invalid("invalid reference format"));
        }
        if registry.len() + repository.len() >= LONGEST_NAME {
            return Err(invalid("repository name must not be more than 255 characters"));
        }
        let registry = if registry == "index.docker.io" { "docker.io" } else { registry }.to_owned();
        let official = registry == "docker.io" && !repository.contains('/');
        let repository = if official { format!("library/{repository}") } else { repository.to_owned() };
        Ok(Self(match (tag, digest.map(str::to_owned)) {
            (Some(tag), Some(digest)) => {
                Reference::with_tag_and_digest(registry, repository, tag.to_owned(), digest)
            }
            (None, Some(digest)) => Reference::with_digest(registry, repository, digest),
            (tag, None) => Reference::with_tag(registry, repository, tag.unwrap_or("latest").to_owned()),
        }))
    }

    /// The whole normalised name, e.g. `docker.io/library/nginx:latest`.
    pub fn full(&self) -> String {
        self.0.whole()
    }

    /// Registry and repository without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.0.registry(), self.0.repository())
    }

    /// The registry's host and port as written in the name.
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// What the registry client works with.
    pub fn reference(&self) -> &Reference {
        &self.0
    }
}

/// A colon behind the last slash separates the tag; one before it belongs to the registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    let last = name.rfind('/').map_or(0, |at| at + 1);
    match name[last..].find(':') {
        Some(at) => (&name[..last + at], Some(&name[last + at + 1..])),
        None => (name, None),
    }
}

/// The first part is a registry if it looks like a host: with a dot, a port, or as `localhost`.
fn split_registry(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", name),
    }
}

fn is_registry(host: &str) -> bool {
    let (name, port) = host.rsplit_once(':').unwrap_or((host, "0"));
    let label = |l: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !l.is_empty() && l.bytes().all(inner) && !l.starts_with('-') && !l.ends_with('-')
    };
    name.split('.').all(label) && !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit())
}

/// Lower-case letters and digits, joined by `.`, `_`, `__` or hyphens.
fn is_component(text: &str) -> bool {
    let separator = |c: char| matches!(c, '.' | '_' | '-');
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || separator(c);
    let joined = text.split(|c: char| !separator(c)).filter(|s| !s.is_empty());
    !text.is_empty()
        && text.chars().all(allowed)
        && !text.starts_with(separator)
        && !text.ends_with(separator)
        && joined.into_iter().all(|s| matches!(s, "." | "_" | "__") || s.bytes().all(|b| b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let first = tag.bytes().next().is_some_and(word);
    first && tag.len() <= LONGEST_TAG && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_digest(digest: &str) -> bool {
    let Some((algorithm, hex)) = digest.split_once(':') else { return false };
    let known = match algorithm {
        "sha256" => hex.len() == 64,
        "sha512" => hex.len() == 128,
        _ => false,
    };
    known && hex.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether `text` names an image by the id of its configuration (`sha256:…` or at least 12 digits of it).
pub fn as_id(text: &str) -> Option<&str> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let hexadecimal = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (hexadecimal && (12..=64).contains(&digits.len())).then_some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        for (given, full) in [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("daymark/web:v1", "docker.io/daymark/web:v1"),
            ("docker.io/nginx", "docker.io/library/nginx:latest"),
            ("localhost:5000/a/b", "localhost:5000/a/b:latest"),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9"),
            ("localhost/a", "localhost/a:latest"),
            ("a__b/c--d.e", "docker.io/a__b/c--d.e:latest"),
            ("index.docker.io/nginx:1", "docker.io/library/nginx:1"),
        ] {
            assert_eq!(ImageName::parse(given).expect(given).full(), full, "{given}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        for bad in [
            "",
            "UPPER/case",
            "a b",
            "nginx:",
            "nginx@sha256:12",
            ":tag",
            "a//b",
            "a/",
            "/a",
            "-a",
            "a..b",
            "a___b",
            "a:b:c",
            "a.:x/b",
            "a@b@c",
        ] {
            let error = ImageName::parse(bad).expect_err(bad);
            assert_eq!(error.reason(), "InvalidImageName", "{bad}");
        }
    }

    #[test]
    fn ids_are_told_from_names() {
        assert_eq!(as_id("sha256:0123456789abcdef"), Some("0123456789abcdef"));
        assert_eq!(as_id("0123456789ab"), Some("0123456789ab"));
        assert_eq!(as_id("nginx"), None);
        assert_eq!(as_id("abc"), None);
    }
}
