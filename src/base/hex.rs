//! Lowercase hexadecimal encoding.

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Appends `bytes` to `text` in hexadecimal.
pub fn push(text: &mut String, bytes: &[u8]) {
    let digit = |half: u8| DIGITS.get(usize::from(half)).copied().map_or('0', char::from);
    for byte in bytes {
        text.extend([digit(byte >> 4), digit(byte & 15)]);
    }
}

/// Encodes `bytes`.
pub fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    push(&mut text, bytes);
    text
}

/// Decodes exactly `N` bytes. Upper case is rejected, so that each value has one spelling.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != N * 2 {
        return None;
    }
    let half = |digit: u8| DIGITS.iter().position(|known| *known == digit).and_then(|value| u8::try_from(value).ok());
    for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let [high, low] = digits else { return None };
        *byte = half(*high)? << 4 | half(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_other_spellings_are_rejected() {
        assert_eq!(encode(&[0, 0xab, 255]), "00abff");
        assert_eq!(decode("00abff"), Some([0, 0xab, 255]));
        for text in ["00ABFF", "0abff", "00abff0", "+0abff", "é0abf", ""] {
            assert_eq!(decode::<3>(text), None, "{text}");
        }
    }
}
