//! Which runner serves which runner type: one line each.

use std::collections::HashMap;
use std::sync::Arc;

use crate::runner::Runner;
use crate::unavailable::Unavailable;
use crate::{
    announcement, chat_result, http_request, inquirer, local_shell_cmd, local_shell_script, noop, pack_management,
    python_script, remote, winrm,
};

/// Runner types by name.
#[derive(Debug)]
pub struct Registry {
    runners: HashMap<&'static str, Arc<dyn Runner>>,
    /// Actions that the node does itself, by ref, whatever their runner type says.
    native: HashMap<&'static str, Arc<dyn Runner>>,
    missing: Arc<dyn Runner>,
}

impl Default for Registry {
    fn default() -> Self {
        let runners: [(&'static str, Arc<dyn Runner>); 12] = [
            ("noop", Arc::new(noop::Noop)),
            ("announcement", Arc::new(announcement::Announcement)),
            ("local-shell-cmd", Arc::new(local_shell_cmd::LocalShellCmd)),
            ("local-shell-script", Arc::new(local_shell_script::LocalShellScript)),
            ("python-script", Arc::new(python_script::PythonScript)),
            ("http-request", Arc::new(http_request::HttpRequest)),
            ("inquirer", Arc::new(inquirer::Inquirer)),
            ("remote-shell-cmd", Arc::new(remote::RemoteShellCmd)),
            ("remote-shell-script", Arc::new(remote::RemoteShellScript)),
            ("winrm-cmd", Arc::new(winrm::WinrmCmd)),
            ("winrm-ps-cmd", Arc::new(winrm::WinrmPsCmd)),
            ("winrm-ps-script", Arc::new(winrm::WinrmPsScript)),
        ];
        let packs: Arc<dyn Runner> = Arc::new(pack_management::PackManagement);
        let mut native: HashMap<_, _> =
            pack_management::ACTIONS.into_iter().map(|action| (action, packs.clone())).collect();
        native.insert(chat_result::ACTION, Arc::new(chat_result::ChatResult));
        Self { runners: runners.into(), native, missing: Arc::new(Unavailable) }
    }
}

impl Registry {
    /// With one more runner, or another one for a type: for runners that need more than this crate has.
    #[must_use]
    pub fn with(mut self, runner_type: &'static str, runner: Arc<dyn Runner>) -> Self {
        self.runners.insert(runner_type, runner);
        self
    }

    /// The runner of an action: the node's own, else that of its type; one that says that there is none, if there is
    /// none.
    pub fn get(&self, action: &str, runner_type: &str) -> &Arc<dyn Runner> {
        self.native.get(action).or_else(|| self.runners.get(runner_type)).unwrap_or(&self.missing)
    }
}
