//! The short hash by which releases and sessions are known to their clients.
//!
//! Eight letters and digits with less than 31 bits in them: a name, not a proof. It is what clients of the
//! original compute too, so it can't be changed.

use md5::{Digest, Md5};

const DIGITS: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

/// The short hash of a text.
#[must_use]
pub fn short_hash(text: &str) -> String {
    let text = if text.is_empty() { "empty" } else { text };
    let hex = format!("{:032x}", u128::from_be_bytes(Md5::digest(text.as_bytes()).into()));
    let hash =
        hex.bytes().fold(0_i32, |hash, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte)));
    let folded = (((hash as u32) >> 1) & 0x4000_0000) | ((hash as u32) & 0xBFFF_FFFF);
    // As a signed number, and then made positive.
    let mut number = folded & 0x7FFF_FFFF;
    let mut digits = Vec::new();
    loop {
        digits.extend(DIGITS.get((number % 62) as usize).map(|digit| char::from(*digit)));
        number /= 62;
        if number == 0 {
            break;
        }
    }
    digits.reverse();
    if digits.first().is_some_and(char::is_ascii_digit) {
        digits.insert(0, 'a');
    }
    let (letters, numbers): (String, String) =
        digits.into_iter().fold(Default::default(), |(mut letters, mut numbers), digit| {
            if digit.is_ascii_digit() {
                numbers.push(digit)
            } else {
                letters.push(digit)
            }
            (letters, numbers)
        });
    let mut name = letters + &numbers;
    while name.len() < 8 {
        name = name.repeat(2);
    }
    name.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_hold() {
        for (text, hash) in [
            ("", "hBrU6hBr"),
            ("a", "GKsk8GKs"),
            ("hello world", "cgkAA7cg"),
            ("mock code", "botS80bo"),
            ("const a = 1;", "TIpH8TIp"),
            ("<div></div>", "byaU16by"),
            ("héllo ✓", "bamcoKba"),
        ] {
            assert_eq!(short_hash(text), hash, "{text:?}");
        }
    }
}
