//! The id by which a request is found again in the log, the answer and the plugin.

use crate::headers::X_REQUEST_ID;
use http::HeaderValue;
use std::cell::Cell;

/// Characters of an id that is taken over from a client.
const LONGEST: usize = 128;

thread_local! {
    static STATE: Cell<u64> = Cell::new(rand::random::<u64>() | 1);
}

/// Takes over the client's id if it is harmless, else makes one.
pub(super) fn of(headers: &http::HeaderMap) -> HeaderValue {
    match headers.get(&X_REQUEST_ID) {
        Some(id) if is_harmless(id.as_bytes()) => id.clone(),
        _ => fresh(),
    }
}

/// What may stand in a log line and a header without quoting.
fn is_harmless(id: &[u8]) -> bool {
    !id.is_empty()
        && id.len() <= LONGEST
        && id.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b':'))
}

/// Sixteen hexadecimal digits: unique enough to search for, not a secret.
fn fresh() -> HeaderValue {
    let number = STATE.with(|state| {
        // xorshift64*: one multiplication, and no two alike for longer than the house will stand.
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        x.wrapping_mul(0x2545_F491_4F6C_DD1D)
    });
    let mut digits = [0; 16];
    // Sixteen digits for eight bytes: it can't fail.
    _ = hex::encode_to_slice(number.to_be_bytes(), &mut digits);
    HeaderValue::from_bytes(&digits).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_harmless_id_is_taken_over_and_any_other_replaced() {
        let mut headers = http::HeaderMap::new();
        headers.insert(X_REQUEST_ID, HeaderValue::from_static("trace-1.2:3_4"));
        assert_eq!(of(&headers), "trace-1.2:3_4");
        for bad in ["", "a b", "a\"b", &"x".repeat(129)] {
            headers.insert(X_REQUEST_ID, HeaderValue::from_str(bad).unwrap());
            let id = of(&headers);
            assert_ne!(id, bad);
            assert_eq!(id.len(), 16);
        }
    }

    #[test]
    fn fresh_ids_differ() {
        assert_ne!(fresh(), fresh());
    }
}
