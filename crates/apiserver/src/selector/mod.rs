//! Label and field selectors, from query strings and from `metav1.LabelSelector` objects.

mod field;
mod label;

pub use field::FieldSelector;
pub use label::LabelSelector;
