//! NTLM version 2, the client's side (MS-NLMP §3.1): who we are, and the key for [`super::sealing`].

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md4::{Digest, Md4};
use md5::Md5;
use rc4::StreamCipher;

use super::sealing::{hmac_md5, rc4};

const SIGNATURE: &[u8; 8] = b"NTLMSSP\0";

/// What is offered: Unicode, target name wanted, signing, sealing, NTLM, always sign, extended session security,
/// target information, version, 128 bit, key exchange, 56 bit.
const OFFERED: u32 = 0xe288_8235;

/// Extended session security, 128 bit, key exchange, sealing, signing: what messages are sealed with here.
const FOR_SEALING: u32 = 0x6008_0030;
const KEY_EXCHANGE: u32 = 0x4000_0000;

/// Length of the third message before its payload, and where its integrity code stands.
const HEADER: usize = 88;
const INTEGRITY: std::ops::Range<usize> = 72..88;

/// Product 10.0, revision 15 of the protocol.
const VERSION: [u8; 8] = [10, 0, 0, 0, 0, 0, 0, 15];

/// Ids among a target's information.
const END: u16 = 0;
const FLAGS: u16 = 6;
const TIME: u16 = 7;
const CHANNEL: u16 = 10;

/// In [`FLAGS`]: the third message has an integrity code.
const HAS_INTEGRITY: u32 = 2;

/// Who logs in.
pub struct Account<'a> {
    pub user: &'a str,
    pub domain: &'a str,
    pub password: &'a str,
}

impl<'a> Account<'a> {
    /// `DOMAIN\user`; other names go as they are.
    pub fn new(name: &'a str, password: &'a str) -> Self {
        let (domain, user) = name.split_once('\\').unwrap_or(("", name));
        Self { user, domain, password }
    }
}

/// What is random or from outside in the third message.
#[derive(Debug, Clone, Copy)]
pub struct Fresh {
    pub nonce: [u8; 8],
    pub session_key: [u8; 16],
    /// 100 ns since 1601; gives way to the host's own.
    pub time: u64,
}

/// What the host asks with its second message.
#[derive(Debug, PartialEq, Eq)]
pub struct Challenge {
    nonce: [u8; 8],
    flags: u32,
    target: Vec<u8>,
    whole: Vec<u8>,
}

/// The third message.
#[derive(Debug)]
pub struct Login {
    pub message: String,
    /// The key to seal with; none if the host does not agree to what that takes.
    pub session_key: Option<[u8; 16]>,
}

fn first_message() -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(1_u32.to_le_bytes());
    message.extend(OFFERED.to_le_bytes());
    message.extend([0; 16]);
    message.extend(VERSION);
    message
}

/// The first message.
pub fn negotiate() -> String {
    STANDARD.encode(first_message())
}

impl Challenge {
    /// Reads the second message.
    pub fn parse(text: &str) -> Option<Self> {
        let message = STANDARD.decode(text.trim()).ok()?;
        if message.get(..8)? != SIGNATURE || u32_at(&message, 8)? != 2 {
            return None;
        }
        let flags = u32_at(&message, 20)?;
        let nonce = message.get(24..32)?.try_into().ok()?;
        let length = usize::from(u16_at(&message, 40)?);
        let offset = usize::try_from(u32_at(&message, 44)?).ok()?;
        let target = message.get(offset..offset.checked_add(length)?)?.to_vec();
        Some(Self { nonce, flags, target, whole: message })
    }

    /// The third message. `channel`: the bindings of the TLS connection below, hashed ([`channel_hash`]).
    pub fn answer(&self, account: &Account<'_>, fresh: &Fresh, channel: Option<[u8; 16]>) -> Login {
        let key = key_of(account);
        let host_time = self.information().find(|(id, _)| *id == TIME).and_then(|(_, value)| value.try_into().ok());
        let time = host_time.unwrap_or_else(|| fresh.time.to_le_bytes());
        let mut rest = vec![1, 1, 0, 0, 0, 0, 0, 0];
        rest.extend(time);
        rest.extend(fresh.nonce);
        rest.extend([0; 4]);
        rest.extend(self.our_information(host_time.is_some(), channel));
        rest.extend([0; 4]);
        let proof = hmac_md5(&key, &[&self.nonce, &rest]);
        let short = if host_time.is_some() {
            vec![0; 24]
        } else {
            [&hmac_md5(&key, &[&self.nonce, &fresh.nonce])[..], &fresh.nonce].concat()
        };
        let base_key = hmac_md5(&key, &[&proof]);
        let flags = OFFERED & self.flags;
        let exchanges = flags & KEY_EXCHANGE != 0;
        let session_key = if exchanges { fresh.session_key } else { base_key };
        let mut sent_key = if exchanges { session_key.to_vec() } else { Vec::new() };
        rc4(&base_key).apply_keystream(&mut sent_key);
        let response = [&proof[..], &rest].concat();
        let names = [utf16(account.domain), utf16(account.user), Vec::new()];
        let [domain, user, workstation] = names;
        let mut third = message(flags, &[short, response, domain, user, workstation, sent_key]);
        if host_time.is_some() {
            let code = hmac_md5(&session_key, &[&first_message(), &self.whole, &third]);
            third[INTEGRITY].copy_from_slice(&code);
        }
        let may_seal = flags & FOR_SEALING == FOR_SEALING;
        Login { message: STANDARD.encode(third), session_key: may_seal.then_some(session_key) }
    }

