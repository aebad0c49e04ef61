//! Which runner serves which runner type: one line each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::runner::Runner;
use crate::unavailable::Unavailable;
use crate::{announcement, http_request, local_shell_cmd, local_shell_script, noop, python_script};

/// Runner types by name.
#[derive(Debug)]
pub struct Registry {
    runners: HashMap<&'static str, Arc<dyn Runner>>,
    missing: Arc<dyn Runner>,
}

impl Default for Registry {
    fn default() -> Self {
        let runners: [(&'static str, Arc<dyn Runner>); 6] = [
            ("noop", Arc::new(noop::Noop)),
            ("announcement", Arc::new(announcement::Announcement)),
            ("local-shell-cmd", Arc::new(local_shell_cmd::LocalShellCmd)),
            ("local-shell-script", Arc::new(local_shell_script::LocalShellScript)),
            ("python-script", Arc::new(python_script::PythonScript)),
            ("http-request", Arc::new(http_request::HttpRequest)),
        ];
        Self { runners: runners.into(), missing: Arc::new(Unavailable) }
    }
}

impl Registry {
    /// With one more runner, or another one for a type: for runners that need more than this crate has.
    #[must_use]
    pub fn with(mut self, runner_type: &'static str, runner: Arc<dyn Runner>) -> Self {
        self.runners.insert(runner_type, runner);
        self
    }

    /// The runner of a type; one that says that there is none, if there is none.
    pub fn get(&self, runner_type: &str) -> &Arc<dyn Runner> {
        self.runners.get(runner_type).unwrap_or(&self.missing)
    }
}
