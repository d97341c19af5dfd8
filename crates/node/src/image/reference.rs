//! Image names as Docker reads them: `nginx` is `docker.io/library/nginx:latest`.

use std::str::FromStr;

use oci_client::Reference;

use super::ImageError;

/// A normalised image name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageName(Reference);

impl ImageName {
    /// Parses and normalises a name with optional registry, tag and digest.
    pub fn parse(image: &str) -> Result<Self, ImageError> {
        let invalid = |cause: String| ImageError::InvalidName { image: image.to_owned(), cause };
        if image.is_empty() {
            return Err(invalid("it is empty".into()));
        }
        let reference = Reference::from_str(image).map_err(|error| invalid(error.to_string()))?;
        if reference.repository().bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(invalid("repository name must be lowercase".into()));
        }
        Ok(Self(reference))
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
        ] {
            assert_eq!(ImageName::parse(given).expect(given).full(), full, "{given}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_name() {
        for bad in ["", "UPPER/case", "a b", "nginx:", "nginx@sha256:12", ":tag"] {
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
