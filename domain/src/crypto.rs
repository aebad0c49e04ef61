//! Keyczar-compatible encryption of secrets (spec/datastore.md §3).

use aes::Aes256;
use aes::cipher::{BlockDecryptMut, BlockEncryptMut, KeyIvInit, block_padding::Pkcs7};
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha1::Sha1;

const HEADER: &[u8; 5] = b"00000";
const IV_SIZE: usize = 16;
const SIGNATURE_SIZE: usize = 20;

/// URL-safe, with or without padding.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_encode_padding(false).with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A symmetric key with its HMAC key.
pub struct Crypto {
    aes_key: Vec<u8>,
    hmac_key: Vec<u8>,
}

impl std::fmt::Debug for Crypto {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Crypto")
    }
}

/// The key file or a ciphertext is not what it should be; the text never holds key or plaintext.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CryptoError(pub String);

fn error(text: &str) -> CryptoError {
    CryptoError(text.to_owned())
}

impl Crypto {
    /// Reads the JSON of a key file.
    pub fn from_key_file(text: &str) -> Result<Self, CryptoError> {
        let file: Value = serde_json::from_str(text).map_err(|_| error("the key file is not JSON"))?;
        if file.get("mode").and_then(Value::as_str).is_some_and(|mode| mode != "CBC") {
            return Err(error("the key file's mode is not CBC"));
        }
        let key = |path: &str| {
            let text = file.pointer(path).and_then(Value::as_str);
            let text: String = text.unwrap_or_default().split_whitespace().collect();
            let bytes =
                BASE64.decode(text).map_err(|_| CryptoError(format!("{path} of the key file is not base64")))?;
            if bytes.len() < 16 { Err(CryptoError(format!("{path} of the key file is too short"))) } else { Ok(bytes) }
        };
        let aes_key = key("/aesKeyString")?;
        if !matches!(aes_key.len(), 16 | 24 | 32) {
            return Err(error("the AES key is not of 128, 192 or 256 bits"));
        }
        Ok(Self { aes_key, hmac_key: key("/hmacKey/hmacKeyString")? })
    }

    /// A new 256-bit key as the JSON of a key file.
    pub fn generate_key_file() -> String {
        let key = || BASE64.encode(rand::random::<[u8; 32]>());
        json!({
            "hmacKey": {"hmacKeyString": key(), "size": 256},
            "aesKeyString": key(),
            "mode": "CBC",
            "size": 256,
        })
        .to_string()
    }

    /// Upper-case hex of header, IV, ciphertext and signature.
    pub fn encrypt(&self, plaintext: &str) -> Result<String, CryptoError> {
        self.encrypt_with(plaintext, rand::random())
    }

    fn encrypt_with(&self, plaintext: &str, iv: [u8; IV_SIZE]) -> Result<String, CryptoError> {
        let plaintext = plaintext.as_bytes();
        let bad_key = |_| error("the AES key has a wrong size");
        let ciphertext = match self.aes_key.len() {
            16 => cbc::Encryptor::<aes::Aes128>::new_from_slices(&self.aes_key, &iv)
                .map_err(bad_key)?
                .encrypt_padded_vec_mut::<Pkcs7>(plaintext),
            24 => cbc::Encryptor::<aes::Aes192>::new_from_slices(&self.aes_key, &iv)
                .map_err(bad_key)?
                .encrypt_padded_vec_mut::<Pkcs7>(plaintext),
            _ => cbc::Encryptor::<Aes256>::new_from_slices(&self.aes_key, &iv)
                .map_err(bad_key)?
                .encrypt_padded_vec_mut::<Pkcs7>(plaintext),
        };
        let mut message = HEADER.to_vec();
        message.extend(iv);
        message.extend(ciphertext);
        let signature = self.mac(&message)?.finalize().into_bytes();
        message.extend(signature);
        Ok(message.iter().map(|byte| format!("{byte:02X}")).collect())
    }

