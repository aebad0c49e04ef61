//! Which triggers a webhook's URL fires, from the catalog's triggers of type `core.st2.webhook`.

use std::collections::HashMap;
use std::sync::Arc;

use domain::Services;
use model::Trigger;
use parking_lot::RwLock;
use store::StoreError;

/// The trigger type of webhooks.
pub const WEBHOOK_TYPE: &str = "core.st2.webhook";

type Triggers = Arc<Vec<Arc<Trigger>>>;
type ByUrl = HashMap<String, Vec<Arc<Trigger>>>;

/// URL → triggers, made anew when the catalog's list changes.
#[derive(Debug, Default)]
pub struct Hooks {
    index: RwLock<Option<(Triggers, Arc<ByUrl>)>>,
}

impl Hooks {
    /// Triggers by URL, stripped of slashes at its ends.
    pub async fn by_url(&self, services: &Services) -> Result<Arc<ByUrl>, StoreError> {
        let triggers = services.catalog.triggers_of_type(WEBHOOK_TYPE).await?;
        if let Some((of, index)) = self.index.read().as_ref()
            && Arc::ptr_eq(of, &triggers)
        {
            return Ok(index.clone());
        }
        let mut index = ByUrl::new();
        for trigger in triggers.iter() {
            if let Some(url) = trigger.parameters.get("url").and_then(|url| url.as_str()) {
                index.entry(url.trim_matches('/').to_owned()).or_default().push(trigger.clone());
            }
        }
        let index = Arc::new(index);
        *self.index.write() = Some((triggers, index.clone()));
        Ok(index)
    }
}
