//! Registry credentials out of image pull secrets.

use base64::Engine as _;
use serde_json::Value;

use crate::env::vars::Data;
use crate::runtime::PullSecrets;

/// The credentials in a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/dockercfg`.
pub fn credentials(data: &Data) -> Vec<crate::image::RegistryCredential> {
    let parse = |key: &str| data.get(key).and_then(|b| serde_json::from_slice::<Value>(b).ok());
    let auths = match (parse(".dockerconfigjson"), parse(".dockercfg")) {
        (Some(config), _) => config.get("auths").cloned().unwrap_or_default(),
        (None, Some(config)) => config,
        (None, None) => return PullSecrets::default().credentials,
    };
    let entries = auths.as_object().into_iter().flatten();
    entries.filter_map(|(registry, entry)| credential(registry, entry)).collect()
}

fn credential(registry: &str, entry: &Value) -> Option<crate::image::RegistryCredential> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
    let joined = text("auth").and_then(|auth| {
        let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
        let (user, password) =
            std::str::from_utf8(&bytes).ok()?.split_once(':').map(|(u, p)| (u.to_owned(), p.to_owned()))?;
        Some((user, password))
    });
    let (username, password) = match (text("username"), text("password")) {
        (Some(username), Some(password)) => (username, password),
        _ => joined?,
    };
    Some(crate::image::RegistryCredential { registry: registry.to_owned(), username, password })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_of_credentials_are_read() {
        let json = br#"{"auths": {"r.example": {"auth": "dTpwOnE="}, "s.example": {"username": "a", "password": "b"}, "bad": {}}}"#;
        let found = credentials(&Data::from([(".dockerconfigjson".into(), json.to_vec())]));
        let lines: Vec<String> =
            found.iter().map(|c| format!("{} {} {}", c.registry, c.username, c.password)).collect();
        assert_eq!(lines, ["r.example u p:q", "s.example a b"]);
        assert!(credentials(&Data::new()).is_empty());
        assert!(credentials(&Data::from([(".dockerconfigjson".into(), b"{".to_vec())])).is_empty());
    }
}
