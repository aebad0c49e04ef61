//! From the parameters to hosts with logins and a command.

use std::sync::Arc;

use model::Object;
use serde_json::Value;

use super::connect::Login;
use super::credentials::Given;
use super::options::SshOptions;
use super::outcome::HostError;
use super::ssh_config::{self, HostConfig};
use super::target::{SSH_PORT, Target, parse_host, parse_hosts, result_keys};
use crate::runner::Failure;
use crate::shell::execute::text;

/// One host of the run: its key in the result, and how to get there.
#[derive(Debug, Clone)]
pub struct Destination {
    pub key: String,
    pub route: Result<Arc<Route>, HostError>,
}

/// A login, and the one before it.
#[derive(Debug)]
pub struct Route {
    pub login: Login,
    pub bastion: Option<Login>,
}

struct Planner<'a> {
    parameters: &'a Object,
    options: &'a SshOptions,
    given: Given,
    config: String,
    port: Option<u16>,
}

/// The hosts that `hosts` names, in its order, each once.
pub async fn hosts(parameters: &Object, options: &SshOptions, execution: &str) -> Result<Vec<Destination>, Failure> {
    let targets = parse_hosts(text(parameters, "hosts").unwrap_or_default()).map_err(Failure)?;
    if targets.is_empty() {
        return Err(Failure::new(format!("No hosts specified to run action for action {execution}.")));
    }
    let given = Given::from(parameters).await.map_err(Failure)?;
    let config = match &options.config_file {
        Some(file) => ssh_config::read(file).await.map_err(Failure)?,
        None => String::new(),
    };
    let port = port(parameters)?;
    let planner = Planner { parameters, options, given, config, port };
    let configs: Vec<HostConfig> =
        targets.iter().map(|target| ssh_config::lookup(&planner.config, &target.host)).collect();
    let ports: Vec<u16> = targets.iter().zip(&configs).map(|(target, config)| planner.port(target, config)).collect();
    let keys = result_keys(&targets, &ports);
    let mut stops: Vec<Destination> = Vec::new();
    for ((target, config), (key, port)) in targets.iter().zip(&configs).zip(keys.into_iter().zip(ports)) {
        if stops.iter().any(|stop| stop.key == key) {
            continue;
        }
        let route = planner.route(target, config, port).await;
        let route = route.map_err(|cause| HostError::Connect { host: target.host.clone(), cause });
        stops.push(Destination { key, route: route.map(Arc::new) });
    }
    Ok(stops)
}

fn port(parameters: &Object) -> Result<Option<u16>, Failure> {
    match parameters.get("port") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
            Ok(Some(port.ok_or_else(|| Failure::new(format!("Invalid port {value}")))?))
        }
    }
}

impl Planner<'_> {
    fn port(&self, target: &Target, config: &HostConfig) -> u16 {
        let parameter = self.port.filter(|port| *port != SSH_PORT);
        target.port.or(parameter).or(config.port).unwrap_or(SSH_PORT)
    }

    async fn route(&self, target: &Target, config: &HostConfig, port: u16) -> Result<Route, String> {
        if config.proxy_command.is_some() {
            return Err("Its ssh configuration has a ProxyCommand, which is not supported: use ProxyJump".to_owned());
        }
        let user = text(self.parameters, "username").or(config.user.as_deref()).unwrap_or(&self.options.user);
        let credential = self.given.for_host(config.identity_file.as_deref(), self.options).await?;
        let host = config.host_name.clone().unwrap_or_else(|| target.host.clone());
        let login = Login { host, port, user: user.to_owned(), credential };
        let bastion = text(self.parameters, "bastion_host").or(config.proxy_jump.as_deref());
        let bastion = bastion.map(|bastion| self.bastion(bastion, &login)).transpose()?;
        Ok(Route { login, bastion })
    }

    /// The same credential and the same parameter `port` as for the host itself.
    fn bastion(&self, text: &str, login: &Login) -> Result<Login, String> {
        let (user, host) = match text.split_once('@') {
            Some((user, host)) => (user, host),
            None => (login.user.as_str(), text),
        };
        let target = parse_host(host)?;
        let config = ssh_config::lookup(&self.config, &target.host);
        let port = self.port(&target, &config);
        let host = config.host_name.unwrap_or(target.host);
        Ok(Login { host, port, user: user.to_owned(), credential: login.credential.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    async fn planned(parameters: Value, config: Option<&str>) -> Vec<Destination> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        let mut options = SshOptions::default();
        if let Some(text) = config {
            std::fs::write(&file, text).unwrap();
            options.config_file = Some(file);
        }
        hosts(parameters.as_object().unwrap(), &options, "e").await.unwrap()
    }

    #[tokio::test]
    async fn parameters_come_before_the_configuration() {
        let config = "Host b\n Port 99\n User bob\n HostName 10.0.0.2\nHost c\n ProxyCommand x\n";
        let given = json!({"hosts": "a:1, b, b, c", "password": "p", "username": null, "port": null});
        let stops = planned(given, Some(config)).await;
        assert_eq!(stops.iter().map(|stop| stop.key.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
        let login = |at: usize| stops[at].route.clone().unwrap();
        assert_eq!((login(0).login.user.as_str(), login(0).login.port), ("stanley", 1));
        assert_eq!((login(1).login.user.as_str(), login(1).login.port), ("bob", 99));
        assert_eq!(login(1).login.host, "10.0.0.2");
        assert!(stops[2].route.is_err());
        let given = json!({"hosts": "b", "password": "p", "username": "u", "port": 7, "bastion_host": "gate"});
        let stops = planned(given, Some(config)).await;
        let route = stops[0].route.clone().unwrap();
        assert_eq!((route.login.user.as_str(), route.login.port), ("u", 7));
        let bastion = route.bastion.as_ref().unwrap();
        assert_eq!((bastion.host.as_str(), bastion.port, bastion.user.as_str()), ("gate", 7, "u"));
    }

    #[tokio::test]
    async fn what_is_wrong_is_said() {
        for (parameters, text) in [
            (json!({"hosts": " , "}), "No hosts specified to run action for action e."),
            (json!({"hosts": "a", "passphrase": "x"}), "passphrase should accompany private key material"),
            (
                json!({"hosts": "a", "private_key": "-----BEGIN RSA PRIVATE KEY-----\nx"}),
                "Invalid or unsupported key type",
            ),
            (json!({"hosts": "a", "password": "p", "port": 70000}), "Invalid port 70000"),
        ] {
            let failed = hosts(parameters.as_object().unwrap(), &SshOptions::default(), "e").await.unwrap_err();
            assert_eq!(failed.0, text);
        }
    }
}
