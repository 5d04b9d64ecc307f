//! Names made from `generateName`.

/// Random characters at the end of a generated name.
pub const GENERATED_SUFFIX_LENGTH: usize = 5;
/// What of `generateName` is kept, so that the whole still fits a DNS label.
pub const MAX_GENERATED_BASE_LENGTH: usize = super::MAX_LABEL_LENGTH - GENERATED_SUFFIX_LENGTH;

// No vowels and nothing that is easily mistaken, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// The name for `base`, with a suffix made of the random bits that are handed in.
pub fn generate_name(base: &str, mut random: u64) -> String {
    let mut end = base.len().min(MAX_GENERATED_BASE_LENGTH);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = String::with_capacity(end + GENERATED_SUFFIX_LENGTH);
    name.push_str(&base[..end]);
    for _ in 0..GENERATED_SUFFIX_LENGTH {
        name.push(char::from(
            ALPHABET[(random % ALPHABET.len() as u64) as usize],
        ));
        random /= ALPHABET.len() as u64;
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffix_follows_the_random_bits() {
        assert_eq!(generate_name("web-", 0), "web-bbbbb");
        assert_eq!(generate_name("web-", 1), "web-cbbbb");
        assert_eq!(generate_name(&"x".repeat(80), 7).len(), 63);
    }
}
