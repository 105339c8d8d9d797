//! Hashes that name things: fingerprints of programs, names of interfaces, MAC addresses.

use sha2::{Digest as _, Sha256};
use topology_schema::MacAddr;

/// A hash over a sequence of fields. Fields are delimited: `ab`, `c` differs from `a`, `bc`.
pub struct Digest(Sha256);

impl Digest {
    /// Over nothing yet.
    pub fn new() -> Self {
        Self(Sha256::new())
    }

    /// Over text fields.
    pub fn of(fields: &[&str]) -> Self {
        let mut digest = Self::new();
        for field in fields {
            digest.add(field.as_bytes());
        }
        digest
    }

    /// Adds a field.
    pub fn add(&mut self, field: &[u8]) {
        self.0.update((field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    /// The first `length` characters of the hash in lower-case base 32, five bits each; at most
    /// 32.
    pub fn text(self, length: usize) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
        self.0
            .finalize()
            .iter()
            .take(length)
            .map(|byte| char::from(ALPHABET[usize::from(byte & 31)]))
            .collect()
    }

    /// The first `length` hexadecimal digits of the hash; at most 64.
    pub fn hex(self, length: usize) -> String {
        let hash = self.0.finalize();
        let digits: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        digits.chars().take(length).collect()
    }

    /// The first 16 bits of the hash.
    pub fn word(self) -> u16 {
        let hash = self.0.finalize();
        u16::from_be_bytes([hash[0], hash[1]])
    }

    /// The first 32 bits of the hash.
    pub fn number(self) -> u32 {
        let hash = self.0.finalize();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }

    /// A locally administered unicast address (IEEE 802, 8.2).
    pub fn mac(self) -> MacAddr {
        let hash = self.0.finalize();
        MacAddr([0x02, hash[0], hash[1], hash[2], hash[3], hash[4]])
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}
