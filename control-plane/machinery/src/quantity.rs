//! Quantities (`500m`, `128Mi`, `1e3`): parsing, comparison and the canonical text, as Kubernetes' resource model has them.
//!
//! It is here because decoding canonicalises every quantity, and quota, limits and scheduling calculate with them.
//! It knows nothing of resource names.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

/// Why a text is no quantity; the texts are the API's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error(
        "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
    )]
    Format,
    #[error("unable to parse numeric part of quantity")]
    Numeric,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// Which family of suffixes a quantity was written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuantityFormat {
    DecimalSi,
    BinarySi,
    DecimalExponent,
}

/// A fixed-point number in billionths, and the format it is written in.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: QuantityFormat,
}

const NANO: i128 = 1_000_000_000;
/// The largest amount with a binary suffix, in billionths.
const MAX_BINARY: i128 = i64::MAX as i128 * NANO;
const DECIMAL: [(&str, i32); 10] = [
    ("n", -9),
    ("u", -6),
    ("m", -3),
    ("", 0),
    ("k", 3),
    ("M", 6),
    ("G", 9),
    ("T", 12),
    ("P", 15),
    ("E", 18),
];
const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];

/// A quantity's text taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point without leading zeros.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl Quantity {
    pub const ZERO: Quantity = Quantity {
        nanos: 0,
        format: QuantityFormat::DecimalSi,
    };

    /// Parses a quantity; amounts finer than a billionth are rounded away from zero, as upstream does.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        let parts = split(text)?;
        let (format, base, exponent) = interpret(parts.suffix)?;
        let mut digits: i128 = 0;
        for digit in parts.whole.bytes().chain(parts.fraction.bytes()) {
            digits = digits
                .saturating_mul(10)
                .saturating_add(i128::from(digit - b'0'));
        }
        let ten_exponent = 9 - parts.fraction.len() as i32 + if base == 10 { exponent } else { 0 };
        if base == 2 {
            digits = digits.saturating_mul(1 << exponent);
        }
        let mut nanos = scale(digits, ten_exponent);
        let mut format = format;
        if format == QuantityFormat::BinarySi {
            nanos = nanos.min(MAX_BINARY);
            if nanos > 0 && nanos < NANO {
                format = QuantityFormat::DecimalSi;
            }
        }
        if parts.negative {
            nanos = -nanos;
        }
        Ok(Quantity { nanos, format })
    }

    pub fn from_integer(value: i64, format: QuantityFormat) -> Quantity {
        Quantity {
            nanos: i128::from(value) * NANO,
            format,
        }
    }

    pub fn from_milli(value: i64, format: QuantityFormat) -> Quantity {
        Quantity {
            nanos: i128::from(value) * 1_000_000,
            format,
        }
    }

    /// Whole units, rounded up (upstream's `Value`).
    pub fn value(self) -> i64 {
        clamp(ceil_divide(self.nanos, NANO))
    }

    /// Thousandths, rounded up (upstream's `MilliValue`).
    pub fn milli_value(self) -> i64 {
        clamp(ceil_divide(self.nanos, 1_000_000))
    }

    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// -1, 0 or 1.
    pub fn sign(self) -> i32 {
        self.nanos.signum() as i32
    }

    pub fn format(self) -> QuantityFormat {
        self.format
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;

    /// The sum, in the format of the operand that is not zero, the left one before the right one.
    fn add(self, other: Quantity) -> Quantity {
        Quantity {
            nanos: self.nanos.saturating_add(other.nanos),
            format: if self.is_zero() {
                other.format
            } else {
                self.format
            },
        }
    }
}

impl std::ops::Sub for Quantity {
    type Output = Quantity;

    fn sub(self, other: Quantity) -> Quantity {
        Quantity {
            nanos: self.nanos.saturating_sub(other.nanos),
            format: if self.is_zero() {
                other.format
            } else {
                self.format
            },
        }
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Quantity) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Quantity) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Quantity) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical text: no fraction, the largest suffix that loses nothing.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return out.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * NANO;
        if self.format == QuantityFormat::BinarySi && !small && self.nanos % NANO == 0 {
            let mut value = self.nanos / NANO;
            let mut power = 0;
            while value % 1024 == 0 && power + 1 < BINARY.len() {
                value /= 1024;
                power += 1;
            }
            return write!(out, "{value}{}", BINARY[power]);
        }
        let mut value = self.nanos;
        let mut step = 0;
        // Exponents have no largest suffix, so they take every factor of a thousand.
        let limit = if self.format == QuantityFormat::DecimalExponent {
            13
        } else {
            DECIMAL.len()
        };
        while value % 1000 == 0 && step + 1 < limit {
            value /= 1000;
            step += 1;
        }
        match (self.format, step) {
            (QuantityFormat::DecimalExponent, 3) => write!(out, "{value}"),
            (QuantityFormat::DecimalExponent, _) => write!(out, "{value}e{}", step as i32 * 3 - 9),
            _ => write!(out, "{value}{}", DECIMAL[step].0),
        }
    }
}

