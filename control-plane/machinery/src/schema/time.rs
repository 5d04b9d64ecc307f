//! Timestamps: RFC 3339 as Go parses it, and the form in which the API returns it.
//!
//! It is here because decoding normalises every time to UTC. It reads no clock.

use jiff::Timestamp;
use jiff::civil::{Date, Time};
use jiff::tz::Offset;

const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";

/// Why a text is no time; the texts are those of Go's parser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("parsing time {value:?} as \"{LAYOUT}\": cannot parse {rest:?} as \"{element}\"")]
    Syntax {
        value: String,
        rest: String,
        element: &'static str,
    },
    #[error("parsing time {value:?}: {part} out of range")]
    Range { value: String, part: &'static str },
    #[error("parsing time {value:?} as \"{LAYOUT}\": extra text: {rest:?}")]
    Extra { value: String, rest: String },
}

/// Parses RFC 3339 as strictly as Go does.
pub fn parse_time(value: &str) -> Result<Timestamp, TimeError> {
    Parser { value, rest: value }.parse()
}

/// The form of `metav1.Time`: UTC, whole seconds. `None` if the text has that form already.
pub(super) fn canonical_seconds(text: &str) -> Result<Option<String>, TimeError> {
    let time = parse_time(text)?;
    if text.len() == 20 && text.ends_with('Z') {
        return Ok(None);
    }
    let civil = Offset::UTC.to_datetime(time);
    Ok(Some(civil.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()))
}

/// The form of `metav1.MicroTime`: UTC, six digits. `None` if the text has that form already.
pub(super) fn canonical_micros(text: &str) -> Result<Option<String>, TimeError> {
    let time = parse_time(text)?;
    if text.len() == 27 && text.ends_with('Z') {
        return Ok(None);
    }
    let civil = Offset::UTC.to_datetime(time);
    let micros = civil.subsec_nanosecond() / 1000;
    let seconds = civil.strftime("%Y-%m-%dT%H:%M:%S");
    Ok(Some(format!("{seconds}.{micros:06}Z")))
}

struct Parser<'a> {
    value: &'a str,
    rest: &'a str,
}

