//! Keyczar-compatible encryption of secrets (spec/model.md §5.2).

/// A symmetric key with its HMAC key.
pub struct Crypto {}

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crypto")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub String);

impl Crypto {
    /// Reads the JSON of a key file.
    pub fn from_key_file(text: &str) -> Result<Self, CryptoError> {
        let _ = text;
        Err(CryptoError(String::new()))
    }

    /// A new key as the JSON of a key file.
    pub fn generate_key_file() -> String {
        String::new()
    }

    /// Upper-case hex of header, IV, ciphertext and signature.
    pub fn encrypt(&self, plaintext: &str) -> String {
        plaintext.to_owned()
    }

    /// Verifies the signature first.
    pub fn decrypt(&self, ciphertext: &str) -> Result<String, CryptoError> {
        Ok(ciphertext.to_owned())
    }
}
