//! What a login by NTLM leaves behind: keys that seal and sign the messages of one connection (MS-NLMP §3.4), and the
//! MIME form in which WinRM sends them (MS-WSMV §2.2.9.1).

use hmac::{Hmac, Mac};
use md5::{Digest, Md5};
use rc4::consts::U16;
use rc4::{Key, KeyInit, Rc4, StreamCipher};
use subtle::ConstantTimeEq;

const BOUNDARY: &str = "Encrypted Boundary";
const PROTOCOL: &str = "application/HTTP-SPNEGO-session-encrypted";
const OCTETS: &[u8] = b"application/octet-stream\r\n";
const PLAIN_TYPE: &str = "application/soap+xml;charset=UTF-8";

/// Bytes of a signature: version, checksum, sequence number.
const SIGNATURE: usize = 16;

/// Why an answer can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    #[error("the host's answer is not encrypted, though it should be")]
    NotSealed,
    #[error("the signature of the host's answer is wrong")]
    Signature,
}

/// One direction.
struct Stream {
    sign: [u8; 16],
    seal: Rc4<U16>,
    sequence: u32,
}

/// Both directions of one connection. Messages must be sealed in the order in which they are sent.
pub struct Sealing {
    ours: Stream,
    theirs: Stream,
}

impl std::fmt::Debug for Sealing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealing").field("sequence", &self.ours.sequence).finish_non_exhaustive()
    }
}

impl Stream {
    fn new(session_key: &[u8; 16], direction: &str) -> Self {
        let key = |purpose: &str| -> [u8; 16] {
            let magic = format!("session key to {direction} {purpose} key magic constant\0");
            Md5::new().chain_update(session_key).chain_update(magic).finalize().into()
        };
        Self { sign: key("signing"), seal: rc4(&key("sealing")), sequence: 0 }
    }

    fn checksum(&mut self, message: &[u8]) -> [u8; SIGNATURE] {
        let sequence = self.sequence.to_le_bytes();
        self.sequence = self.sequence.wrapping_add(1);
        let digest = hmac_md5(&self.sign, &[&sequence, message]);
        let mut signature = [0; SIGNATURE];
        signature[0] = 1;
        signature[4..12].copy_from_slice(&digest[..8]);
        self.seal.apply_keystream(&mut signature[4..12]);
        signature[12..].copy_from_slice(&sequence);
        signature
    }

    fn seal(&mut self, message: &[u8]) -> ([u8; SIGNATURE], Vec<u8>) {
        let mut sealed = message.to_vec();
        self.seal.apply_keystream(&mut sealed);
        (self.checksum(message), sealed)
    }

    fn open(&mut self, signature: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut message = sealed.to_vec();
        self.seal.apply_keystream(&mut message);
        let is_right = self.checksum(&message).ct_eq(signature);
        if is_right.into() { Ok(message) } else { Err(SealError::Signature) }
    }
}

impl Sealing {
    /// `session_key`: the key that the third message of the login has exported.
    pub fn of_client(session_key: &[u8; 16]) -> Self {
        Self {
            ours: Stream::new(session_key, "client-to-server"),
            theirs: Stream::new(session_key, "server-to-client"),
        }
    }

    /// `Content-Type` and body of a request.
    pub fn request(&mut self, text: &str) -> (String, Vec<u8>) {
        let (signature, sealed) = self.ours.seal(text.as_bytes());
        let mut body = format!(
            "--{BOUNDARY}\r\n\tContent-Type: {PROTOCOL}\r\n\tOriginalContent: type={PLAIN_TYPE};Length={}\r\n\
             --{BOUNDARY}\r\n\tContent-Type: application/octet-stream\r\n",
            text.len()
        )
        .into_bytes();
        body.extend(16_u32.to_le_bytes());
        body.extend(signature);
        body.extend(sealed);
        body.extend(format!("--{BOUNDARY}--\r\n").bytes());
        (format!("multipart/encrypted;protocol=\"{PROTOCOL}\";boundary=\"{BOUNDARY}\""), body)
    }

    /// The text in the body of an answer.
    pub fn answer(&mut self, body: &[u8]) -> Result<Vec<u8>, SealError> {
        let at = body.windows(OCTETS.len()).position(|part| part == OCTETS).ok_or(SealError::NotSealed)?;
        let (head, payload) = (&body[..at], &body[at + OCTETS.len()..]);
        let length = declared_length(head).ok_or(SealError::NotSealed)?;
        let (prefix, rest) = payload.split_first_chunk::<4>().ok_or(SealError::NotSealed)?;
        if u32::from_le_bytes(*prefix) as usize != SIGNATURE || rest.len() < SIGNATURE {
            return Err(SealError::NotSealed);
        }
        let (signature, rest) = rest.split_at(SIGNATURE);
        self.theirs.open(signature, rest.get(..length).ok_or(SealError::NotSealed)?)
    }
}

/// The `Length=` of `OriginalContent`: sealing doesn't change it.
fn declared_length(head: &[u8]) -> Option<usize> {
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let (_, rest) = head.split_once("originalcontent:")?;
    let (_, rest) = rest.split_once("length=")?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

pub fn rc4(key: &[u8; 16]) -> Rc4<U16> {
    Rc4::new(Key::<U16>::from_slice(key))
}

pub fn hmac_md5(key: &[u8], parts: &[&[u8]]) -> [u8; 16] {
    // Keys of any length are taken.
    let Ok(mut mac) = <Hmac<Md5> as Mac>::new_from_slice(key) else { return [0; 16] };
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// MS-NLMP §4.2.4.4.
    #[test]
    fn the_published_example_is_sealed() {
        let mut sealing = Sealing::of_client(&[0x55; 16]);
        assert_eq!(hex(&sealing.ours.sign), "4788dc861b4782f35d43fd98fe1a2d39");
        let text: Vec<u8> = "Plaintext".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let (signature, sealed) = sealing.ours.seal(&text);
        assert_eq!(hex(&sealed), "54e50165bf1936dc996020c1811b0f06fb5f");
        assert_eq!(hex(&signature), "010000007fb38ec5c55d497600000000");
    }

    #[test]
    fn answers_are_opened_and_checked() {
        let host = || Sealing { ours: Stream::new(&[7; 16], "server-to-client"), ..Sealing::of_client(&[7; 16]) };
        let body = host().request("<a>--Encrypted Boundary--é</a>").1;
        let text = Sealing::of_client(&[7; 16]).answer(&body).unwrap();
        assert_eq!(text, "<a>--Encrypted Boundary--é</a>".as_bytes());
        assert_eq!(Sealing::of_client(&[8; 16]).answer(&body), Err(SealError::Signature));
        assert_eq!(Sealing::of_client(&[7; 16]).answer(b"<plain/>"), Err(SealError::NotSealed));
        let mut changed = body;
        let last = changed.len() - 30;
        changed[last] ^= 1;
        assert_eq!(Sealing::of_client(&[7; 16]).answer(&changed), Err(SealError::Signature));
    }
}