    /// The host's information, and what we add to it.
    fn our_information(&self, integrity: bool, channel: Option<[u8; 16]>) -> Vec<u8> {
        if !integrity && channel.is_none() {
            return self.target.clone();
        }
        let mut flags = HAS_INTEGRITY * u32::from(integrity);
        let mut pairs = Vec::new();
        let mut add = |id: u16, value: &[u8]| {
            pairs.extend(id.to_le_bytes());
            // Copied values came with a length of two bytes; our own are shorter.
            pairs.extend((value.len() as u16).to_le_bytes());
            pairs.extend(value);
        };
        for (id, value) in self.information() {
            match id {
                FLAGS => flags |= u32_at(value, 0).unwrap_or(0),
                CHANNEL => {}
                _ => add(id, value),
            }
        }
        if flags != 0 {
            add(FLAGS, &flags.to_le_bytes());
        }
        if let Some(channel) = channel {
            add(CHANNEL, &channel);
        }
        add(END, &[]);
        pairs
    }

    fn information(&self) -> impl Iterator<Item = (u16, &[u8])> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let (id, length) = (u16_at(&self.target, at)?, usize::from(u16_at(&self.target, at + 2)?));
            let value = self.target.get(at + 4..at + 4 + length)?;
            at += 4 + length;
            (id != END).then_some((id, value))
        })
    }
}

/// Hash of the bindings to a TLS server's certificate (RFC 5929 §4); `digest`: of the certificate.
pub fn channel_hash(digest: &[u8]) -> [u8; 16] {
    let data = [b"tls-server-end-point:", digest].concat();
    // Initiator and acceptor have no address: type and length of both are zero.
    let length = u32::try_from(data.len()).unwrap_or(u32::MAX).to_le_bytes();
    Md5::new().chain_update([0; 16]).chain_update(length).chain_update(data).finalize().into()
}

/// LM and NT response, domain, user, workstation, session key.
fn message(flags: u32, parts: &[Vec<u8>; 6]) -> Vec<u8> {
    let mut message = SIGNATURE.to_vec();
    message.extend(3_u32.to_le_bytes());
    let mut offset = HEADER;
    for part in parts {
        // Names and challenges are far below 64 KiB; a longer one would be refused by the host.
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        message.extend(length.to_le_bytes());
        message.extend(length.to_le_bytes());
        message.extend(u32::try_from(offset).unwrap_or(u32::MAX).to_le_bytes());
        offset += part.len();
    }
    message.extend(flags.to_le_bytes());
    message.extend(VERSION);
    message.extend([0; INTEGRITY.end - INTEGRITY.start]);
    message.extend(parts.concat());
    message
}

fn key_of(account: &Account<'_>) -> [u8; 16] {
    let hash = Md4::digest(utf16(account.password));
    hmac_md5(&hash, &[&utf16(&account.user.to_uppercase()), &utf16(account.domain)])
}

pub fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn part(message: &[u8], field: usize) -> &[u8] {
        let length = usize::from(u16_at(message, 12 + field * 8).unwrap());
        let at = u32_at(message, 16 + field * 8).unwrap() as usize;
        &message[at..at + length]
    }

    /// The worked example of MS-NLMP §4.2.4.
    #[test]
    fn the_published_example() {
        let account = Account::new("Domain\\User", "Password");
        assert_eq!(hex(&key_of(&account)), "0c868a403bfd7a93a3001ef22ef02e3f");
        let mut target = Vec::new();
        for (id, name) in [(2_u16, "Domain"), (1, "Server")] {
            target.extend(id.to_le_bytes());
            target.extend(12_u16.to_le_bytes());
            target.extend(utf16(name));
        }
        target.extend([0; 4]);
        let nonce = [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let challenge = Challenge { nonce, flags: 0xe28a_8233, target, whole: Vec::new() };
        let fresh = Fresh { nonce: [0xaa; 8], session_key: [0x55; 16], time: 0 };
        let login = challenge.answer(&account, &fresh, None);
        assert_eq!(login.session_key, Some([0x55; 16]));
        let message = STANDARD.decode(login.message).unwrap();
        assert_eq!(hex(part(&message, 0)), "86c35097ac9cec102554764a57cccc19aaaaaaaaaaaaaaaa");
        assert_eq!(hex(&part(&message, 1)[..16]), "68cd0ab851e51c96aabc927bebef6a1c");
        assert_eq!(hex(part(&message, 5)), "c5dad2544fc9799094ce1ce90bc9d03e");
        assert_eq!((part(&message, 2), part(&message, 3)), (&utf16("Domain")[..], &utf16("User")[..]));
    }

    #[test]
    fn the_hosts_message_is_read() {
        let mut message = SIGNATURE.to_vec();
        message.extend(2_u32.to_le_bytes());
        message.extend([0; 8]);
        message.extend([5, 0, 0, 0]);
        message.extend([9; 8]);
        message.extend([0; 8]);
        message.extend([4, 0, 4, 0, 48, 0, 0, 0, 0, 0, 0, 0]);
        let parsed = Challenge::parse(&STANDARD.encode(&message)).unwrap();
        assert_eq!((parsed.nonce, parsed.flags, parsed.target), ([9; 8], 5, vec![0; 4]));
        assert!(Challenge::parse(&STANDARD.encode(&message[..50])).is_none());
        assert!(Challenge::parse("no base64!").is_none());
    }

    proptest::proptest! {
        /// Whatever a host sends, reading it ends, and so does answering.
        #[test]
        fn hostile_messages_are_harmless(tail in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let message = [&SIGNATURE[..], &2_u32.to_le_bytes(), &tail].concat();
            if let Some(challenge) = Challenge::parse(&STANDARD.encode(message)) {
                let fresh = Fresh { nonce: [1; 8], session_key: [2; 16], time: 3 };
                challenge.answer(&Account::new("u", "p"), &fresh, Some([4; 16]));
            }
        }
    }
}
