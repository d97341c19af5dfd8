//! Volumes: plug-ins of old, files that hide each other, claims.

use serde_json::Value;

use super::pod::check_bytes;
use crate::kinds::field::Path;
use crate::kinds::value::{at, list, present, text};

/// Plug-ins by the field that asks for them, in the order of the messages.
const OLD: [(&str, &str); 7] = [
    ("photonPersistentDisk", "deprecated in v1.11, non-functional in v1.16+"),
    ("gitRepo", "deprecated in v1.11, and disabled by default in v1.33+"),
    ("scaleIO", "deprecated in v1.16, non-functional in v1.22+"),
    ("flocker", "deprecated in v1.22, non-functional in v1.25+"),
    ("storageos", "deprecated in v1.22, non-functional in v1.25+"),
    ("quobyte", "deprecated in v1.22, non-functional in v1.25+"),
    ("glusterfs", "deprecated in v1.25, non-functional in v1.26+"),
];
const OLD_CLUSTERS: [&str; 2] = ["cephfs", "rbd"];

/// Of the volumes of a pod's spec at `path`.
pub fn check(path: &Path, spec: &Value, found: &mut Vec<String>) {
    let volumes = list(spec, "volumes");
    for (i, volume) in volumes.iter().enumerate() {
        let path = path.child("volumes").index(i);
        for (field, why) in OLD.iter().filter(|(field, _)| present(volume, field)) {
            let field = if *field == "storageos" { "storageOS" } else { field };
            found.push(format!("{}: {why}", path.child(field)));
        }
        if let Some(claim) = at(volume, "ephemeral.volumeClaimTemplate.spec") {
            let path = path.child("ephemeral").child("volumeClaimTemplate").child("spec");
            claim_spec(&path, claim, found);
        }
        for field in OLD_CLUSTERS.iter().filter(|field| present(volume, field)) {
            found.push(format!("{}: deprecated in v1.28, non-functional in v1.31+", path.child(field)));
        }
    }
    for volume in volumes {
        check_files(volume, found);
    }
}

/// A file of a volume and what it comes from.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

impl File {
    fn new(path: &str, source: &str) -> Self {
        Self { path: path.trim_end_matches('/').to_owned(), source: source.to_owned() }
    }

    fn shown(&self) -> String {
        match self.source.is_empty() {
            true => format!("{:?}", self.path),
            false => format!("{:?} ({})", self.path, self.source),
        }
    }

    fn overlaps(&self, other: &Self) -> bool {
        let (a, b) = (format!("{}/", self.path), format!("{}/", other.path));
        !self.path.is_empty() && !other.path.is_empty() && (a.starts_with(&b) || b.starts_with(&a))
    }
}

fn check_files(volume: &Value, found: &mut Vec<String>) {
    let name = text(volume, "name");
    let (kind, files) = if let Some(map) = at(volume, "configMap") {
        (format!("ConfigMap {:?}", text(map, "name")), items(map, ""))
    } else if let Some(secret) = at(volume, "secret") {
        (format!("Secret {:?}", text(secret, "secretName")), items(secret, ""))
    } else if let Some(downward) = at(volume, "downwardAPI") {
        ("DownwardAPI".to_owned(), items(downward, ""))
    } else if present(volume, "projected") {
        let mut files = Vec::new();
        for source in list(volume, "projected.sources") {
            if source.as_object().is_none_or(|fields| fields.values().all(Value::is_null)) {
                found.push(format!("volume {name:?} (Projected) has no sources provided"));
            }
            files.extend(projected(source));
        }
        ("Projected".to_owned(), files)
    } else {
        return;
    };
    for (at, file) in files.iter().enumerate() {
        for other in files[..at].iter().filter(|other| other.overlaps(file)) {
            found.push(format!(
                "volume {name:?} ({kind}): overlapping paths: {} with {}",
                file.shown(),
                other.shown()
            ));
        }
    }
}

fn items(of: &Value, source: &str) -> Vec<File> {
    list(of, "items").iter().map(|item| File::new(text(item, "path"), source)).collect()
}

fn projected(source: &Value) -> Vec<File> {
    if let Some(map) = at(source, "configMap") {
        return items(map, &format!("ConfigMap {:?}", text(map, "name")));
    }
    if let Some(secret) = at(source, "secret") {
        return items(secret, &format!("Secret {:?}", text(secret, "name")));
    }
    if let Some(downward) = at(source, "downwardAPI") {
        return items(downward, "DownwardAPI");
    }
    if let Some(token) = at(source, "serviceAccountToken") {
        return vec![File::new(text(token, "path"), "ServiceAccountToken")];
    }
    if let Some(bundle) = at(source, "clusterTrustBundle") {
        let name = if present(bundle, "name") { text(bundle, "name") } else { text(bundle, "signerName") };
        return vec![File::new(text(bundle, "path"), &format!("ClusterTrustBundle {name:?}"))];
    }
    let Some(certificate) = at(source, "podCertificate") else { return Vec::new() };
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let files = parts.into_iter().map(|(field, source)| File::new(text(certificate, field), source));
    files.filter(|file| !file.path.is_empty()).collect()
}

/// Of a PersistentVolumeClaim.
pub fn claim(obj: &Value, found: &mut Vec<String>) {
    const CLASS: &str = "volume.beta.kubernetes.io/storage-class";
    if obj["metadata"]["annotations"].get(CLASS).is_some() {
        found.push(format!(
            "metadata.annotations[{CLASS}]: deprecated since v1.8; use \"storageClassName\" attribute instead"
        ));
    }
    claim_spec(&Path::new("spec"), &obj["spec"], found);
}

pub fn claim_spec(path: &Path, spec: &Value, found: &mut Vec<String>) {
    for field in ["requests", "limits"] {
        let amounts = &spec["resources"][field];
        check_bytes(&path.child("resources").child(field), amounts, "storage", found);
    }
}
