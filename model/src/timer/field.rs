//! One cron field: its expressions, compiled to the set of values that match (spec/scheduling.md §10.1).

/// What a field counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub name: &'static str,
    pub min: u32,
    pub max: u32,
    names: &'static [&'static str],
}

const MONTHS: &[&str] = &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: &[&str] = &["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const POSITIONS: [&str; 6] = ["1st", "2nd", "3rd", "4th", "5th", "last"];

/// In the order that decides the defaults of omitted fields.
pub(super) const KINDS: [Kind; 8] = [
    Kind { name: "year", min: 1970, max: 9999, names: &[] },
    Kind { name: "month", min: 1, max: 12, names: MONTHS },
    Kind { name: "day", min: 1, max: 31, names: &[] },
    Kind { name: "week", min: 1, max: 53, names: &[] },
    Kind { name: "day_of_week", min: 0, max: 6, names: WEEKDAYS },
    Kind { name: "hour", min: 0, max: 23, names: &[] },
    Kind { name: "minute", min: 0, max: 59, names: &[] },
    Kind { name: "second", min: 0, max: 59, names: &[] },
];

/// A weekday of the month, `2nd tue`; position 5 is the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub nth: u32,
    /// 0 is Monday.
    pub weekday: u32,
}

/// Values first, first + step, … up to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    first: u32,
    last: u32,
    step: u32,
}

impl Span {
    /// The least value that is not less than `from`.
    fn next(&self, from: u32) -> Option<u32> {
        let from = from.max(self.first);
        let value = self.first + (from - self.first).div_ceil(self.step) * self.step;
        (value <= self.last).then_some(value)
    }
}

/// A compiled field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field {
    spans: Vec<Span>,
    /// Only days have these two.
    pub positions: Vec<Position>,
    pub last_day: bool,
    /// Some expression is `*` or `*/n`.
    pub has_star: bool,
}

impl Field {
    pub(super) fn any(kind: Kind) -> Self {
        Self::of(Span { first: kind.min, last: kind.max, step: 1 }, true)
    }

    pub(super) fn least(kind: Kind) -> Self {
        Self::of(Span { first: kind.min, last: kind.min, step: 1 }, false)
    }

    fn of(span: Span, has_star: bool) -> Self {
        Self { spans: vec![span], positions: Vec::new(), last_day: false, has_star }
    }

    /// The least matching value that is not less than `from`, days by name not counted.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        self.spans.iter().filter_map(|span| span.next(from)).min()
    }

    pub(super) fn contains(&self, value: u32) -> bool {
        self.spans.iter().any(|span| span.next(value) == Some(value))
    }

    /// Compiles the comma-separated expressions of a field.
    pub(super) fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let mut field = Self { spans: Vec::new(), positions: Vec::new(), last_day: false, has_star: false };
        for expression in text.split(',') {
            field.add(kind, expression.trim())?;
        }
        Ok(field)
    }

    fn add(&mut self, kind: Kind, expression: &str) -> Result<(), String> {
        let lower = expression.to_ascii_lowercase();
        if let Some(rest) = lower.strip_prefix('*') {
            let step = match rest.strip_prefix('/') {
                Some(step) => number(step),
                None if rest.is_empty() => Some(1),
                None => None,
            };
            let step = step.ok_or_else(|| unrecognized(kind, expression))?;
            check_step(expression, step, kind.max - kind.min)?;
            self.has_star = true;
            self.spans.push(Span { first: kind.min, last: kind.max, step });
            return Ok(());
        }
        if lower.starts_with(|c: char| c.is_ascii_digit()) && !(kind.name == "day" && lower.contains(' ')) {
            let span = range(kind, expression, &lower)?;
            self.spans.push(span);
            return Ok(());
        }
        if kind.name == "day" {
            return self.add_day(kind, expression, &lower);
        }
        self.spans.push(named(kind, expression, &lower)?);
        Ok(())
    }

    /// `last` and `<nth> <weekday>`.
    fn add_day(&mut self, kind: Kind, expression: &str, lower: &str) -> Result<(), String> {
        if lower == "last" {
            self.last_day = true;
            return Ok(());
        }
        let mut words = lower.split_whitespace();
        let (Some(position), Some(weekday), None) = (words.next(), words.next(), words.next()) else {
            return Err(unrecognized(kind, expression));
        };
        let Some(nth) = POSITIONS.iter().position(|name| *name == position) else {
            return Err(unrecognized(kind, expression));
        };
        let Some(weekday) = WEEKDAYS.iter().position(|name| *name == weekday) else {
            return Err(format!("Invalid weekday name \"{weekday}\""));
        };
        self.positions.push(Position { nth: small(nth), weekday: small(weekday) });
        Ok(())
    }
}

/// `a`, `a-b`, `a-b/n`, `a/n`.
fn range(kind: Kind, expression: &str, text: &str) -> Result<Span, String> {
    let (values, step) = match text.split_once('/') {
        Some((values, step)) => (values, Some(number(step).ok_or_else(|| unrecognized(kind, expression))?)),
        None => (text, None),
    };
    let (first, last) = match values.split_once('-') {
        Some((first, last)) => (first, Some(number(last).ok_or_else(|| unrecognized(kind, expression))?)),
        None => (values, None),
    };
    let first = number(first).ok_or_else(|| unrecognized(kind, expression))?;
    let last = last.or_else(|| step.is_none().then_some(first));
    if last.is_some_and(|last| first > last) {
        return Err("The minimum value in a range must not be higher than the maximum".to_owned());
    }
    let invalid = |what: String| Err(format!("Error validating expression '{expression}': {what}"));
    if first < kind.min {
        return invalid(format!("the first value ({first}) is lower than the minimum value ({})", kind.min));
    }
    if let Some(last) = last.filter(|last| *last > kind.max) {
        return invalid(format!("the last value ({last}) is higher than the maximum value ({})", kind.max));
    }
    if first > kind.max {
        return invalid(format!("the first value ({first}) is higher than the maximum value ({})", kind.max));
    }
    let last = last.unwrap_or(kind.max);
    if let Some(step) = step {
        check_step(expression, step, last - first)?;
    }
    Ok(Span { first, last, step: step.unwrap_or(1) })
}

/// `x`, `x-y`; a step behind them is read and has no effect, as in StackStorm.
fn named(kind: Kind, expression: &str, text: &str) -> Result<Span, String> {
    let names = match text.split_once('/') {
        Some((names, step)) if number(step).is_some() => names,
        Some(_) => return Err(unrecognized(kind, expression)),
        None => text,
    };
    let (first, last) = names.split_once('-').unwrap_or((names, names));
    let value = |name: &str| {
        let found = kind.names.iter().position(|known| *known == name);
        found.map(|index| small(index) + kind.min).ok_or_else(|| unrecognized(kind, expression))
    };
    let (first, last) = (value(first)?, value(last)?);
    if first > last {
        return Err("The minimum value in a range must not be higher than the maximum".to_owned());
    }
    Ok(Span { first, last, step: 1 })
}

fn check_step(expression: &str, step: u32, span: u32) -> Result<(), String> {
    if step == 0 {
        return Err("Increment must be higher than 0".to_owned());
    }
    if step > 1 && step > span {
        return Err(format!(
            "Error validating expression '{expression}': the step value ({step}) is higher than the total range of the \
             expression ({span})"
        ));
    }
    Ok(())
}

fn unrecognized(kind: Kind, expression: &str) -> String {
    format!("Unrecognized expression \"{expression}\" for field \"{}\"", kind.name)
}

fn number(text: &str) -> Option<u32> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Indexes into the short tables above.
fn small(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}