/// The text that the API stores and returns for a quantity: the given one where it is canonical already.
pub fn canonical_quantity(text: &str) -> Result<Cow<'_, str>, QuantityError> {
    let trimmed = text.trim();
    if trimmed == "0" {
        return Ok(Cow::Borrowed(trimmed));
    }
    let quantity = Quantity::parse(trimmed)?;
    let parts = split(trimmed)?;
    // Upstream keeps the written text for small numbers that it takes to be canonical by these tests.
    let digits = parts.whole.len() + parts.fraction.len();
    let keep = !parts.whole.is_empty()
        && digits <= 15
        && match interpret(parts.suffix)? {
            (QuantityFormat::BinarySi, _, _) => {
                parts.fraction.is_empty()
                    && parts.whole.parse::<i64>().is_ok_and(|value| value & 7 != 0)
            }
            (_, _, exponent) => {
                let last = if parts.fraction.is_empty() {
                    parts.whole
                } else {
                    parts.fraction
                };
                (exponent - parts.fraction.len() as i32) % 3 == 0 && !last.ends_with("000")
            }
        };
    if keep {
        return Ok(Cow::Borrowed(trimmed));
    }
    Ok(Cow::Owned(quantity.to_string()))
}

fn split(text: &str) -> Result<Parts<'_>, QuantityError> {
    if text.is_empty() {
        return Err(QuantityError::Format);
    }
    let negative = text.starts_with('-');
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let unsigned = unsigned.trim_start_matches('0');
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, mut rest) = unsigned.split_at(digits(unsigned));
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        (fraction, rest) = after.split_at(digits(after));
    }
    let letters = rest
        .bytes()
        .take_while(|byte| b"eEinumkKMGTP".contains(byte))
        .count();
    let tail = &rest[letters..];
    let tail = tail.strip_prefix(['-', '+']).unwrap_or(tail);
    if digits(tail) != tail.len() {
        return Err(QuantityError::Format);
    }
    Ok(Parts {
        negative,
        whole,
        fraction,
        suffix: rest,
    })
}

fn interpret(suffix: &str) -> Result<(QuantityFormat, u32, i32), QuantityError> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Ok((QuantityFormat::DecimalSi, 10, *exponent));
    }
    if let Some(power) = BINARY.iter().position(|name| *name == suffix) {
        return Ok((QuantityFormat::BinarySi, 2, power as i32 * 10));
    }
    if suffix.len() > 1 && suffix.starts_with(['e', 'E']) {
        let exponent = suffix[1..]
            .parse::<i32>()
            .map_err(|_| QuantityError::Suffix)?;
        return Ok((QuantityFormat::DecimalExponent, 10, exponent));
    }
    Err(QuantityError::Suffix)
}

/// `digits` times ten to the `exponent`, rounded up, saturating.
fn scale(digits: i128, exponent: i32) -> i128 {
    if digits == 0 {
        return 0;
    }
    match u32::try_from(exponent) {
        Ok(exponent) => 10i128
            .checked_pow(exponent)
            .and_then(|factor| digits.checked_mul(factor))
            .unwrap_or(i128::MAX),
        Err(_) => match 10i128.checked_pow(exponent.unsigned_abs()) {
            Some(divisor) => ceil_divide(digits, divisor),
            None => 1,
        },
    }
}

/// Division that rounds away from zero for positive and toward zero for negative numbers, as a ceiling does.
fn ceil_divide(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn canonical_texts() {
        let table = [
            ("0", "0"),
            ("00", "0"),
            ("1000m", "1"),
            ("0.5", "500m"),
            ("500m", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024Mi", "1Gi"),
            ("128Mi", "128Mi"),
            ("1000Ki", "1000Ki"),
            ("1e3", "1e3"),
            ("1E", "1E"),
            ("1000000", "1M"),
            ("100", "100"),
            ("1.1i", "!suffix"),
            ("0.1Ki", "102400m"),
            ("0.5Ki", "512"),
            ("12e6", "12e6"),
            ("1200e5", "120e6"),
            ("-1000m", "-1"),
            ("0.0000000001", "1n"),
            ("512", "512"),
            ("abc", "!format"),
            ("", "!format"),
            ("1.5.5", "!format"),
            ("1Q", "!format"),
            ("1KK", "!suffix"),
            ("2048", "2048"),
            ("2048Ki", "2Mi"),
            ("9223372036854775807Ei", "9223372036854775807"),
        ];
        for (text, expect) in table {
            let found = match canonical_quantity(text) {
                Ok(text) => text.into_owned(),
                Err(QuantityError::Format) => "!format".into(),
                Err(QuantityError::Suffix) => "!suffix".into(),
                Err(QuantityError::Numeric) => "!numeric".into(),
            };
            assert_eq!(found, expect, "{text}");
        }
    }

    #[test]
    fn values_round_up() {
        let milli = |text| Quantity::parse(text).expect("valid").milli_value();
        assert_eq!(
            (milli("1.5"), milli("1u"), milli("-1500m")),
            (1500, 1, -1500)
        );
        assert_eq!(Quantity::parse("1m").expect("valid").value(), 1);
        assert_eq!(Quantity::parse("1Gi").expect("valid").value(), 1 << 30);
    }

    proptest! {
        #[test]
        fn canonical_is_a_fixed_point_of_equal_value(number in 0u32.., point in 0usize..6, suffix in 0usize..17) {
            let names = DECIMAL.iter().map(|(name, _)| *name).chain(BINARY);
            let suffix = names.clone().nth(suffix).expect("in range");
            let mut digits = number.to_string();
            if point > 0 && point < digits.len() {
                digits.insert(point, '.');
            }
            let text = format!("{digits}{suffix}");
            let canonical = canonical_quantity(&text).expect("valid").into_owned();
            prop_assert_eq!(Quantity::parse(&text), Quantity::parse(&canonical));
            let again = canonical_quantity(&canonical).expect("valid").into_owned();
            prop_assert_eq!(again, canonical);
        }

        #[test]
        fn never_panics(text in "[-+0-9.eEinumkKMGTP]{0,40}") {
            let _ = canonical_quantity(&text);
        }
    }
}
