//! Faults of form.

use serde_json::Value;

use super::super::spec::Document;
use super::{Fault, schema};

pub fn faults(document: &Document) -> Vec<Fault> {
    let mut found = Vec::new();
    schema::check(&Value::Object(document.root().clone()), &schema::SCHEMA, "", "", &mut found);
    found
}
