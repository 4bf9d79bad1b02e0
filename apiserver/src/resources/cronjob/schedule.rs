//! Whether a text is a schedule: five fields as in crontab(5), or a word such as `@daily`.
//!
//! When a schedule is due is the controllers' business.

/// What may stand in one of the five fields.
struct Field {
    what: &'static str,
    low: u32,
    high: u32,
    /// Names of the values, the first being that of `low`.
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: &[&str] = &["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
const FIELDS: [Field; 5] = [
    Field { what: "minute", low: 0, high: 59, names: &[] },
    Field { what: "hour", low: 0, high: 23, names: &[] },
    Field { what: "day of the month", low: 1, high: 31, names: &[] },
    Field { what: "month", low: 1, high: 12, names: MONTHS },
    Field { what: "day of the week", low: 0, high: 6, names: DAYS },
];
const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Says what is wrong with a schedule.
pub(super) fn check(schedule: &str) -> Result<(), String> {
    if schedule.contains("TZ") {
        return Err("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    if let Some(period) = schedule.strip_prefix("@every ") {
        return every(period);
    }
    if schedule.starts_with('@') {
        let known = WORDS.contains(&schedule);
        return if known { Ok(()) } else { Err(format!("unrecognized descriptor: {schedule}")) };
    }
    let parts: Vec<&str> = schedule.split_whitespace().collect();
    if parts.len() != FIELDS.len() {
        return Err(format!("expected exactly 5 fields, found {}", parts.len()));
    }
    for (field, part) in FIELDS.iter().zip(parts) {
        for range in part.split(',') {
            field.range(range).map_err(|why| format!("{} {range:?}: {why}", field.what))?;
        }
    }
    Ok(())
}

/// A duration such as `1h30m`.
fn every(period: &str) -> Result<(), String> {
    let mut rest = period;
    let wrong = || format!("failed to parse duration {period:?}");
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|digits| *digits > 0).ok_or_else(wrong)?;
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let unit = units.iter().find(|unit| {
            rest[digits..]
                .strip_prefix(**unit)
                .is_some_and(|tail| tail.is_empty() || tail.starts_with(|c: char| c.is_ascii_digit()))
        });
        rest = &rest[digits + unit.ok_or_else(wrong)?.len()..];
    }
    if period.is_empty() { Err(wrong()) } else { Ok(()) }
}

impl Field {
    /// `*`, `?`, `a`, `a-b`, each with `/step` or without.
    fn range(&self, text: &str) -> Result<(), &'static str> {
        let (range, step) = match text.split_once('/') {
            Some((range, step)) => (range, Some(step)),
            None => (text, None),
        };
        if let Some(step) = step {
            let step: u32 = step.parse().map_err(|_| "the step is no number")?;
            if step == 0 {
                return Err("the step must be positive");
            }
        }
        if range == "*" || range == "?" {
            return Ok(());
        }
        let (first, last) = match range.split_once('-') {
            Some((first, last)) => (self.value(first)?, self.value(last)?),
            None => (self.value(range)?, self.high),
        };
        if first > last { Err("the range ends before it begins") } else { Ok(()) }
    }

    fn value(&self, text: &str) -> Result<u32, &'static str> {
        let named = self.names.iter().zip(self.low..).find(|(name, _)| text.eq_ignore_ascii_case(name));
        let number = match named {
            Some((_, number)) => number,
            None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().map_err(|_| "not a number")?,
            None => return Err("not a number"),
        };
        if (self.low..=self.high).contains(&number) { Ok(number) } else { Err("out of range") }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::check;

    #[test]
    fn schedules_are_those_of_crontab() {
        let good = [
            "* * * * *",
            "*/5 * * * *",
            "0 0 1 1 0",
            "59 23 31 12 6",
            "0-30/10,45 8-18 * * mon-FRI",
            "0 0 ? jan *",
            "5/15 * * * *",
            "@hourly",
            "@daily",
            "@every 1h30m",
            "@every 1.5s",
        ];
        for schedule in good {
            assert_eq!(check(schedule), Ok(()), "{schedule}");
        }
        let bad = [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "a * * * *",
            "*/0 * * * *",
            "*/x * * * *",
            "5-1 * * * *",
            "1,,2 * * * *",
            "-1 * * * *",
            "@soon",
            "@every",
            "@every x",
            "@every 5",
            "TZ=UTC * * * * *",
            "CRON_TZ=UTC 0 * * * *",
        ];
        for schedule in bad {
            assert!(check(schedule).is_err(), "{schedule}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(@every )?[-*/,0-9a-zµ@ .?]{0,24}") {
            let _ = check(&text);
        }

        #[test]
        fn lists_of_ranges_are_accepted(minute in 0_u32..60, hours in (0_u32..12, 12_u32..24), step in 1_u32..70) {
            let schedule = format!("{minute},*/{step} {}-{} * * *", hours.0, hours.1);
            prop_assert_eq!(check(&schedule), Ok(()));
        }
    }
}
