use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::resource::to_object;

fn at(text: &str) -> Timestamp {
    Timestamp::parse_lenient(text).unwrap()
}

fn cron(parameters: Value) -> Schedule {
    Schedule::parse(CRON, &to_object(&parameters), Timestamp::default()).unwrap()
}

fn series(schedule: &Schedule, after: &str, count: usize) -> Vec<String> {
    let mut times = Vec::new();
    let mut last = at(after);
    while times.len() < count {
        let Some(next) = schedule.next_after(last) else { break };
        times.push(next.datetime().format("%Y-%m-%d %H:%M:%S").to_string());
        last = next;
    }
    times
}

/// The vectors of spec/scheduling.md §10.1, at UTC.
#[test]
fn cron_vectors() {
    let table: [(Value, &[&str]); 22] = [
        (json!({"second": "*/20"}), &["2024-02-27 12:35:00", "2024-02-27 12:35:20", "2024-02-27 12:35:40"]),
        (json!({"minute": 0}), &["2024-02-27 13:00:00", "2024-02-27 14:00:00"]),
        (json!({"hour": 3}), &["2024-02-28 03:00:00", "2024-02-29 03:00:00"]),
        (json!({"day": 29}), &["2024-02-29 00:00:00", "2024-03-29 00:00:00", "2024-04-29 00:00:00"]),
        (json!({"day": "last"}), &["2024-02-29 00:00:00", "2024-03-31 00:00:00", "2024-04-30 00:00:00"]),
        (json!({"day": "last fri"}), &["2024-03-29 00:00:00", "2024-04-26 00:00:00", "2024-05-31 00:00:00"]),
        (json!({"day": "2nd tue"}), &["2024-03-12 00:00:00", "2024-04-09 00:00:00", "2024-05-14 00:00:00"]),
        (json!({"day": "5th mon"}), &["2024-04-29 00:00:00", "2024-07-29 00:00:00", "2024-09-30 00:00:00"]),
        (json!({"day": "1st sun,last"}), &["2024-02-29 00:00:00", "2024-03-03 00:00:00", "2024-03-31 00:00:00"]),
        (json!({"day": 31}), &["2024-03-31 00:00:00", "2024-05-31 00:00:00", "2024-07-31 00:00:00"]),
        (json!({"day_of_week": 0}), &["2024-03-04 00:00:00", "2024-03-11 00:00:00"]),
        (json!({"day_of_week": "6"}), &["2024-03-03 00:00:00"]),
        (json!({"day_of_week": "sun"}), &["2024-03-03 00:00:00"]),
        (json!({"day_of_week": "mon/2"}), &["2024-03-04 00:00:00", "2024-03-11 00:00:00"]),
        (
            json!({"day": "1-7", "day_of_week": "mon"}),
            &["2024-03-04 00:00:00", "2024-04-01 00:00:00", "2024-05-06 00:00:00"],
        ),
        (json!({"week": "*/2"}), &["2024-02-28 00:00:00", "2024-02-29 00:00:00", "2024-03-01 00:00:00"]),
        (json!({"month": "*/3"}), &["2024-04-01 00:00:00", "2024-07-01 00:00:00", "2024-10-01 00:00:00"]),
        (json!({"month": "feb-apr/2"}), &["2024-03-01 00:00:00", "2024-04-01 00:00:00", "2025-02-01 00:00:00"]),
        (json!({"hour": "*/5"}), &["2024-02-27 15:00:00", "2024-02-27 20:00:00", "2024-02-28 00:00:00"]),
        (json!({"hour": "9-17/4"}), &["2024-02-27 13:00:00", "2024-02-27 17:00:00", "2024-02-28 09:00:00"]),
        (json!({"minute": "10-50/20"}), &["2024-02-27 12:50:00", "2024-02-27 13:10:00", "2024-02-27 13:30:00"]),
        (json!({"minute": "0/15"}), &["2024-02-27 12:45:00", "2024-02-27 13:00:00"]),
    ];
    for (parameters, expected) in table {
        let mut with_zone = parameters.clone();
        with_zone["timezone"] = json!("UTC");
        assert_eq!(series(&cron(with_zone), "2024-02-27T12:34:56Z", expected.len()), expected, "{parameters}");
    }
    let week10 = cron(json!({"week": 10, "timezone": "UTC"}));
    let days: Vec<String> = (4..=10).map(|day| format!("2024-03-{day:02} 00:00:00")).collect();
    assert_eq!(series(&week10, "2024-02-27T12:34:56Z", 7), days);
    for never in [json!({"month": 2, "day": 30}), json!({"year": 2020}), json!({"year": 2024})] {
        assert_eq!(cron(never).next_after(at("2024-02-27T12:34:56Z")), None);
    }
    assert_eq!(
        series(&cron(json!({"timezone": "UTC"})), "2024-02-27T12:34:56.5Z", 2),
        ["2024-02-27 12:34:57", "2024-02-27 12:34:58"]
    );
}