    /// Verifies the signature first.
    pub fn decrypt(&self, ciphertext: &str) -> Result<String, CryptoError> {
        let raw = from_hex(ciphertext).ok_or_else(|| error("Invalid or malformed ciphertext (not hexadecimal)"))?;
        if raw.len() < HEADER.len() + IV_SIZE + SIGNATURE_SIZE + 16 {
            return Err(error("Invalid or malformed ciphertext (too short)"));
        }
        let (message, signature) = raw.split_at(raw.len() - SIGNATURE_SIZE);
        let mac = self.mac(message)?;
        mac.verify_slice(signature).map_err(|_| error("Signature did not match digest."))?;
        let (iv, body) = message[HEADER.len()..].split_at(IV_SIZE);
        let bad = |_| error("Invalid or malformed ciphertext");
        let bad_pad = |_| error("Invalid or malformed ciphertext");
        let plain = match self.aes_key.len() {
            16 => cbc::Decryptor::<aes::Aes128>::new_from_slices(&self.aes_key, iv)
                .map_err(bad)?
                .decrypt_padded_vec_mut::<Pkcs7>(body)
                .map_err(bad_pad)?,
            24 => cbc::Decryptor::<aes::Aes192>::new_from_slices(&self.aes_key, iv)
                .map_err(bad)?
                .decrypt_padded_vec_mut::<Pkcs7>(body)
                .map_err(bad_pad)?,
            _ => cbc::Decryptor::<Aes256>::new_from_slices(&self.aes_key, iv)
                .map_err(bad)?
                .decrypt_padded_vec_mut::<Pkcs7>(body)
                .map_err(bad_pad)?,
        };
        String::from_utf8(plain).map_err(|_| error("the plaintext is not UTF-8"))
    }

    fn mac(&self, message: &[u8]) -> Result<Hmac<Sha1>, CryptoError> {
        let mut mac = Hmac::<Sha1>::new_from_slice(&self.hmac_key).map_err(|_| error("the HMAC key is unusable"))?;
        mac.update(message);
        Ok(mac)
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        text.trim().bytes().map(|c| char::from(c).to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = r#"{"hmacKey":{"hmacKeyString":"ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8","size":256},
        "aesKeyString":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8","mode":"CBC","size":256}"#;

    #[test]
    fn vectors() {
        let crypto = Crypto::from_key_file(KEY).unwrap();
        let iv: [u8; 16] = std::array::from_fn(|i| 0x40 + i as u8);
        for (plain, stored) in [
            (
                "foobar",
                "3030303030404142434445464748494A4B4C4D4E4FA5D6F4C299B54930F2633879C97A8739FA95FACB517BA573FAF90CEB52DA60FA9B998218",
            ),
            (
                "",
                "3030303030404142434445464748494A4B4C4D4E4F974B412738E50F45C7F9DB25413F274B06E5907F98361D7D4A4A8AAFC04C7839CE702A88",
            ),
            (
                "0123456789abcdef",
                "3030303030404142434445464748494A4B4C4D4E4F8A61197AED35E47583ABCB122F15A14EBB0D94AEA1550FE42B3EDBA63BC2DA8B5E4DD773032ECAF40F902422A15E90EAD46ED793",
            ),
            (
                "žluťoučký",
                "3030303030404142434445464748494A4B4C4D4E4F37B461D2610472857CB644CD8D1319BC6087F1E26285EC769676809B9F8AAF01FDEF9CBE",
            ),
        ] {
            assert_eq!(crypto.encrypt_with(plain, iv).unwrap(), stored);
            assert_eq!(crypto.decrypt(stored).unwrap(), plain);
            assert_eq!(crypto.decrypt(&stored.to_lowercase()).unwrap(), plain);
        }
    }

    #[test]
    fn generated_keys_work_and_tampering_is_noticed() {
        let crypto = Crypto::from_key_file(&Crypto::generate_key_file()).unwrap();
        let secret = crypto.encrypt("hunter2").unwrap();
        assert_eq!(crypto.decrypt(&secret).unwrap(), "hunter2");
        let last = if secret.ends_with('0') { "1" } else { "0" };
        let tampered = format!("{}{last}", &secret[..secret.len() - 1]);
        assert!(crypto.decrypt(&tampered).is_err());
        assert!(crypto.decrypt("00").is_err());
        assert!(crypto.decrypt("zz").is_err());
    }
}
