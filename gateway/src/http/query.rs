//! Query parameters with StackStorm's types and error texts (spec/api.md §2).

use std::str::FromStr;

use model::{Id, Timestamp};

use super::error::ApiError;

/// The decoded query string. Parameters that no handler asks for are ignored.
#[derive(Debug, Clone, Default)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: Option<&str>) -> Self {
        let pairs = url::form_urlencoded::parse(text.unwrap_or_default().as_bytes());
        Self(pairs.into_owned().collect())
    }

    /// The last value given, as it is.
    pub fn raw(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// As [`Query::raw`], an empty value counting as absent.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.raw(name).filter(|value| !value.is_empty())
    }

    pub fn integer(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match i64::from_str(value.trim()) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(ApiError::bad_request(format!("Parameter \"{name}\" is not of type integer"))),
        }
    }

    pub fn boolean(&self, name: &str) -> Result<Option<bool>, ApiError> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        match value.to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "y" => Ok(Some(true)),
            "false" | "0" | "no" | "n" => Ok(Some(false)),
            _ => Err(ApiError::bad_request(format!("Parameter \"{name}\" is not of type boolean"))),
        }
    }

    /// False when absent.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        Ok(self.boolean(name)?.unwrap_or(false))
    }

    /// A comma-separated list; empty when absent.
    pub fn list(&self, name: &str) -> Vec<&str> {
        self.text(name).map(|value| value.split(',').filter(|part| !part.is_empty()).collect()).unwrap_or_default()
    }

    /// Ids of `id=`, none when absent.
    pub fn ids(&self, name: &str) -> Result<Option<Vec<Id>>, ApiError> {
        let texts = self.list(name);
        if texts.is_empty() {
            return Ok(None);
        }
        if texts.len() > MAX_IDS {
            return Err(ApiError::bad_request(format!("At most {MAX_IDS} ids can be given in \"{name}\".")));
        }
        let ids: Result<Vec<Id>, _> = texts.into_iter().map(str::parse).collect();
        ids.map(Some).map_err(|error: model::InvalidId| ApiError::bad_request(error.to_string()))
    }
}

/// Most ids that `id=` takes.
pub const MAX_IDS: usize = 100;

/// A timestamp of a query parameter.
pub fn timestamp(value: &str) -> Result<Timestamp, ApiError> {
    // A plus sign of an offset reads as a blank once the query is decoded.
    Timestamp::parse_lenient(value)
        .or_else(|| Timestamp::parse_lenient(&value.replacen(' ', "+", 1)))
        .ok_or_else(|| ApiError::bad_request("Datetime value does not match expected format."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let query = Query::parse(Some("limit=-0&bad=abc&flag=Yes&no=N&list=a,b,,c&empty="));
        assert_eq!(query.integer("limit").unwrap(), Some(0));
        assert_eq!(query.integer("bad").unwrap_err().fault, "Parameter \"bad\" is not of type integer");
        assert!(query.flag("flag").unwrap());
        assert!(!query.flag("no").unwrap());
        assert_eq!(query.flag("bad").unwrap_err().fault, "Parameter \"bad\" is not of type boolean");
        assert_eq!(query.list("list"), ["a", "b", "c"]);
        assert_eq!(query.text("empty"), None);
    }

    #[test]
    fn ids_are_checked() {
        let query = Query::parse(Some("id=zzz"));
        assert!(query.ids("id").unwrap_err().fault.starts_with("'zzz' is not a valid ObjectId"));
    }
}