#[test]
fn bad_parameters_are_named() {
    let error = |parameters: Value| check(CRON, &to_object(&parameters)).unwrap_err();
    assert_eq!(
        error(json!({"minute": "99"})),
        "Error validating expression '99': the last value (99) is higher than the maximum value (59)"
    );
    for bad in [
        json!({"day_of_week": "sun-tue"}),
        json!({"hour": "5-1"}),
        json!({"day_of_week": 7}),
        json!({"minute": "*/0"}),
        json!({"hour": "*/24"}),
        json!({"hour": "9-11/5"}),
        json!({"day": "6th mon"}),
        json!({"day": "1st foo"}),
        json!({"month": "janu"}),
        json!({"minute": ""}),
        json!({"minute": "1,,2"}),
        json!({"second": "99999999999"}),
        json!({"minute": 1, "timezone": "utc+2"}),
        json!({"minute": 1, "timezone": "+02:00"}),
    ] {
        assert!(check(CRON, &to_object(&bad)).is_err(), "{bad}");
    }
    for (bad, word) in [
        (json!({"unit": "seconds", "delta": 0}), "delta"),
        (json!({"unit": "seconds", "delta": -3}), "delta"),
        (json!({"unit": "fortnights", "delta": 1}), "unit"),
        (json!({"unit": "weeks", "delta": i64::MAX}), "delta"),
        (json!({"unit": "weeks", "delta": 1, "timezone": "Mars/Base"}), "timezone"),
    ] {
        assert!(check(INTERVAL, &to_object(&bad)).unwrap_err().contains(word), "{bad}");
    }
    assert!(check(DATE, &to_object(&json!({"date": "soon"}))).is_err());
    assert_eq!(check("core.st2.webhook", &Object::new()), Ok(()));
}

#[test]
fn clocks_that_skip_fire_once() {
    let daily = cron(json!({"hour": 2, "minute": 30, "timezone": "America/Los_Angeles"}));
    // 2024-03-10 02:30 doesn't exist: it is taken as 02:30−08:00.
    assert_eq!(series(&daily, "2024-03-09T12:00:00Z", 2), ["2024-03-10 10:30:00", "2024-03-11 09:30:00"]);
    let halves = cron(json!({"minute": "*/30", "timezone": "America/Los_Angeles"}));
    assert_eq!(
        series(&halves, "2024-03-10T09:00:00Z", 4),
        ["2024-03-10 09:30:00", "2024-03-10 10:00:00", "2024-03-10 10:30:00", "2024-03-10 11:00:00"]
    );
}

#[test]
fn clocks_set_back_fire_fixed_times_once_and_patterns_throughout() {
    let fixed = cron(json!({"hour": 1, "minute": 30, "timezone": "America/Los_Angeles"}));
    assert_eq!(series(&fixed, "2024-11-02T12:00:00Z", 2), ["2024-11-03 08:30:00", "2024-11-04 09:30:00"]);
    assert_eq!(
        series(&fixed.with_overlap(Overlap::Both), "2024-11-02T12:00:00Z", 3),
        ["2024-11-03 08:30:00", "2024-11-03 09:30:00", "2024-11-04 09:30:00"]
    );
    let halves = cron(json!({"minute": "*/30", "timezone": "America/Los_Angeles"}));
    assert_eq!(
        series(&halves, "2024-11-03T08:00:00Z", 4),
        ["2024-11-03 08:30:00", "2024-11-03 09:00:00", "2024-11-03 09:30:00", "2024-11-03 10:00:00"]
    );
    assert_eq!(
        series(&halves.with_overlap(Overlap::First), "2024-11-03T08:00:00Z", 2),
        ["2024-11-03 08:30:00", "2024-11-03 10:00:00"]
    );
}

#[test]
fn a_day_that_samoa_never_had() {
    let daily = cron(json!({"hour": 3, "timezone": "Pacific/Apia"}));
    // 2011-12-30 was skipped: its 03:00 by the old offset is the 31st's 03:00 by the new.
    assert_eq!(
        series(&daily, "2011-12-29T00:00:00Z", 3),
        ["2011-12-29 13:00:00", "2011-12-30 13:00:00", "2011-12-31 13:00:00"]
    );
}

#[test]
fn intervals_keep_their_phase() {
    let created = at("2026-01-01T00:00:00.25Z");
    let every = Schedule::parse(INTERVAL, &to_object(&json!({"unit": "minutes", "delta": 5})), created).unwrap();
    assert_eq!(every.next_after(at("2020-01-01T00:00:00Z")), Some(at("2026-01-01T00:05:00.25Z")));
    assert_eq!(every.next_after(created), Some(at("2026-01-01T00:05:00.25Z")));
    assert_eq!(every.next_after(at("2026-01-01T00:05:00.25Z")), Some(at("2026-01-01T00:10:00.25Z")));
    assert_eq!(every.next_after(at("2026-01-01T00:12:00Z")), Some(at("2026-01-01T00:15:00.25Z")));
    assert_eq!(every.count_between(created, at("2026-01-01T01:00:00Z"), 100), 11);
    assert_eq!(every.latest_between(created, at("2026-01-01T01:00:00Z")), Some(at("2026-01-01T00:55:00.25Z")));
}

