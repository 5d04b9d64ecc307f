//! `IntOrString`: a number, or a percentage of one, or the name of a port.

use serde_json::Value;

/// A field that holds either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IntOrString {
    Int(i32),
    Text(String),
}

/// A text was to be a percentage and is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IntOrStringError {
    #[error("invalid value for IntOrString: invalid type: string is not a percentage")]
    NotAPercentage,
    #[error("invalid value for IntOrString: invalid value {0:?}")]
    NotANumber(String),
}

impl IntOrString {
    /// From the JSON of a field; `None` for anything that is neither a 32-bit number nor a text.
    pub fn from_value(value: &Value) -> Option<IntOrString> {
        match value {
            Value::Number(number) => Some(IntOrString::Int(number.as_i64()?.try_into().ok()?)),
            Value::String(text) => Some(IntOrString::Text(text.clone())),
            _ => None,
        }
    }

    /// The number, or the percentage taken of `total`, rounded as asked.
    ///
    /// # Errors
    /// When the text is no percentage.
    pub fn scaled(&self, total: i32, round_up: bool) -> Result<i32, IntOrStringError> {
        let text = match self {
            IntOrString::Int(value) => return Ok(*value),
            IntOrString::Text(text) => text,
        };
        let digits = text
            .strip_suffix('%')
            .ok_or(IntOrStringError::NotAPercentage)?;
        let percent: i32 = digits
            .parse()
            .map_err(|_| IntOrStringError::NotANumber(text.clone()))?;
        let product = i64::from(percent) * i64::from(total);
        let rounded = if round_up {
            -(-product).div_euclid(100)
        } else {
            product.div_euclid(100)
        };
        Ok(rounded.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32)
    }

    /// The percentage, if this is one.
    pub fn percent(&self) -> Option<i32> {
        match self {
            IntOrString::Int(_) => None,
            IntOrString::Text(text) => {
                let digits = text.strip_suffix('%')?;
                let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
                if plain { digits.parse().ok() } else { None }
            }
        }
    }
}

/// As it is shown to humans: `3`, `25%`, `http`.
impl std::fmt::Display for IntOrString {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            IntOrString::Int(value) => value.fmt(f),
            IntOrString::Text(text) => text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_as_asked() {
        let quarter = IntOrString::Text("25%".into());
        assert_eq!(quarter.scaled(3, true), Ok(1));
        assert_eq!(quarter.scaled(3, false), Ok(0));
        assert_eq!(quarter.scaled(8, true), Ok(2));
        assert_eq!(IntOrString::Int(5).scaled(3, true), Ok(5));
        assert_eq!(
            IntOrString::Text("5".into()).scaled(3, true),
            Err(IntOrStringError::NotAPercentage)
        );
        assert_eq!(IntOrString::from_value(&serde_json::json!(1.5)), None);
        assert_eq!(IntOrString::Text("25%".into()).percent(), Some(25));
    }
}
