//! Every user's grants, from a picture of all roles and assignments that is looked at anew every few seconds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::{Role, RoleAssignment};
use parking_lot::RwLock;
use store::{Query, Store, StoreError, StoreExt};

use super::Grants;

/// A change that nobody told of is seen after this long: `squall rbac apply` on another host, another node's login.
pub const FRESH: Duration = Duration::from_secs(5);

/// Answers what a user may do.
#[derive(Debug)]
pub struct Directory {
    store: Arc<dyn Store>,
    state: RwLock<State>,
    /// One reader of the store at a time; the others wait for what it finds.
    reading: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Goes up with [`Directory::forget`]: a picture that was begun before doesn't count.
    generation: u64,
    picture: Option<Arc<Picture>>,
}

#[derive(Debug)]
struct Picture {
    taken: Instant,
    users: HashMap<String, Arc<Grants>>,
    nobody: Arc<Grants>,
}

impl Picture {
    fn of(&self, user: &str) -> Arc<Grants> {
        self.users.get(user).unwrap_or(&self.nobody).clone()
    }
}

impl Directory {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, state: RwLock::default(), reading: tokio::sync::Mutex::default() }
    }

    /// What the user's roles grant; nothing if there are none. Without the store there is no answer.
    pub async fn grants(&self, user: &str) -> Result<Arc<Grants>, StoreError> {
        if let Some(picture) = self.fresh() {
            return Ok(picture.of(user));
        }
        let _one = self.reading.lock().await;
        if let Some(picture) = self.fresh() {
            return Ok(picture.of(user));
        }
        let generation = self.state.read().generation;
        let picture = Arc::new(self.take().await?);
        let mut state = self.state.write();
        if state.generation == generation {
            state.picture = Some(picture.clone());
        }
        Ok(picture.of(user))
    }

    /// Called after roles or assignments changed.
    pub fn forget(&self) {
        let mut state = self.state.write();
        state.generation += 1;
        state.picture = None;
    }

    fn fresh(&self) -> Option<Arc<Picture>> {
        let state = self.state.read();
        state.picture.as_ref().filter(|picture| picture.taken.elapsed() < FRESH).cloned()
    }

    async fn take(&self) -> Result<Picture, StoreError> {
        // Before the reads: what changes meanwhile is seen next time.
        let taken = Instant::now();
        let roles: BTreeMap<String, Role> = self
            .store
            .search::<Role>(&Query::all())
            .await?
            .into_iter()
            .map(|role| (role.name.clone(), role.doc))
            .collect();
        let mut of_user: HashMap<String, Vec<&Role>> = HashMap::new();
        for assignment in self.store.search::<RoleAssignment>(&Query::all()).await? {
            if let Some(role) = roles.get(&assignment.role) {
                of_user.entry(assignment.doc.user).or_default().push(role);
            }
        }
        let users = of_user.into_iter().map(|(user, roles)| (user, Arc::new(Grants::of(roles)))).collect();
        Ok(Picture { taken, users, nobody: Arc::default() })
    }
}