#[test]
fn dates_are_read_in_their_zone() {
    let date = |text: &str, zone: &str| {
        let parameters = to_object(&json!({"date": text, "timezone": zone}));
        match Schedule::parse(DATE, &parameters, Timestamp::default()) {
            Ok(Schedule::Date(at)) => at.to_string(),
            other => format!("{other:?}"),
        }
    };
    for (text, zone, expected) in [
        ("2026-07-01 12:00:00", "Europe/Berlin", "2026-07-01T10:00:00.000000Z"),
        ("2026-07-01T12:00:00.5", "UTC", "2026-07-01T12:00:00.500000Z"),
        ("2026-07-01T12:00:00+01:00", "Europe/Berlin", "2026-07-01T11:00:00.000000Z"),
        ("2026-07-01 12:00 UTC", "Europe/Berlin", "2026-07-01T12:00:00.000000Z"),
        ("Jul 1, 2026 12:00", "UTC", "2026-07-01T12:00:00.000000Z"),
        ("2026-07-01", "America/New_York", "2026-07-01T04:00:00.000000Z"),
        // Skipped, and shown twice.
        ("2024-03-10 02:30", "America/Los_Angeles", "2024-03-10T10:30:00.000000Z"),
        ("2024-11-03 01:30", "America/Los_Angeles", "2024-11-03T08:30:00.000000Z"),
        ("2024-03-10 03:10", "America/Los_Angeles", "2024-03-10T10:10:00.000000Z"),
    ] {
        assert_eq!(date(text, zone), expected, "{text} in {zone}");
    }
}

fn field() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        3 => Just(None),
        1 => Just(Some("*".to_owned())),
        2 => (2u32..7).prop_map(|n| Some(format!("*/{n}"))),
        2 => (1u32..6).prop_map(|n| Some(n.to_string())),
        2 => (1u32..3, 4u32..6).prop_map(|(a, b)| Some(format!("{a}-{b}"))),
    ]
}

/// What local time says, second by second, without any cleverness.
fn fires_at(cron: &Cron, zone: chrono_tz::Tz, at: i64) -> bool {
    let local = |offset: i64| chrono::DateTime::from_timestamp(at + offset, 0).unwrap().naive_utc();
    let now = zone::offset(zone, at);
    let regular = cron.matches(local(now)) && !(cron.once() && zone::is_second_pass(zone, at));
    let skipped = zone::first_change(zone, at - zone::LARGEST_SHIFT, at).is_some_and(|change| {
        change.after > change.before
            && at < change.at + change.after - change.before
            && cron.matches(local(change.before))
    });
    regular || skipped
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// The computed series is the set of instants that match, around the days on which clocks change.
    #[test]
    fn next_is_the_first_that_matches(
        fields in prop::array::uniform4(field()),
        zone in prop_oneof![Just("America/Los_Angeles"), Just("Europe/Berlin"), Just("Australia/Lord_Howe"), Just("UTC")],
        start in prop_oneof![Just(1_710_061_200i64), Just(1_730_620_800), Just(1_711_843_200), Just(1_728_133_200)],
        shift in 0i64..20_000,
    ) {
        let mut parameters = Object::new();
        for (name, value) in ["day_of_week", "hour", "minute", "second"].into_iter().zip(fields) {
            if let Some(value) = value {
                parameters.insert(name.to_owned(), value.into());
            }
        }
        let zone: chrono_tz::Tz = zone.parse().unwrap();
        let cron = Cron::parse(&parameters, zone).unwrap();
        let start = start - 10_000 + shift;
        let next = cron.next_after(Timestamp::from_micros(start * 1_000_000)).map(|at| at.micros() / 1_000_000);
        let horizon = start + 20_000;
        let expected = (start + 1..horizon).find(|at| fires_at(&cron, zone, *at));
        prop_assert_eq!(next.filter(|at| *at < horizon), expected);
    }

    #[test]
    fn latest_and_count_agree_with_the_series(
        minute in prop_oneof![Just("*/7"), Just("0"), Just("13,50")],
        start in 1_700_000_000i64..1_760_000_000,
        length in 1i64..100_000,
    ) {
        let schedule = cron(json!({"minute": minute, "timezone": "Europe/Berlin"}));
        let (from, until) = (Timestamp::from_micros(start * 1_000_000), Timestamp::from_micros((start + length) * 1_000_000));
        let (mut last, mut count, mut at) = (None, 0, from);
        while let Some(next) = schedule.next_after(at).filter(|next| *next <= until) {
            (last, count, at) = (Some(next), count + 1, next);
        }
        prop_assert_eq!(schedule.latest_between(from, until), last);
        prop_assert_eq!(schedule.count_between(from, until, u64::MAX), count);
    }
}
