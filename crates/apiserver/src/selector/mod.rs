//! Label and field selectors, from query strings and from `metav1.LabelSelector` objects.

mod field;
mod label;
mod lexer;
mod parser;
#[cfg(test)]
mod tests;

pub use field::{FieldSelector, name_selected};
pub use label::{LabelSelector, Operator, Requirement, validate_labels, validate_selector};
