//! Kubernetes quantities (`250m`, `64Mi`, `1e3`) as exact integers, and back. Pure.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

fn suffix_scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "" => (1, 1),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let magnitude = 10i128.checked_pow(power.unsigned_abs())?;
            if power < 0 {
                (1, magnitude)
            } else {
                (magnitude, 1)
            }
        }
    })
}

/// The quantity in units of one `per`th (1 for bytes, 1000 for millicores), rounded up as Kubernetes does. None if malformed.
pub(crate) fn parse(text: &str, per: i128) -> Option<i64> {
    let end = text
        .find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (multiply, divide) = suffix_scale(suffix)?;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    let numerator = digits.checked_mul(multiply)?.checked_mul(per)?;
    let denominator = 10i128
        .checked_pow(u32::try_from(fraction.len()).ok()?)?
        .checked_mul(divide)?;
    let up = i128::from(numerator > 0 && numerator % denominator != 0);
    i64::try_from(numerator / denominator + up).ok()
}

/// Bytes or another whole unit; 0 if malformed, which the API does not let pass.
pub(crate) fn value(quantity: &Quantity) -> i64 {
    parse(&quantity.0, 1).unwrap_or(0)
}

/// Thousandths, as CPU is counted.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    parse(&quantity.0, 1000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let check = |text: &str, per, expect| assert_eq!(parse(text, per), expect, "{text}");
        check("250m", 1000, Some(250));
        check("250m", 1, Some(1));
        check("0.5", 1000, Some(500));
        check("64Mi", 1, Some(64 << 20));
        check("1.5Gi", 1, Some(3 << 29));
        check("1e3", 1, Some(1000));
        check("-1", 1, Some(-1));
        check("x", 1, None);
        check("", 1, None);
    }
}
