//! The store's table of images: which names lead to which configuration and layers. Pure data.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::reference::{ImageName, as_id};
use super::{ImageConfig, ImageError, ImageInfo};

/// One unpacked layer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRef {
    /// Directory below `layers/`: the first 32 hexadecimal digits of the diff id.
    pub name: String,
    /// Bytes of its files.
    pub size: u64,
}

/// One image.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// How to run it.
    pub config: ImageConfig,
    /// Lowest first.
    pub layers: Vec<LayerRef>,
    /// Normalised names.
    pub tags: BTreeSet<String>,
    /// `repository@sha256:…`.
    pub digests: BTreeSet<String>,
    /// Part of the program itself.
    pub builtin: bool,
}

/// All images, by the id of their configuration (`sha256:…`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Id → image.
    pub images: BTreeMap<String, Record>,
}

impl Index {
    /// Adds an image or more names to one; a tag that led elsewhere now leads here, and an image that
    /// has lost its last name so is forgotten.
    pub fn insert(&mut self, id: &str, record: Record) {
        for (other, existing) in &mut self.images {
            if other != id {
                existing.tags.retain(|tag| !record.tags.contains(tag));
            }
        }
        let entry = self.images.entry(id.to_owned()).or_insert_with(|| record.clone());
        entry.tags.extend(record.tags);
        entry.digests.extend(record.digests);
        entry.builtin |= record.builtin;
        self.images.retain(|other, image| other == id || !image.tags.is_empty() || !image.digests.is_empty());
    }

    /// The id of the image that a name, digest or id leads to.
    pub fn find(&self, image: &str) -> Result<Option<String>, ImageError> {
        if let Some(digits) = as_id(image) {
            let wanted = format!("sha256:{digits}");
            let mut found = self.images.keys().filter(|id| id.starts_with(&wanted));
            if let (Some(id), None) = (found.next(), found.next()) {
                return Ok(Some(id.clone()));
            }
        }
        let name = ImageName::parse(image)?;
        let by_digest = name.digest().map(|digest| format!("{}@{digest}", name.repository()));
        let full = name.full();
        let leads_here = |record: &Record| match &by_digest {
            Some(digest) => record.digests.contains(digest),
            None => record.tags.contains(&full),
        };
        Ok(self.images.iter().find(|(_, record)| leads_here(record)).map(|(id, _)| id.clone()))
    }

    /// Removes a name, and the image with its last name; by id removes all names. `used_by` names a
    /// container that needs an image. Returns whether the image itself went.
    pub fn remove(
        &mut self,
        image: &str,
        used_by: impl Fn(&str) -> Option<String>,
    ) -> Result<bool, ImageError> {
        let id = self.find(image)?.ok_or_else(|| ImageError::NotPresent { image: image.to_owned() })?;
        let record =
            self.images.get_mut(&id).ok_or_else(|| ImageError::NotPresent { image: image.to_owned() })?;
        if record.builtin {
            let cause = "it is part of daymark itself".to_owned();
            return Err(ImageError::InUse { image: image.to_owned(), cause });
        }
        let mut left = record.clone();
        match ImageName::parse(image).ok().filter(|name| record.tags.contains(&name.full())) {
            Some(name) => {
                left.tags.remove(&name.full());
                let repository = format!("{}:", name.repository());
                if !left.tags.iter().any(|tag| tag.starts_with(&repository)) {
                    left.digests.retain(|digest| !digest.starts_with(&format!("{}@", name.repository())));
                }
            }
            None => {
                left.tags.clear();
                left.digests.clear();
            }
        }
        if !left.tags.is_empty() || !left.digests.is_empty() {
            *record = left;
            return Ok(false);
        }
        if let Some(container) = used_by(&id) {
            let cause = format!("container {container} uses it; delete its pod first");
            return Err(ImageError::InUse { image: image.to_owned(), cause });
        }
        self.images.remove(&id);
        Ok(true)
    }

    /// Names of all layers that images need.
    pub fn layers(&self) -> BTreeSet<String> {
        self.images.values().flat_map(|record| record.layers.iter().map(|layer| layer.name.clone())).collect()
    }

    /// An image as callers see it.
    pub fn info(&self, id: &str) -> Option<ImageInfo> {
        self.images.get(id).map(|record| ImageInfo {
            id: id.to_owned(),
            tags: record.tags.iter().cloned().collect(),
            digests: record.digests.iter().cloned().collect(),
            size: record.layers.iter().map(|layer| layer.size).sum(),
            builtin: record.builtin,
            config: record.config.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(tags: &[&str]) -> Record {
        Record {
            config: ImageConfig::default(),
            layers: vec![LayerRef { name: "aa".into(), size: 5 }],
            tags: tags.iter().map(|tag| ImageName::parse(tag).expect("name").full()).collect(),
            digests: BTreeSet::new(),
            builtin: false,
        }
    }

    #[test]
    fn a_tag_moves_and_its_old_image_is_forgotten() {
        let mut index = Index::default();
        index.insert("sha256:aaaaaaaaaaaa", record(&["web:v1"]));
        index.insert("sha256:bbbbbbbbbbbb", record(&["web:v1"]));
        assert_eq!(index.find("web:v1").expect("valid"), Some("sha256:bbbbbbbbbbbb".into()));
        assert_eq!(index.images.len(), 1);
    }

    #[test]
    fn removing_one_of_two_names_keeps_the_image() {
        let mut index = Index::default();
        index.insert("sha256:aaaaaaaaaaaa", record(&["web:v1", "web:v2"]));
        assert!(!index.remove("web:v1", |_| None).expect("removes"));
        assert_eq!(index.find("web:v1").expect("valid"), None);
        assert!(index.remove("web:v2", |_| None).expect("removes"));
        assert!(index.images.is_empty());
    }

    #[test]
    fn an_image_in_use_stays() {
        let mut index = Index::default();
        index.insert("sha256:aaaaaaaaaaaa", record(&["web:v1"]));
        let error = index.remove("aaaaaaaaaaaa", |_| Some("c1".into())).expect_err("in use");
        assert!(error.to_string().contains("container c1 uses it"), "{error}");
        assert_eq!(index.images.len(), 1);
    }

    #[test]
    fn what_is_not_there_cannot_be_removed() {
        let error = Index::default().remove("ghost", |_| None).expect_err("nothing");
        assert!(matches!(error, ImageError::NotPresent { .. }));
    }
}
