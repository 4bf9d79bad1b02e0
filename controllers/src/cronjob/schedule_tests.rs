use proptest::prelude::*;

use super::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn next(schedule: &str, after: &str, zone: &TimeZone) -> String {
    Schedule::parse(schedule).unwrap().next(at(after), zone).map_or_else(|| "never".to_owned(), |time| time.to_string())
}

#[test]
fn the_next_time() {
    for (schedule, after, expected) in [
        ("* * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:01:00Z"),
        ("* * * * *", "2026-03-01T10:00:59.9Z", "2026-03-01T10:01:00Z"),
        ("*/15 * * * *", "2026-03-01T10:50:00Z", "2026-03-01T11:00:00Z"),
        ("5/20 * * * *", "2026-03-01T10:26:00Z", "2026-03-01T10:45:00Z"),
        ("30 8-18/2 * * *", "2026-03-01T11:00:00Z", "2026-03-01T12:30:00Z"),
        ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("0 0 30 2 *", "2026-03-01T00:00:00Z", "never"),
        ("0 12 * * mon-FRI", "2026-03-06T13:00:00Z", "2026-03-09T12:00:00Z"),
        ("0 0 13 * 5", "2026-03-01T00:00:00Z", "2026-03-06T00:00:00Z"),
        ("0 0 */2 * 1", "2026-03-03T12:00:00Z", "2026-03-05T00:00:00Z"),
        ("0 0 ? jan *", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
        ("@hourly", "2026-03-01T10:00:00Z", "2026-03-01T11:00:00Z"),
        ("@daily", "2026-03-01T10:00:00Z", "2026-03-02T00:00:00Z"),
        ("@weekly", "2026-03-02T10:00:00Z", "2026-03-08T00:00:00Z"),
        ("@monthly", "2026-12-02T10:00:00Z", "2027-01-01T00:00:00Z"),
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@every 1h30m", "2026-03-01T10:00:10Z", "2026-03-01T11:30:10Z"),
    ] {
        assert_eq!(next(schedule, after, &TimeZone::UTC), expected, "{schedule} after {after}");
    }
}

/// A zone in which clocks change as in central Europe, without asking the machine's database.
fn europe() -> TimeZone {
    TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
}

#[test]
fn clocks_change() {
    for (schedule, after, expected) in [
        ("0 12 * * *", "2026-07-01T00:00:00Z", "2026-07-01T10:00:00Z"),
        ("0 12 * * *", "2026-01-01T00:00:00Z", "2026-01-01T11:00:00Z"),
        // Half past two does not happen on that night.
        ("30 2 * * *", "2026-03-29T00:00:00Z", "2026-03-30T00:30:00Z"),
        // And twice on this one.
        ("30 2 * * *", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
        ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
        ("0 * * * *", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
    ] {
        assert_eq!(next(schedule, after, &europe()), expected, "{schedule} after {after}");
    }
}

#[test]
fn what_is_no_schedule() {
    for text in [
        "",
        "* * * *",
        "60 * * * *",
        "* * 0 * *",
        "*/0 * * * *",
        "5-1 * * * *",
        "a * * * *",
        "@soon",
        "@every x",
        "@every ",
    ] {
        assert_eq!(Schedule::parse(text), Err(NotASchedule(text.to_owned())));
    }
}

#[test]
fn the_last_time_that_was_missed() {
    for (schedule, since, now, expected) in [
        ("*/10 * * * *", "2026-03-01T10:05:00Z", "2026-03-01T10:09:00Z", None),
        ("*/10 * * * *", "2026-03-01T10:05:00Z", "2026-03-01T10:10:00Z", Some("2026-03-01T10:10:00Z")),
        ("*/10 * * * *", "2026-03-01T10:10:00Z", "2026-03-01T10:19:00Z", None),
        ("* * * * *", "2016-03-01T10:10:00Z", "2026-03-01T10:19:30Z", Some("2026-03-01T10:19:00Z")),
        ("0 0 1 1 *", "2016-03-01T10:10:00Z", "2026-03-01T10:19:30Z", Some("2026-01-01T00:00:00Z")),
        ("0 3 * * *", "2026-02-01T10:10:00Z", "2026-03-01T02:59:00Z", Some("2026-02-28T03:00:00Z")),
        ("@every 10s", "2026-03-01T10:00:00Z", "2026-03-01T10:00:35Z", Some("2026-03-01T10:00:30Z")),
        ("@every 10s", "2026-03-01T10:00:00Z", "2026-03-01T10:00:09Z", None),
    ] {
        let last = Schedule::parse(schedule).unwrap().last_due(at(since), at(now), &TimeZone::UTC);
        assert_eq!(last, expected.map(at), "{schedule} since {since}");
    }
}

proptest! {
    /// Against looking at every minute.
    #[test]
    fn no_time_is_skipped(
        minute in 0_u32..60,
        step in 1_u32..40,
        hours in (0_u32..12, 12_u32..24),
        day in 1_u32..29,
        weekday in 0_u32..7,
        start in 0_i64..60_000_000,
    ) {
        let zone = europe();
        for text in [
            format!("{minute}/{step} {}-{} * * *", hours.0, hours.1),
            format!("{minute} {} {day} * {weekday}", hours.0),
            format!("{minute} {} * * {weekday}", hours.1),
        ] {
            let schedule = Schedule::parse(&text).unwrap();
            let Schedule::Fields(fields) = &schedule else { panic!() };
            let start = Timestamp::from_second(1_700_000_000 + start * 10).unwrap();
            let found = schedule.next(start, &zone).unwrap();
            prop_assert!(found > start);
            let mut minute = Timestamp::from_second(start.as_second().div_euclid(60) * 60 + 60).unwrap();
            while minute < found {
                let at = minute.to_zoned(zone.clone());
                let matches = has(fields.months, at.month())
                    && fields.has_day(&at)
                    && has(fields.hours, at.hour())
                    && has(fields.minutes, at.minute());
                prop_assert!(!matches, "{text}: {at} comes before {found}");
                minute = minute.checked_add(SignedDuration::from_secs(60)).unwrap();
            }
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "(@every )?[-*/,0-9a-zµ@ .?]{0,24}") {
        if let Ok(schedule) = Schedule::parse(&text) {
            schedule.next(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        }
    }
}
