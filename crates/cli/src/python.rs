//! What chat templates expect of Python: JSON as `json.dumps` writes it, and `strftime`.

use serde_json::Value;

/// A value as Python's `json.dumps(value, ensure_ascii=False, indent=indent)` writes it.
pub fn json_dumps(value: &Value, indent: Option<usize>) -> String {
    let mut out = String::new();
    dump(value, indent, 0, &mut out);
    out
}

fn dump(value: &Value, indent: Option<usize>, depth: usize, out: &mut String) {
    let line = |depth: usize| indent.map_or(String::new(), |n| format!("\n{}", " ".repeat(n * depth)));
    let next = |at: usize| match (at, indent) {
        (0, _) => line(depth + 1),
        (_, None) => ", ".into(),
        (_, Some(_)) => format!(",{}", line(depth + 1)),
    };
    match value {
        Value::Array(values) if !values.is_empty() => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                out.push_str(&next(at));
                dump(value, indent, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push(']');
        }
        Value::Object(map) if !map.is_empty() => {
            out.push('{');
            for (at, (key, value)) in map.iter().enumerate() {
                out.push_str(&format!("{}{}: ", next(at), Value::from(key.as_str())));
                dump(value, indent, depth + 1, out);
            }
            out.push_str(&line(depth));
            out.push('}');
        }
        other => out.push_str(&other.to_string()),
    }
}

/// A point of time as Python's `strftime` writes it, in UTC; what it does not know stays as it is.
pub fn strftime(format: &str, unix_seconds: u64) -> String {
    const MONTHS: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    const DAYS: [&str; 7] = ["Thursday", "Friday", "Saturday", "Sunday", "Monday", "Tuesday", "Wednesday"];
    let days = unix_seconds / 86_400;
    let (hour, minute, second) = (unix_seconds / 3600 % 24, unix_seconds / 60 % 60, unix_seconds % 60);
    let (year, month, day, day_of_year) = date(days);
    let month_name = MONTHS[month as usize - 1];
    let day_name = DAYS[(days % 7) as usize];
    let mut out = String::new();
    let mut chars = format.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(&match chars.next() {
            Some('Y') => year.to_string(),
            Some('y') => format!("{:02}", year % 100),
            Some('m') => format!("{month:02}"),
            Some('d') => format!("{day:02}"),
            Some('j') => format!("{day_of_year:03}"),
            Some('H') => format!("{hour:02}"),
            Some('I') => format!("{:02}", (hour + 11) % 12 + 1),
            Some('M') => format!("{minute:02}"),
            Some('S') => format!("{second:02}"),
            Some('p') => if hour < 12 { "AM" } else { "PM" }.into(),
            Some('B') => month_name.into(),
            Some('b') => month_name[..3].into(),
            Some('A') => day_name.into(),
            Some('a') => day_name[..3].into(),
            Some('%') => "%".into(),
            Some(other) => format!("%{other}"),
            None => "%".into(),
        });
    }
    out
}

/// Year, month, day and day of the year, so many days after 1 January 1970.
fn date(days: u64) -> (u64, u64, u64, u64) {
    let is_leap =
        |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let (mut year, mut left) = (1970 + 400 * (days / 146_097), days % 146_097);
    while left >= 365 + u64::from(is_leap(year)) {
        left -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let day_of_year = left + 1;
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for days in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < days {
            break;
        }
        left -= days;
        month += 1;
    }
    (year, month, left + 1, day_of_year)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_is_that_of_python() {
        let value = json!({"a": [1, 2.5, {}], "b": {"c": "é<\"\n", "d": null}, "e": []});
        assert_eq!(
            json_dumps(&value, None),
            r#"{"a": [1, 2.5, {}], "b": {"c": "é<\"\n", "d": null}, "e": []}"#
        );
        let lines = "{\n  \"a\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"b\": {\n    \"c\": \"é<\\\"\\n\",\n    \"d\": null\n  },\n  \"e\": []\n}";
        assert_eq!(json_dumps(&value, Some(2)), lines);
    }

    #[test]
    fn dates_are_those_of_python() {
        assert_eq!(strftime("%Y-%m-%d %H:%M:%S %j %a", 0), "1970-01-01 00:00:00 001 Thu");
        assert_eq!(strftime("%d %B %y, %A, %I %p", 951_827_696), "29 February 00, Tuesday, 12 PM");
        assert_eq!(strftime("%d %b %Y %j", 1_735_603_200), "31 Dec 2024 366");
        assert_eq!(strftime("100%% %q %", 0), "100% %q %");
    }
}
