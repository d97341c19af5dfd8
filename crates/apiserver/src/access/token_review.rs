//! `TokenReview`: whether somebody else's token is good, and whose it is.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::registry::Registry;
use crate::registry::object::text;

impl Registry {
    /// The status of a review.
    pub(super) fn review_token(&self, review: &Value, now: Timestamp) -> Result<Value, ApiError> {
        let token = text(review, "/spec/token");
        if token.is_empty() {
            return Err(ApiError::bad_request("token is required for TokenReview in authentication"));
        }
        let named = review.pointer("/spec/audiences").and_then(Value::as_array).into_iter().flatten();
        let named: Vec<String> = named.filter_map(Value::as_str).map(str::to_owned).collect();
        let audiences = (!named.is_empty()).then_some(named.as_slice());
        Ok(match self.check_token(token, audiences, now) {
            Ok(Some(checked)) => json!({
                "authenticated": true, "user": checked.identity.user_info(), "audiences": checked.audiences,
            }),
            Ok(None) => json!({"user": {}, "error": "invalid bearer token"}),
            Err(why) => json!({"user": {}, "error": format!("[invalid bearer token, {why}]")}),
        })
    }
}
