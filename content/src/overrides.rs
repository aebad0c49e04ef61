//! `overrides/_global.yaml` and `overrides/<pack>.yaml`: who is enabled, whatever the pack says (spec/packs.md §3.7).

use std::path::Path;

use model::Object;
use serde_json::Value;

use crate::error::ContentError;
use crate::pack_dir::read_object;

/// The two files that speak about a pack.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pack: String,
    global: Object,
    own: Object,
}

impl Overrides {
    /// Files that aren't there override nothing. Blocking.
    pub fn read(base_path: &Path, pack: &str) -> Result<Self, ContentError> {
        let read = |name: &str| -> Result<Object, ContentError> {
            let path = base_path.join("overrides").join(format!("{name}.yaml"));
            if !path.is_file() {
                return Ok(Object::new());
            }
            read_object(&path).map_err(|error| ContentError::Invalid(format!("overrides/{name}.yaml: {error}")))
        };
        Ok(Self { pack: pack.to_owned(), global: read("_global")?, own: read(pack)? })
    }

    /// Whether the resource is enabled, if the files say so. `kind` is `actions`, `rules`, `sensors` or `aliases`.
    pub fn enabled(&self, kind: &str, name: &str) -> Result<Option<bool>, ContentError> {
        let mut enabled = None;
        for settings in [
            self.global.get(kind).and_then(|kind| kind.get("defaults")),
            self.own.get(kind).and_then(|kind| kind.get("defaults")),
            self.own.get(kind).and_then(|kind| kind.pointer("/exceptions")).and_then(|all| all.get(name)),
        ]
        .into_iter()
        .flatten()
        {
            for (key, value) in settings.as_object().into_iter().flatten() {
                match (key.as_str(), value) {
                    ("enabled", Value::Bool(value)) => enabled = Some(*value),
                    _ => {
                        return Err(ContentError::Invalid(format!(
                            "Override attempted with invalid default key {key} in pack {}",
                            self.pack
                        )));
                    }
                }
            }
        }
        Ok(enabled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exceptions_win_over_defaults() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("overrides")).unwrap();
        std::fs::write(dir.path().join("overrides/_global.yaml"), "rules: {defaults: {enabled: false}}").unwrap();
        let own = "rules: {exceptions: {a: {enabled: true}}}\nactions: {defaults: {colour: red}}";
        std::fs::write(dir.path().join("overrides/p.yaml"), own).unwrap();
        let overrides = Overrides::read(dir.path(), "p").unwrap();
        assert_eq!(overrides.enabled("rules", "a"), Ok(Some(true)));
        assert_eq!(overrides.enabled("rules", "b"), Ok(Some(false)));
        assert_eq!(overrides.enabled("sensors", "b"), Ok(None));
        assert!(overrides.enabled("actions", "x").unwrap_err().to_string().contains("colour"));
    }
}
