//! Names of Redis keys.

use coordinator::CoordinatorError;

/// All names of a cluster begin with its prefix.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    pub(crate) fn new(prefix: &str) -> Result<Self, CoordinatorError> {
        // Braces would make it a hash tag.
        match prefix.is_empty() || prefix.contains(['{', '}']) {
            true => Err(CoordinatorError::Misuse("the prefix of Redis keys is empty or has braces".to_owned())),
            false => Ok(Self { prefix: prefix.to_owned() }),
        }
    }

    /// One of the Redis keys that hold a key's state; they have one hash tag, so a Redis cluster keeps them together.
    pub(crate) fn of(&self, key: &str, part: &str) -> String {
        let key = key.replace('%', "%25").replace('{', "%7B").replace('}', "%7D");
        format!("{}:{{{key}}}:{part}", self.prefix)
    }

    pub(crate) fn channel(&self) -> String {
        format!("{}:grants", self.prefix)
    }

    pub(crate) fn generation(&self) -> String {
        format!("{}:generation", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_one_hash_tag_and_stay_apart() {
        let names = Names::new("squall").unwrap();
        assert_eq!(names.of("a{b}%c", "known"), "squall:{a%7Bb%7D%25c}:known");
        assert_ne!(names.of("{", "x"), names.of("%7B", "x"));
        assert!(Names::new("").is_err() && Names::new("a{b").is_err());
    }
}
