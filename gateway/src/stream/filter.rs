//! Which events a client wants.

use model::Id;

use super::hub::{About, Meta};
use crate::http::Query;

/// Sent to clients that don't say which events they want.
const DEFAULT: [&str; 7] = [
    "st2.announcement__*",
    "st2.execution__create",
    "st2.execution__update",
    "st2.execution__delete",
    "st2.liveaction__create",
    "st2.liveaction__update",
    "st2.liveaction__delete",
];

/// The query parameters of `GET /stream`.
#[derive(Debug, Clone)]
pub struct Filter {
    events: Vec<String>,
    actions: Vec<String>,
    executions: Vec<String>,
    end_event: Option<String>,
    end_execution: Option<String>,
    /// Sees only this user's executions.
    only_user: Option<String>,
}

impl Filter {
    /// `only_user`: whose executions alone may be seen, under isolation.
    pub fn parse(query: &Query, only_user: Option<&str>) -> Self {
        let owned = |name: &str| query.list(name).into_iter().map(str::to_owned).collect::<Vec<_>>();
        let mut events = owned("events");
        if events.is_empty() {
            events = DEFAULT.map(str::to_owned).to_vec();
        }
        Self {
            events,
            actions: owned("action_refs"),
            executions: owned("execution_ids"),
            end_event: query.text("end_event").map(str::to_owned),
            end_execution: query.text("end_execution_id").map(str::to_owned),
            only_user: only_user.map(str::to_owned),
        }
    }

    pub fn is_isolated(&self) -> bool {
        self.only_user.is_some()
    }

    pub fn wants(&self, event: &Meta) -> bool {
        // Announcements and aliases are about nobody's execution.
        if event.about != About::Other && self.only_user.is_some() && self.only_user != event.user {
            return false;
        }
        let named = self.events.iter().any(|glob| matches(glob, &event.name));
        let action = || event.action.as_ref().is_some_and(|action| self.actions.contains(action));
        let execution =
            || event.about != About::Liveaction && event.id.is_some_and(|id| is_one_of(&self.executions, id));
        named && (self.actions.is_empty() || action()) && (self.executions.is_empty() || execution())
    }

    /// Whether the stream ends after this event.
    pub fn ends(&self, event: &Meta) -> bool {
        let (Some(name), Some(execution)) = (&self.end_event, &self.end_execution) else { return false };
        event.completed && event.name == *name && event.id.is_some_and(|id| id.to_string() == *execution)
    }
}

fn is_one_of(ids: &[String], id: Id) -> bool {
    let id = id.to_string();
    ids.contains(&id)
}

/// Shell globs: `*`, `?`, `[abc]`, `[!a-z]`.
fn matches(glob: &str, text: &str) -> bool {
    fn step(glob: &[char], text: &[char]) -> bool {
        match glob.first() {
            None => text.is_empty(),
            Some('*') => step(&glob[1..], text) || (!text.is_empty() && step(glob, &text[1..])),
            Some('?') => !text.is_empty() && step(&glob[1..], &text[1..]),
            Some('[') => match (glob.iter().skip(2).position(|&c| c == ']'), text.first()) {
                (Some(end), Some(&c)) => {
                    let set = &glob[1..end + 2];
                    in_set(set, c) && step(&glob[end + 3..], &text[1..])
                }
                (Some(_), None) => false,
                (None, _) => text.first() == Some(&'[') && step(&glob[1..], &text[1..]),
            },
            Some(c) => text.first() == Some(c) && step(&glob[1..], &text[1..]),
        }
    }
    // Many stars would take exponential time; nobody needs them.
    const MOST_STARS: usize = 4;
    if glob.matches('*').count() > MOST_STARS {
        return false;
    }
    step(&glob.chars().collect::<Vec<_>>(), &text.chars().collect::<Vec<_>>())
}

fn in_set(set: &[char], c: char) -> bool {
    let (negated, set) = match set.first() {
        Some('!') => (true, &set[1..]),
        _ => (false, set),
    };
    let mut found = false;
    let mut i = 0;
    while i < set.len() {
        if i + 2 < set.len() && set[i + 1] == '-' {
            found |= (set[i]..=set[i + 2]).contains(&c);
            i += 3;
        } else {
            found |= set[i] == c;
            i += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (glob, text, expected) in [
            ("st2.announcement__*", "st2.announcement__chatops", true),
            ("*", "anything", true),
            ("st2.execution__?reate", "st2.execution__create", true),
            ("st2.execution__[cu]*", "st2.execution__update", true),
            ("st2.execution__[!c]*", "st2.execution__create", false),
            ("st2.execution__[a-d]reate", "st2.execution__create", true),
            ("st2.execution", "st2.execution__create", false),
            ("[", "[", true),
        ] {
            assert_eq!(matches(glob, text), expected, "{glob} {text}");
        }
    }

    fn event(name: &str, about: About, action: Option<&str>, id: Option<&str>) -> Meta {
        Meta {
            name: name.to_owned(),
            about,
            action: action.map(str::to_owned),
            id: id.map(|id| id.parse().unwrap()),
            completed: true,
            user: Some("ana".to_owned()),
        }
    }

    #[test]
    fn parameters() {
        let id = "6553f1000000000000000000";
        let execution = event("st2.execution__update", About::Execution, Some("core.noop"), Some(id));
        let live = event("st2.liveaction__update", About::Liveaction, Some("core.noop"), Some(id));
        let announcement = event("st2.announcement__x", About::Other, None, None);
        let output = event("st2.execution.output__create", About::Output, Some("core.noop"), Some(id));
        let wanted = |query: &str| {
            let filter = Filter::parse(&Query::parse(Some(query)), None);
            [&execution, &live, &announcement, &output].map(|event| filter.wants(event))
        };
        assert_eq!(wanted(""), [true, true, true, false]);
        assert_eq!(wanted("events=st2.execution.output__create"), [false, false, false, true]);
        assert_eq!(wanted("action_refs=core.noop,a.b"), [true, true, false, false]);
        assert_eq!(wanted("action_refs=a.b"), [false; 4]);
        assert_eq!(wanted(&format!("execution_ids={id}")), [true, false, false, false]);
        let ending = format!("end_event=st2.execution__update&end_execution_id={id}");
        let filter = Filter::parse(&Query::parse(Some(&ending)), None);
        assert!(filter.ends(&execution) && !filter.ends(&live));
        let seen_by = |user: &str| {
            let filter = Filter::parse(&Query::parse(Some("events=*")), Some(user));
            let unknown = Meta { user: None, ..output.clone() };
            [&execution, &live, &output, &announcement, &unknown].map(|event| filter.wants(event))
        };
        assert_eq!(seen_by("ana"), [true, true, true, true, false]);
        assert_eq!(seen_by("bob"), [false, false, false, true, false]);
    }
}
