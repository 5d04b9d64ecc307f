//! Cron schedules: minute, hour, day of month, month, day of week, as documented for CronJobs. Pure.
//!
//! Day of month and day of week are alternatives when both are restricted, as in every cron. Times that a clock change
//! skips do not come.

use k8s_openapi::jiff::civil::{Date, DateTime, Time};
use k8s_openapi::jiff::tz::TimeZone;
use k8s_openapi::jiff::{SignedDuration, Timestamp, ToSpan};

/// A schedule that has no time within this many years has none at all.
const HORIZON_YEARS: i64 = 5;
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// Why a text is no schedule.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum ScheduleError {
    #[error("empty spec string")]
    Empty,
    #[error("expected exactly 5 fields, found {0}: {1:?}")]
    FieldCount(usize, Vec<String>),
    #[error("failed to parse int from {0}")]
    Number(String),
    #[error("value ({value}) out of range ({first}-{last}): {text}")]
    OutOfRange {
        value: u32,
        first: u32,
        last: u32,
        text: String,
    },
    #[error("beginning of range ({first}) beyond end of range ({last}): {text}")]
    Backwards { first: u32, last: u32, text: String },
    #[error("step of range should be a positive number: {0}")]
    Step(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
    #[error("failed to parse duration {0}")]
    Duration(String),
}

/// Allowed values as bits, and whether the field was a star.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    bits: u64,
    star: bool,
}

impl Field {
    fn allows(self, value: i8) -> bool {
        u32::try_from(value).is_ok_and(|value| self.bits & (1 << value) != 0)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Rule {
    Fields {
        minute: Field,
        hour: Field,
        day: Field,
        month: Field,
        weekday: Field,
    },
    Every(SignedDuration),
}

/// A schedule in a time zone.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    rule: Rule,
    zone: TimeZone,
}

impl Schedule {
    pub(super) fn parse(text: &str, zone: TimeZone) -> Result<Self, ScheduleError> {
        let text = text.trim();
        let rule = match text {
            "" => return Err(ScheduleError::Empty),
            "@yearly" | "@annually" => fields("0 0 1 1 *")?,
            "@monthly" => fields("0 0 1 * *")?,
            "@weekly" => fields("0 0 * * 0")?,
            "@daily" | "@midnight" => fields("0 0 * * *")?,
            "@hourly" => fields("0 * * * *")?,
            _ => match text.strip_prefix("@every ") {
                Some(duration) => Rule::Every(every(duration)?),
                None if text.starts_with('@') => {
                    return Err(ScheduleError::Descriptor(text.into()));
                }
                None => fields(text)?,
            },
        };
        Ok(Self { rule, zone })
    }

    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// The first time after `from`.
    pub(super) fn after(&self, from: Timestamp) -> Option<Timestamp> {
        let Rule::Fields {
            minute,
            hour,
            month,
            ..
        } = &self.rule
        else {
            let Rule::Every(pause) = self.rule else {
                return None;
            };
            return Some(Timestamp::from_second(from.as_second()).ok()? + pause);
        };
        let start = from.to_zoned(self.zone.clone()).datetime();
        let mut date = start.date();
        let end = date.checked_add(HORIZON_YEARS.years()).ok()?;
        while date <= end {
            if !month.allows(date.month()) {
                date = date.first_of_month().checked_add(1.month()).ok()?;
                continue;
            }
            if self.allows_day(date) {
                // Before the starting hour of the first day there is nothing to find.
                let first_hour = if date == start.date() {
                    start.hour()
                } else {
                    0
                };
                let times = (first_hour..24).filter(|h| hour.allows(*h)).flat_map(|h| {
                    (0..60)
                        .filter(|m| minute.allows(*m))
                        .map(move |m| Time::constant(h, m, 0, 0))
                });
                if let Some(found) = times
                    .filter_map(|time| self.instant(date.to_datetime(time)))
                    .find(|at| *at > from)
                {
                    return Some(found);
                }
            }
            date = date.tomorrow().ok()?;
        }
        None
    }

    /// None for a time that the clock skips.
    fn instant(&self, local: DateTime) -> Option<Timestamp> {
        let zoned = local.to_zoned(self.zone.clone()).ok()?;
        (zoned.datetime() == local).then(|| zoned.timestamp())
    }

    fn allows_day(&self, date: Date) -> bool {
        let Rule::Fields { day, weekday, .. } = &self.rule else {
            return false;
        };
        let by_day = day.allows(date.day());
        let by_weekday = weekday.allows(date.weekday().to_sunday_zero_offset());
        if day.star || weekday.star {
            by_day && by_weekday
        } else {
            by_day || by_weekday
        }
    }
}

fn fields(text: &str) -> Result<Rule, ScheduleError> {
    let parts: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, day, month, weekday] = parts.as_slice() else {
        return Err(ScheduleError::FieldCount(
            parts.len(),
            parts.iter().map(|p| (*p).to_owned()).collect(),
        ));
    };
    Ok(Rule::Fields {
        minute: field(minute, 0, 59, &[])?,
        hour: field(hour, 0, 23, &[])?,
        day: field(day, 1, 31, &[])?,
        month: field(month, 1, 12, &MONTHS)?,
        weekday: field(weekday, 0, 6, &DAYS)?,
    })
}

