//! Times: "nightly at 3", "every 6 hours", "on weekdays at 18:30".

use super::{
    draft::{Draft, When},
    reader::Reader,
};

const DAYS: [&[&str]; 7] = [
    &["sunday", "sundays"],
    &["monday", "mondays"],
    &["tuesday", "tuesdays"],
    &["wednesday", "wednesdays"],
    &["thursday", "thursdays"],
    &["friday", "fridays"],
    &["saturday", "saturdays"],
];

pub(super) fn read(reader: &mut Reader<'_>, draft: &mut Draft) -> bool {
    let begun = reader.position();
    let Some(mut when) = interval(reader).or_else(|| days(reader)) else {
        return time_alone(reader, draft, begun);
    };
    if when.hours.is_none()
        && let Some((hour, minute)) = time_after(reader).or(draft.time.take())
    {
        when.hours = Some(hour.to_string());
        when.minutes = minute.to_string();
    }
    reader.understood(begun, format!("schedule `{}`", when.cron()));
    draft.schedules.push(when);
    true
}

/// A time of day that stands before its day, or for every day.
fn time_alone(reader: &mut Reader<'_>, draft: &mut Draft, begun: usize) -> bool {
    let Some((hour, minute)) = time_after(reader) else { return false };
    let open = draft.schedules.last_mut().filter(|when| when.hours.is_none());
    match open {
        Some(when) => {
            when.hours = Some(hour.to_string());
            when.minutes = minute.to_string();
        }
        None => draft.time = Some((hour, minute)),
    }
    reader.understood(begun, format!("at {hour:02}:{minute:02} UTC"));
    true
}

fn cron(days: &str, weekdays: &str, hours: Option<&str>, minutes: &str) -> When {
    When {
        days: days.to_owned(),
        weekdays: weekdays.to_owned(),
        hours: hours.map(str::to_owned),
        minutes: minutes.to_owned(),
    }
}

/// "hourly", "every 6 hours", "every 15 minutes".
fn interval(reader: &mut Reader<'_>) -> Option<When> {
    let begun = reader.position();
    if reader.phrase("hourly")
        || reader.phrase("every|each hour")
        || reader.phrase("once|one an|per|every hour")
    {
        return Some(cron("*", "*", Some("*"), "0"));
    }
    if !reader.phrase("every|each") {
        return None;
    }
    let count = reader.word(0).parse::<u32>().ok().or_else(|| number(reader.word(0)));
    let unit = reader.word(1).to_owned();
    let when = match (count, unit.as_str()) {
        (Some(count @ 1..=23), "hours" | "hour" | "h") => {
            Some(cron("*", "*", Some(&format!("*/{count}")), "0"))
        }
        // GitHub: the shortest interval is five minutes.
        (Some(count @ 5..=59), "minutes" | "minute" | "min" | "mins") => {
            Some(cron("*", "*", Some("*"), &format!("*/{count}")))
        }
        (Some(count @ 2..=15), "days") => Some(cron(&format!("*/{count}"), "*", None, "0")),
        _ => None,
    };
    reader.go(if when.is_some() { begun + 3 } else { begun });
    when
}

fn number(word: &str) -> Option<u32> {
    const WORDS: [&str; 12] = [
        "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "fifteen",
    ];
    let at = WORDS.iter().position(|one| *one == word)?;
    u32::try_from(if at == 11 { 15 } else { at + 2 }).ok()
}

/// "nightly", "every monday and thursday", "on the first of the month".
fn days(reader: &mut Reader<'_>) -> Option<When> {
    for phrase in [
        "nightly builds|build|run|runs?",
        "every|each|once|per night",
        "once a|every|each night",
        "daily",
        "every|each day",
        "once|one a|per|every day",
        "each|every morning",
    ] {
        if reader.phrase(phrase) {
            return Some(cron("*", "*", None, "0"));
        }
    }
    for phrase in [
        "on? weekdays",
        "every|each weekday",
        "every|each|on working|work day|days",
        "monday to|through|till friday",
        "on|from monday to|through|till friday",
    ] {
        if reader.phrase(phrase) {
            return Some(cron("*", "1-5", None, "0"));
        }
    }
    if reader.phrase("on|at|every|each? weekends|weekend") {
        return Some(cron("*", "6,0", None, "0"));
    }
    if reader.phrase("weekly") || reader.phrase("every|each week") || reader.phrase("once a|per|every week") {
        let on = weekdays(reader).unwrap_or_else(|| "1".to_owned());
        return Some(cron("*", &on, None, "0"));
    }
    for phrase in [
        "monthly",
        "every|each month",
        "once a|per|every month",
        "on? the? first|1st day? of the|each|every month",
    ] {
        if reader.phrase(phrase) {
            reader.phrase("on the first|1st");
            return Some(cron("1", "*", None, "0"));
        }
    }
    let on = weekdays(reader)?;
    Some(cron("*", &on, None, "0"))
}

/// "(on|every) monday(s), wednesday and friday".
fn weekdays(reader: &mut Reader<'_>) -> Option<String> {
    let begun = reader.position();
    reader.phrase("on|every|each");
    reader.phrase("on|every|each");
    let mut found = Vec::new();
    while let Some(day) = DAYS.iter().position(|names| names.contains(&reader.word(0))) {
        reader.go(reader.position() + 1);
        found.push(day.to_string());
        let joint = reader.position();
        reader.joint();
        reader.phrase("on|every|each");
        if !DAYS.iter().any(|names| names.contains(&reader.word(0))) {
            reader.go(joint);
            break;
        }
    }
    if found.is_empty() {
        reader.go(begun);
        return None;
    }
    Some(found.join(","))
}

/// "at 3", "at 03:30", "at 6 pm UTC", "at midnight".
fn time_after(reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    let begun = reader.position();
    if !(reader.phrase("at around|about?") || (reader.phrase("@"))) {
        return None;
    }
    let Some((time, words)) = time(reader.word(0), reader.word(1)) else {
        reader.go(begun);
        return None;
    };
    reader.go(reader.position() + words);
    reader.phrase("o'clock");
    reader.phrase("in the morning");
    reader.phrase("utc|gmt");
    Some(time)
}

/// A time of day and how many words it has.
fn time(word: &str, next: &str) -> Option<((u32, u32), usize)> {
    match word {
        "midnight" => return Some(((0, 0), 1)),
        "noon" | "midday" => return Some(((12, 0), 1)),
        _ => {}
    }
    let half = |text: &str| match text {
        "am" | "a.m" | "a.m." => Some(0),
        "pm" | "p.m" | "p.m." => Some(12),
        _ => None,
    };
    let split = word.find(|c: char| !(c.is_ascii_digit() || c == ':')).unwrap_or(word.len());
    let (digits, glued) = word.split_at(split);
    let (shift, words) = match (half(glued), half(next)) {
        (Some(shift), _) => (Some(shift), 1),
        (None, Some(shift)) if glued.is_empty() => (Some(shift), 2),
        (None, _) if glued.is_empty() || glued == "h" => (None, 1),
        _ => return None,
    };
    let (hour, minute) = digits.split_once(':').unwrap_or((digits, "0"));
    let (hour, minute): (u32, u32) = (hour.parse().ok()?, minute.parse().ok()?);
    let hour = match shift {
        Some(shift) if (1..=12).contains(&hour) => hour % 12 + shift,
        Some(_) => return None,
        None => hour,
    };
    (hour < 24 && minute < 60).then_some(((hour, minute), words))
}
