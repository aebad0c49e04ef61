//! Finding documents by declared keys.

use model::Key;

/// One condition on a declared field; a query's conditions are ANDed.
#[derive(Debug, Clone, PartialEq)]
pub enum Cond {
    Eq(&'static str, Key),
    /// Another value, or none at all.
    Ne(&'static str, Key),
    In(&'static str, Vec<Key>),
    /// Less, and present; so for the next three.
    Lt(&'static str, Key),
    Le(&'static str, Key),
    Gt(&'static str, Key),
    Ge(&'static str, Key),
    /// Text that starts with; every character of the prefix stands for itself.
    Prefix(&'static str, String),
    /// The document lacks the key.
    Absent(&'static str),
    Present(&'static str),
    /// The document's id is one of these.
    IdIn(Vec<model::Id>),
    /// Keyset paging by id: ids greater than this one.
    IdAfter(model::Id),
}

/// Direction of one sort field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Asc(&'static str),
    Desc(&'static str),
}

/// A search in one collection.
///
/// Text is ordered by its code points, integers by value; documents that lack the field come first in ascending order
/// and last in descending. Ties, and everything if no order is given, are ordered by id, ascending.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Query {
    pub conds: Vec<Cond>,
    pub order: Vec<Order>,
    /// None: everything, in one answer. Callers that face users always give one.
    pub limit: Option<u64>,
    pub offset: u64,
}

impl Query {
    pub fn all() -> Self {
        Self::default()
    }

    pub fn filter(cond: Cond) -> Self {
        Self { conds: vec![cond], ..Self::default() }
    }

    pub fn eq(field: &'static str, key: impl Into<Key>) -> Self {
        Self::filter(Cond::Eq(field, key.into()))
    }

    #[must_use]
    pub fn and(mut self, cond: Cond) -> Self {
        self.conds.push(cond);
        self
    }

    #[must_use]
    pub fn order(mut self, order: Order) -> Self {
        self.order.push(order);
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = Some(limit);
        self
    }

    #[must_use]
    pub fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }
}

/// The least text that is greater than every text with this prefix; none if there is no such text.
pub fn after_prefix(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The next character: over the gap that surrogates leave, and none after the last.
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            other => char::from_u32(u32::from(other) + 1),
        };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::after_prefix;

    #[test]
    fn the_end_of_a_prefix_range() {
        assert_eq!(after_prefix("ab").as_deref(), Some("ac"));
        assert_eq!(after_prefix("a\u{10ffff}").as_deref(), Some("b"));
        assert_eq!(after_prefix("\u{d7ff}").as_deref(), Some("\u{e000}"));
        assert_eq!(after_prefix("\u{10ffff}"), None);
        assert_eq!(after_prefix(""), None);
    }
}
