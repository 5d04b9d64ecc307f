//! Numbers that may be given as a percentage of another.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::error::{Error, Outcome};

/// The number itself, or the percentage of `total`, rounded up or down.
pub(crate) fn scaled_value(value: &IntOrString, total: i32, round_up: bool) -> Outcome<i32> {
    let text = match value {
        IntOrString::Int(number) => return Ok(*number),
        IntOrString::String(text) => text,
    };
    let invalid = || {
        Error::Invalid(format!(
            "invalid value for IntOrString: invalid type: string is not a percentage: {text}"
        ))
    };
    let percent: i64 = text
        .strip_suffix('%')
        .and_then(|number| number.parse().ok())
        .ok_or_else(invalid)?;
    let product = percent * i64::from(total);
    let scaled = if round_up {
        (product + 99).div_euclid(100)
    } else {
        product.div_euclid(100)
    };
    i32::try_from(scaled).map_err(|_| invalid())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_round_as_asked() {
        for (value, total, up, expect) in [
            ("25%", 10, true, 3),
            ("25%", 10, false, 2),
            ("0%", 7, true, 0),
            ("100%", 7, false, 7),
            ("1%", 1, true, 1),
        ] {
            let scaled = scaled_value(&IntOrString::String(value.into()), total, up);
            assert_eq!(scaled.expect("valid"), expect, "{value} of {total}");
        }
        assert_eq!(
            scaled_value(&IntOrString::Int(4), 1, true).expect("valid"),
            4
        );
        assert!(scaled_value(&IntOrString::String("4".into()), 1, true).is_err());
    }
}
