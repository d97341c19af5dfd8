//! One request, as it stands in the data.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    #[serde(default)]
    pub name: String,
    /// An HTTP method, or `WATCH`: the events of one second.
    #[serde(rename = "do")]
    pub method: String,
    pub at: String,
    /// `merge`, `json`, `strategic`, `apply`, or a media type.
    #[serde(default, rename = "type")]
    pub media: String,
    /// `table`, `partial`, `partiallist`, or a media type.
    #[serde(default)]
    pub accept: String,
    #[serde(default)]
    pub body: Value,
    /// The body as it is.
    pub raw: Option<String>,
    /// The body in base64.
    pub bytes: Option<String>,
    /// The body is the object of the last answer.
    #[serde(default)]
    pub live: bool,
    /// Merged into the body.
    #[serde(default)]
    pub with: Value,
}

impl Case {
    pub fn content_type(&self) -> String {
        match self.media.as_str() {
            "" => "application/json".into(),
            "merge" => "application/merge-patch+json".into(),
            "json" => "application/json-patch+json".into(),
            "strategic" => "application/strategic-merge-patch+json".into(),
            "apply" => "application/apply-patch+yaml".into(),
            other => other.into(),
        }
    }

    pub fn accepts(&self) -> String {
        let meta = |kind: &str| format!("application/json;as={kind};v=v1;g=meta.k8s.io");
        match self.accept.as_str() {
            "" => "application/json".into(),
            "table" => meta("Table"),
            "partial" => meta("PartialObjectMetadata"),
            "partiallist" => meta("PartialObjectMetadataList"),
            other => other.into(),
        }
    }
}

/// Every file of a folder as one group, in the order of names.
pub fn files(folder: &Path) -> Vec<(String, Vec<Case>)> {
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let text = std::fs::read_to_string(path).unwrap();
            let mut cases: Vec<Case> =
                serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            for (at, case) in cases.iter_mut().enumerate().filter(|(_, case)| case.name.is_empty()) {
                case.name = format!("{} {} {}", at + 1, case.method, case.at);
            }
            (path.file_stem().unwrap().to_string_lossy().into_owned(), cases)
        })
        .collect()
}