/// Comma-separated ranges, each `*`, `N`, `N-M`, with `/STEP`.
fn field(text: &str, first: u32, last: u32, names: &[&str]) -> Result<Field, ScheduleError> {
    let mut field = Field {
        bits: 0,
        star: false,
    };
    for part in text.split(',') {
        let (range, step) = part
            .split_once('/')
            .map_or((part, None), |(range, step)| (range, Some(step)));
        let star = range == "*" || range == "?";
        let (from, to) = if star {
            (first, last)
        } else if let Some((from, to)) = range.split_once('-') {
            (number(from, first, names)?, number(to, first, names)?)
        } else {
            let from = number(range, first, names)?;
            (from, if step.is_some() { last } else { from })
        };
        let step: u32 = match step {
            None => 1,
            Some(step) => step
                .parse()
                .map_err(|_| ScheduleError::Number(step.into()))?,
        };
        // A star with a step restricts.
        field.star |= star && step == 1;
        for value in [from, to] {
            if value < first || value > last {
                return Err(ScheduleError::OutOfRange {
                    value,
                    first,
                    last,
                    text: part.into(),
                });
            }
        }
        if from > to {
            return Err(ScheduleError::Backwards {
                first: from,
                last: to,
                text: part.into(),
            });
        }
        if step == 0 {
            return Err(ScheduleError::Step(part.into()));
        }
        field.bits |= (from..=to)
            .step_by(step as usize)
            .map(|value| 1 << value)
            .fold(0, |all, bit: u64| all | bit);
    }
    Ok(field)
}

fn number(text: &str, first: u32, names: &[&str]) -> Result<u32, ScheduleError> {
    let named = names
        .iter()
        .position(|name| name.eq_ignore_ascii_case(text));
    match named.and_then(|at| u32::try_from(at).ok()) {
        Some(at) => Ok(at + first),
        None => text.parse().map_err(|_| ScheduleError::Number(text.into())),
    }
}

/// Durations such as `1h30m`, whole seconds, at least one.
fn every(text: &str) -> Result<SignedDuration, ScheduleError> {
    let invalid = || ScheduleError::Duration(text.into());
    let mut seconds: i64 = 0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(invalid());
    }
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit())
            .ok_or_else(invalid)?;
        let number: i64 = rest[..digits].parse().map_err(|_| invalid())?;
        rest = &rest[digits..];
        let length = rest
            .find(|c: char| c.is_ascii_digit())
            .unwrap_or(rest.len());
        let unit = match &rest[..length] {
            "h" => 3600,
            "m" => 60,
            "s" => 1,
            "ms" | "us" | "µs" | "ns" => 0,
            _ => return Err(invalid()),
        };
        seconds = number
            .checked_mul(unit)
            .and_then(|s| seconds.checked_add(s))
            .ok_or_else(invalid)?;
        rest = &rest[length..];
    }
    Ok(SignedDuration::from_secs(seconds.max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, from: &str, expect: &str) {
        let schedule =
            Schedule::parse(text, TimeZone::UTC).unwrap_or_else(|error| panic!("{text}: {error}"));
        let next = schedule.after(from.parse().expect("a time"));
        assert_eq!(
            next.map_or("never".to_owned(), |at| at.to_string()),
            expect,
            "{text}"
        );
    }

    #[test]
    fn the_next_time() {
        let from = "2026-01-01T00:00:00Z"; // a Thursday
        check("* * * * *", from, "2026-01-01T00:01:00Z");
        check(
            "*/15 * * * *",
            "2026-01-01T00:50:01Z",
            "2026-01-01T01:00:00Z",
        );
        check("30 2 * * *", from, "2026-01-01T02:30:00Z");
        check("0 0 1 * *", from, "2026-02-01T00:00:00Z");
        check("0 0 * * mon", from, "2026-01-05T00:00:00Z");
        check("0 0 13 * FRI", from, "2026-01-02T00:00:00Z");
        check("0 0 29 2 *", from, "2028-02-29T00:00:00Z");
        check("0 0 31 2 *", from, "never");
        check("0 9-17/4 * * 1-5", from, "2026-01-01T09:00:00Z");
        check("5,10 * ? * *", from, "2026-01-01T00:05:00Z");
        check("@hourly", from, "2026-01-01T01:00:00Z");
        check("@weekly", from, "2026-01-04T00:00:00Z");
        check("@every 1h30m", from, "2026-01-01T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_told_why() {
        let check = |text: &str, expect: &str| {
            let error = Schedule::parse(text, TimeZone::UTC).expect_err(text);
            assert!(error.to_string().starts_with(expect), "{text}: {error}");
        };
        check("* * * *", "expected exactly 5 fields, found 4");
        check("60 * * * *", "value (60) out of range");
        check("* * * * 7", "value (7) out of range");
        check(
            "5-1 * * * *",
            "beginning of range (5) beyond end of range (1)",
        );
        check("*/0 * * * *", "step of range should be a positive number");
        check("x * * * *", "failed to parse int from x");
        check("@nightly", "unrecognized descriptor");
        check("@every soon", "failed to parse duration");
        check("", "empty spec string");
    }

    #[test]
    fn a_time_zone_shifts_the_schedule() {
        let zone = TimeZone::fixed(k8s_openapi::jiff::tz::offset(-5));
        let schedule = Schedule::parse("0 9 * * *", zone).expect("a schedule");
        let next = schedule.after("2026-01-01T00:00:00Z".parse().expect("a time"));
        assert_eq!(
            next.map(|at| at.to_string()).as_deref(),
            Some("2026-01-01T14:00:00Z")
        );
    }
}
