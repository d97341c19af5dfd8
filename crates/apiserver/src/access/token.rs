//! Signed tokens (JWT, RFC 7519) of the cluster's one key: ECDSA over P-256, `ES256`.
//!
//! A token names no algorithm that would be believed: whatever its header says, its signature must be
//! one of this key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// What stands before a point of P-256 in a `SubjectPublicKeyInfo`.
const SPKI_HEAD: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// Why a key or a signature could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("the service account key is no private key of P-256 in PKCS #8 PEM: {0}")]
    Unusable(String),
    #[error("a token could not be signed")]
    Signing,
}

/// Signs and checks tokens.
pub struct Key {
    pair: EcdsaKeyPair,
    random: SystemRandom,
    id: String,
}

impl Key {
    pub fn from_pem(pem: &str) -> Result<Self, KeyError> {
        let unusable = |e: &dyn std::fmt::Display| KeyError::Unusable(e.to_string());
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem.as_bytes()).map_err(|e| unusable(&e))?;
        let random = SystemRandom::new();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der(), &random)
                .map_err(|e| unusable(&e))?;
        let spki = [&SPKI_HEAD, pair.public_key().as_ref()].concat();
        Ok(Self { id: URL_SAFE_NO_PAD.encode(Sha256::digest(spki)), pair, random })
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> Result<String, KeyError> {
        let header = json!({"alg": "ES256", "kid": self.id}).to_string();
        let signed = [header, claims.to_string()].map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let signature = self.pair.sign(&self.random, signed.as_bytes()).map_err(|_| KeyError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    /// Whether the token was signed by this key.
    pub fn verifies(&self, token: &str) -> bool {
        let Some((signed, signature)) = token.rsplit_once('.') else { return false };
        let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, self.pair.public_key().as_ref())
            .verify(signed.as_bytes(), &signature)
            .is_ok()
    }

    /// The public half, as a JSON Web Key Set (RFC 7517).
    pub fn jwks(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        let (x, y) = (&point[1..33], &point[33..]);
        json!({"keys": [{
            "use": "sig", "kty": "EC", "kid": self.id, "crv": "P-256", "alg": "ES256",
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }]})
    }
}

/// The claims of a token, not checked; `None` if it is no token at all.
pub fn claims(token: &str) -> Option<Value> {
    let mut parts = token.split('.');
    let (_, payload, _) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.is_object().then_some(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        Key::from_pem(&rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap()
    }

    #[test]
    fn a_token_is_good_for_its_key_alone_and_only_as_it_was_signed() {
        let (ours, theirs) = (key(), key());
        let token = ours.sign(&json!({"sub": "robot"})).unwrap();
        assert!(ours.verifies(&token) && !theirs.verifies(&token));
        assert_eq!(claims(&token).unwrap(), json!({"sub": "robot"}));
        let parts: Vec<&str> = token.split('.').collect();
        let other = URL_SAFE_NO_PAD.encode(json!({"sub": "admin"}).to_string());
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
        for forged in [
            [parts[0], &other, parts[2]].join("."),
            [&unsigned, parts[1], ""].join("."),
            [&unsigned, parts[1], parts[2]].join("."),
            [parts[0], parts[1]].join("."),
            String::new(),
            "...".into(),
        ] {
            assert!(!ours.verifies(&forged), "{forged}");
        }
        assert_eq!((claims("x.y"), claims("a.b.c.d"), claims("..")), (None, None, None));
    }

    #[test]
    fn the_published_key_is_the_one_that_signs() {
        let key = key();
        let set = key.jwks();
        let token = key.sign(&json!({})).unwrap();
        let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!((&header["kid"], &header["alg"]), (&set["keys"][0]["kid"], &json!("ES256")));
        let coordinate = |c: &str| URL_SAFE_NO_PAD.decode(set["keys"][0][c].as_str().unwrap()).unwrap();
        assert_eq!([vec![4], coordinate("x"), coordinate("y")].concat(), key.pair.public_key().as_ref());
        assert!(Key::from_pem("nothing").is_err());
    }
}
