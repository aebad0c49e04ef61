//! The places of a definition, as faults name them.

const TASK: &str = r"properties.tasks.patternProperties.^\w+$";

/// A place by its path and its path in the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub spec: String,
    pub schema: String,
}

/// `vars`, `input`, `output`.
pub fn section(name: &str) -> Place {
    Place { spec: name.to_owned(), schema: format!("properties.{name}") }
}

pub fn tasks() -> Place {
    section("tasks")
}

pub fn task(name: &str) -> Place {
    Place { spec: format!("tasks.{name}"), schema: TASK.to_owned() }
}

/// A property of a task, also an inner one: `with.items`.
pub fn property(task: &str, path: &str) -> Place {
    let schema = path.replace('.', ".properties.");
    Place { spec: format!("tasks.{task}.{path}"), schema: format!("{TASK}.properties.{schema}") }
}

/// A property of a transition.
pub fn transition(task: &str, at: usize, name: &str) -> Place {
    Place {
        spec: format!("tasks.{task}.next[{at}].{name}"),
        schema: format!("{TASK}.properties.next.items.properties.{name}"),
    }
}

impl Place {
    /// An entry of the list at this place.
    pub fn entry(&self, at: usize) -> Self {
        Self { spec: format!("{}[{at}]", self.spec), schema: self.schema.clone() }
    }
}
