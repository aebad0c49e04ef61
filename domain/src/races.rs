//! Optimistic writes: how often one that lost to another writer is tried again.

/// Contention ends long before; a write that still loses then loses to something that stays.
const TRIES: u32 = 32;

/// Counts the tries of one write.
#[derive(Debug, Default)]
pub struct Races(u32);

impl Races {
    /// Another writer was first: the caller reads again and tries again.
    ///
    /// # Errors
    /// `error` itself once it can't be a race: a document that keeps its unique key from being taken and that the
    /// caller's query doesn't find would be waited for without end.
    pub fn lost<E>(&mut self, error: E) -> Result<(), E> {
        self.0 += 1;
        if self.0 < TRIES { Ok(()) } else { Err(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_ends_is_told() {
        let mut races = Races::default();
        let tries = (1_u32..1000).find(|_| races.lost("taken").is_err());
        assert_eq!(tries, Some(TRIES));
    }
}
