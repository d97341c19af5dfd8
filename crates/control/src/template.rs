//! Pods from templates: names for templates, the pods that they make, shares of a number of pods.

use k8s_openapi::api::core::v1::{Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::action::to_value;
use crate::meta::controller_reference;
use crate::object::Cached;

/// A short name for a template: FNV-1a of its JSON and the collision count, in letters and digits that
/// form no words.
pub fn hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    const SAFE: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    let mut sum: u32 = 2_166_136_261;
    let mut add =
        |bytes: &[u8]| bytes.iter().for_each(|b| sum = (sum ^ u32::from(*b)).wrapping_mul(16_777_619));
    add(to_value(template).to_string().as_bytes());
    if let Some(count) = collisions {
        add(&count.to_le_bytes());
    }
    sum.to_string().bytes().map(|digit| char::from(SAFE[usize::from(digit) % SAFE.len()])).collect()
}

/// A pod made from a template for its owner, with a name to be generated.
pub fn pod<T: Cached>(template: &PodTemplateSpec, owner: &T) -> Pod {
    let given = template.metadata.clone().unwrap_or_default();
    let meta = owner.metadata();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", meta.name.as_deref().unwrap_or_default())),
            namespace: meta.namespace.clone(),
            labels: given.labels,
            annotations: given.annotations,
            finalizers: given.finalizers,
            owner_references: Some(vec![controller_reference(owner)]),
            ..Default::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// A count, or a percentage of `of` rounded up or down; nothing below 0.
pub fn share(value: &IntOrString, of: i32, up: bool) -> i32 {
    let exact = match value {
        IntOrString::Int(n) => return (*n).max(0),
        IntOrString::String(text) => {
            text.trim_end_matches('%').parse::<i32>().map_or(0, i64::from).max(0) * i64::from(of)
        }
    };
    let whole = if up { (exact + 99) / 100 } else { exact / 100 };
    i32::try_from(whole).unwrap_or(i32::MAX)
}
