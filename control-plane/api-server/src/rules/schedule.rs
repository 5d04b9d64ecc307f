//! The syntax of cron schedules: five fields, or one of a few names.
//!
//! Only whether a schedule can be read; when it is due is the controller's business.

const NAMES: [&str; 7] = [
    "@yearly",
    "@annually",
    "@monthly",
    "@weekly",
    "@daily",
    "@midnight",
    "@hourly",
];
const MONTHS: [&str; 12] = [
    "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

struct Bounds {
    lowest: u32,
    highest: u32,
    /// Names of values, the first for `lowest`.
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds {
        lowest: 0,
        highest: 59,
        names: &[],
    },
    Bounds {
        lowest: 0,
        highest: 23,
        names: &[],
    },
    Bounds {
        lowest: 1,
        highest: 31,
        names: &[],
    },
    Bounds {
        lowest: 1,
        highest: 12,
        names: &MONTHS,
    },
    Bounds {
        lowest: 0,
        highest: 6,
        names: &DAYS,
    },
];

/// Whether a schedule can be read.
///
/// # Errors
/// The sentence about what cannot.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    let rest = match schedule
        .strip_prefix("TZ=")
        .or_else(|| schedule.strip_prefix("CRON_TZ="))
    {
        Some(zoned) => zoned.split_once(' ').map_or("", |(_, rest)| rest).trim(),
        None => schedule,
    };
    if rest.starts_with('@') {
        let known = NAMES.contains(&rest)
            || rest
                .strip_prefix("@every ")
                .is_some_and(|every| !every.is_empty());
        return if known {
            Ok(())
        } else {
            Err(format!("unrecognized descriptor: {rest}"))
        };
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        return Err(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        for part in field.split(',') {
            check_part(part, bounds)?;
        }
    }
    Ok(())
}

fn check_part(part: &str, bounds: &Bounds) -> Result<(), String> {
    let (range, step) = match part.split_once('/') {
        Some((_, step)) if step.contains('/') => return Err(format!("too many slashes: {part}")),
        Some((range, step)) => (range, Some(step)),
        None => (part, None),
    };
    if range != "*" && range != "?" {
        let (start, end) = match range.split_once('-') {
            Some((_, end)) if end.contains('-') => return Err(format!("too many hyphens: {part}")),
            Some((start, end)) => (number(start, bounds)?, number(end, bounds)?),
            None => {
                let start = number(range, bounds)?;
                (start, start)
            }
        };
        if start < bounds.lowest {
            return Err(format!(
                "beginning of range ({start}) below minimum ({}): {part}",
                bounds.lowest
            ));
        }
        if end > bounds.highest {
            return Err(format!(
                "end of range ({end}) above maximum ({}): {part}",
                bounds.highest
            ));
        }
        if start > end {
            return Err(format!(
                "beginning of range ({start}) beyond end of range ({end}): {part}"
            ));
        }
    }
    match step.map(|step| number(step, &FIELDS[0])).transpose()? {
        Some(0) => Err(format!("step of range should be a positive number: {part}")),
        _ => Ok(()),
    }
}

fn number(text: &str, bounds: &Bounds) -> Result<u32, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(place) = bounds.names.iter().position(|name| *name == lower) {
        return Ok(place as u32 + bounds.lowest);
    }
    text.parse().map_err(|_| {
        format!(
            "failed to parse int from {text}: strconv.Atoi: parsing {}: invalid syntax",
            api_machinery::go_quote(text)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules() {
        for good in [
            "* * * * *",
            "*/15 0-6 1,15 jan-mar mon",
            "0 0 ? * SUN",
            "@daily",
            "@every 1h",
            "TZ=UTC 0 0 * * *",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@often",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