impl Parser<'_> {
    fn parse(mut self) -> Result<Timestamp, TimeError> {
        let year = self.number(4, "2006")?;
        self.literal('-', "-")?;
        let month = self.ranged(2, "01", 1..=12, "month")?;
        self.literal('-', "-")?;
        let day = self.number(2, "02")?;
        self.literal('T', "T")?;
        let hour = self.ranged(2, "15", 0..=23, "hour")?;
        self.literal(':', ":")?;
        let minute = self.ranged(2, "04", 0..=59, "minute")?;
        self.literal(':', ":")?;
        let second = self.ranged(2, "05", 0..=59, "second")?;
        let nanos = self.fraction();
        let offset = self.offset()?;
        if !self.rest.is_empty() {
            return Err(TimeError::Extra {
                value: self.value.into(),
                rest: self.rest.into(),
            });
        }
        let date = Date::new(year as i16, month as i8, day as i8).map_err(|_| self.range("day"))?;
        let time = Time::new(hour as i8, minute as i8, second as i8, nanos)
            .map_err(|_| self.range("second"))?;
        let civil = date.to_datetime(time);
        offset.to_timestamp(civil).map_err(|_| self.range("year"))
    }

    fn range(&self, part: &'static str) -> TimeError {
        TimeError::Range {
            value: self.value.into(),
            part,
        }
    }

    fn syntax(&self, element: &'static str) -> TimeError {
        TimeError::Syntax {
            value: self.value.into(),
            rest: self.rest.into(),
            element,
        }
    }

    fn number(&mut self, digits: usize, element: &'static str) -> Result<i32, TimeError> {
        match self.rest.get(..digits) {
            Some(text) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
                self.rest = &self.rest[digits..];
                Ok(text
                    .bytes()
                    .fold(0, |all, byte| all * 10 + i32::from(byte - b'0')))
            }
            _ => Err(self.syntax(element)),
        }
    }

    fn ranged(
        &mut self,
        digits: usize,
        element: &'static str,
        range: std::ops::RangeInclusive<i32>,
        part: &'static str,
    ) -> Result<i32, TimeError> {
        let number = self.number(digits, element)?;
        if range.contains(&number) {
            Ok(number)
        } else {
            Err(self.range(part))
        }
    }

    fn literal(&mut self, character: char, element: &'static str) -> Result<(), TimeError> {
        match self.rest.strip_prefix(character) {
            Some(rest) => {
                self.rest = rest;
                Ok(())
            }
            None => Err(self.syntax(element)),
        }
    }

    /// An optional fraction of a second in nanoseconds; further digits are cut off.
    fn fraction(&mut self) -> i32 {
        let Some(after) = self.rest.strip_prefix('.') else {
            return 0;
        };
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return 0;
        }
        self.rest = &after[digits..];
        let padded = after[..digits]
            .bytes()
            .chain(std::iter::repeat(b'0'))
            .take(9);
        padded.fold(0, |all, byte| all * 10 + i32::from(byte - b'0'))
    }

    fn offset(&mut self) -> Result<Offset, TimeError> {
        if let Some(rest) = self.rest.strip_prefix('Z') {
            self.rest = rest;
            return Ok(Offset::UTC);
        }
        let text = self.rest.as_bytes();
        let number = |at: usize| -> Option<i32> {
            let pair = text.get(at..at + 2)?;
            pair.iter()
                .all(u8::is_ascii_digit)
                .then(|| i32::from(pair[0] - b'0') * 10 + i32::from(pair[1] - b'0'))
        };
        match (text.first(), number(1), text.get(3), number(4)) {
            (
                Some(sign @ (b'+' | b'-')),
                Some(hours @ 0..=24),
                Some(b':'),
                Some(minutes @ 0..=60),
            ) => {
                self.rest = &self.rest[6..];
                let seconds = hours * 3600 + minutes * 60;
                let seconds = if *sign == b'-' { -seconds } else { seconds };
                Offset::from_seconds(seconds).map_err(|_| self.range("time zone offset hour"))
            }
            _ => Err(self.syntax("Z07:00")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normalises_to_utc() {
        for (text, seconds, micros) in [
            (
                "2026-01-02T03:04:05Z",
                None,
                Some("2026-01-02T03:04:05.000000Z"),
            ),
            (
                "2026-01-02T03:04:05.123456789+01:30",
                Some("2026-01-02T01:34:05Z"),
                Some("2026-01-02T01:34:05.123456Z"),
            ),
            (
                "2026-01-02T03:04:05.123456Z",
                Some("2026-01-02T03:04:05Z"),
                None,
            ),
        ] {
            assert_eq!(canonical_seconds(text), Ok(seconds.map(str::to_owned)));
            assert_eq!(canonical_micros(text), Ok(micros.map(str::to_owned)));
        }
    }

    #[test]
    fn speaks_as_go_does() {
        for (text, expect) in [
            (
                "foo",
                r#"parsing time "foo" as "2006-01-02T15:04:05Z07:00": cannot parse "foo" as "2006""#,
            ),
            (
                "",
                r#"parsing time "" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "2006""#,
            ),
            (
                "2026-13-01T00:00:00Z",
                r#"parsing time "2026-13-01T00:00:00Z": month out of range"#,
            ),
            (
                "2026-02-30T00:00:00Z",
                r#"parsing time "2026-02-30T00:00:00Z": day out of range"#,
            ),
            (
                "2026-01-01T00:00:00",
                r#"parsing time "2026-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00""#,
            ),
            (
                "2026-01-01 00:00:00Z",
                r#"parsing time "2026-01-01 00:00:00Z" as "2006-01-02T15:04:05Z07:00": cannot parse " 00:00:00Z" as "T""#,
            ),
        ] {
            assert_eq!(
                parse_time(text).expect_err("not a time").to_string(),
                expect
            );
        }
    }
}
