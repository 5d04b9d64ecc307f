//! Checks that a text is standard padded base64 and spells it as Go's encoder would.
//!
//! It is here so that byte fields are checked in place, without decoding megabytes of secrets into a buffer.

/// The position of the first byte that is not base64, as Go's decoder reports it; otherwise whether the text holds
/// line breaks, which the decoder skips and the encoder would not write.
pub(super) fn check(text: &str) -> Result<bool, usize> {
    let bytes = text.as_bytes();
    let mut breaks = false;
    let mut count = 0usize;
    let mut padding = 0usize;
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'\r' | b'\n' => breaks = true,
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' if padding == 0 => count += 1,
            // Padding may only close a group that has two or three characters.
            b'=' if padding == 0 && count % 4 >= 2 => padding = 1,
            b'=' if padding == 1 && count % 4 == 2 => padding = 2,
            _ => return Err(index),
        }
    }
    if !(count + padding).is_multiple_of(4) {
        return Err(bytes.len() - (count + padding) % 4);
    }
    Ok(breaks)
}

#[cfg(test)]
mod tests {
    use super::check;

    #[test]
    fn positions() {
        for (text, expect) in [
            ("", Ok(false)),
            ("YQ==", Ok(false)),
            ("YWI=", Ok(false)),
            ("YWJj", Ok(false)),
            ("YW\nJj\n", Ok(true)),
            ("YQ=", Err(0)),
            ("hello world", Err(5)),
            ("YQ==YQ==", Err(4)),
            ("=", Err(0)),
        ] {
            assert_eq!(check(text), expect, "{text:?}");
        }
    }
}
