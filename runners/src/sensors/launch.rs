//! Starting a sensor's process.
//!
//! A Python sensor is a fork of a warm interpreter, so that sensors share what memory they can, or a fresh interpreter
//! where its pack has a virtualenv. Any other file is started as it is and finds the channel by `SQUALL_SENSOR_FD`.

use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use domain::pack_config::pack_config;
use model::{Id, Object};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::files::Files;
use super::known::Spec;
use super::{SensorOptions, protocol};
use crate::process::Command;
use crate::process::spawn::{Environment, own_environment};
use crate::python_script::control;
use crate::python_script::host::{PythonHost, Started};
use crate::python_script::interpreter::{self, Interpreter};
use crate::runner::Failure;
use domain::Services;
use domain::action_token::ActionTokens;

/// The descriptor of the channel in a process that is no Python.
const CHANNEL_FD: i32 = 3;
/// StackStorm's name of the user that sensors act as (spec/sensors.md §4).
const USER: &str = "sensor_service";
/// How long a process may take to read what it is to run.
const HAND_OVER: Duration = Duration::from_secs(20);

/// What starting takes.
#[derive(Debug)]
pub struct Launcher {
    pub options: SensorOptions,
    pub tokens: ActionTokens,
    pub python: PythonHost,
    pub environment: Environment,
}

/// A started process and its first message.
#[derive(Debug)]
pub struct Launched {
    pub started: Started,
    pub start: Value,
    /// For `core.st2.sensor.process_spawn`.
    pub command: String,
    /// The code beside it, as it was before the process began.
    pub files: Files,
}

impl Launcher {
    pub fn new(mut options: SensorOptions, tokens: ActionTokens) -> Self {
        options.python.preload = ["squall_host.sensor", "http.client"].map(str::to_owned).to_vec();
        let python = PythonHost::new(options.python.clone());
        Self { python, options, tokens, environment: own_environment() }
    }

    pub fn token(&self, services: &Services, sensor: Id) -> String {
        self.tokens.issue(sensor, USER, services.now(), self.options.token_ttl)
    }

    /// Starts it; `until` is when its lease ends, in seconds of CLOCK_MONOTONIC.
    pub async fn launch(&self, services: &Services, spec: &Spec, until: f64) -> Result<Launched, Failure> {
        let row = &spec.row;
        let pack_directory = pack_directory(services, spec).await?;
        let file = entry_file(spec, &pack_directory)?;
        let config = pack_config(services, &row.pack, &services.settings.system_user).await?;
        let token = self.token(services, row.id);
        let start = json!({
            "type": "start", "protocol": protocol::VERSION, "ref": row.reference, "pack": row.pack,
            "class_name": row.name, "poll_interval": row.poll_interval, "config": config,
            "trigger_types": row.trigger_types, "lease_until": until, "api_url": self.options.api_url, "token": token,
            "pack_directory": pack_directory, "max_line": self.options.max_line,
            "max_page_size": self.options.max_page_size,
        });
        let is_python = file.extension().is_some_and(|extension| extension == "py");
        if !tokio::fs::try_exists(&file).await.unwrap_or(false) {
            return Err(Failure::new(format!("the sensor's file {} is not on this node", file.display())));
        }
        let beside = file.clone();
        let files = tokio::task::spawn_blocking(move || Files::beside(&beside)).await.unwrap_or_default();
        let (started, command) = if is_python {
            let interpreter = self.python.interpreter_of(services, &row.pack, &pack_directory).await?;
            let request = self.request(services, spec, &pack_directory, &file, &interpreter, &token).await;
            let command = format!("{} {}", interpreter.executable.display(), file.display());
            (self.start_python(&interpreter, &request).await?, command)
        } else {
            (self.start_other(services, &file, &token)?, file.display().to_string())
        };
        Ok(Launched { started, start, command, files })
    }

    async fn start_python(&self, interpreter: &Interpreter, request: &Value) -> Result<Started, Failure> {
        // A warm interpreter for each virtualenv would cost more memory than its one or two sensors save.
        let mut started = match interpreter.virtualenv {
            None => self.python.start(&interpreter.executable).await?,
            Some(_) => self.python.start_fresh(&interpreter.executable)?,
        };
        let request = request.to_string();
        let sent = async {
            started.control.write_all(&(request.len() as u64).to_le_bytes()).await?;
            started.control.write_all(request.as_bytes()).await
        };
        match tokio::time::timeout(HAND_OVER, sent).await {
            // One that ended already says why on stderr.
            Ok(_) => Ok(started),
            Err(_) => Err(Failure::new("the Python interpreter does not read what it is to run")),
        }
    }

    fn start_other(&self, services: &Services, file: &Path, token: &str) -> Result<Started, Failure> {
        let (pipes, stdout, stderr) = crate::process::Pipes::open()?;
        let (control, theirs): (UnixStream, OwnedFd) = control::pair()?;
        let mut environment = self.environment.clone();
        environment.extend(self.variables(services, token));
        environment.insert("SQUALL_SENSOR_FD".to_owned(), CHANNEL_FD.to_string());
        let program = file.to_string_lossy().into_owned();
        let command = Command {
            args: vec![program.clone()],
            program,
            environment,
            descriptors: vec![(stdout, 1), (stderr, 2), (theirs, CHANNEL_FD)],
        };
        let child =
            command.spawn().map_err(|error| Failure::new(format!("{} can't be started: {error}", file.display())))?;
        Ok(Started { process: Box::new(child), pipes, control })
    }

    fn variables(&self, services: &Services, token: &str) -> Vec<(String, String)> {
        let socket = self.options.api_socket.as_ref();
        let socket = socket.map(|path| ("ST2_ACTION_API_SOCKET".to_owned(), path.to_string_lossy().into_owned()));
        let mut variables = vec![
            ("ST2_API_URL".to_owned(), self.options.api_url.clone()),
            ("ST2_ACTION_API_URL".to_owned(), self.options.api_url.clone()),
            ("ST2_AUTH_TOKEN".to_owned(), token.to_owned()),
            ("ST2_ACTION_AUTH_TOKEN".to_owned(), token.to_owned()),
            ("SQUALL_BASE_PATH".to_owned(), services.settings.base_path.to_string_lossy().into_owned()),
        ];
        variables.extend(socket);
        variables
    }

    /// See `sdk/python/squall_host/sensor.py`.
    async fn request(
        &self,
        services: &Services,
        spec: &Spec,
        pack_directory: &Path,
        file: &Path,
        interpreter: &Interpreter,
        token: &str,
    ) -> Value {
        let row = &spec.row;
        let path = self.import_path(row.pack.as_str(), pack_directory, interpreter).await;
        let mut env: Object =
            self.variables(services, token).into_iter().map(|(name, value)| (name, value.into())).collect();
        if let Some(virtualenv) = &interpreter.virtualenv {
            let inherited = self.environment.get("PATH").cloned().unwrap_or_default();
            env.insert("PATH".to_owned(), format!("{}/bin/:{inherited}", virtualenv.display()).into());
        }
        let sdk = &self.options.python.sdk_path;
        let mut entries: Vec<String> = path.iter().map(|entry| entry.to_string_lossy().into_owned()).collect();
        entries.extend(self.environment.get("PYTHONPATH").cloned());
        entries.push(sdk.to_string_lossy().into_owned());
        env.insert("PYTHONPATH".to_owned(), entries.join(":").into());
        json!({
            "kind": "sensor", "file_path": file, "pack": row.pack, "class_name": row.name,
            "poll_interval": row.poll_interval, "log_level": self.options.python.log_level, "env": env, "path": path,
            "limits": self.options.python.memory_limit.map(|bytes| json!({"as": bytes})),
        })
    }

    /// What comes before the standard library; the directory of the sensor's file comes last (spec/sensors.md §2).
    async fn import_path(&self, pack: &str, pack_directory: &Path, interpreter: &Interpreter) -> Vec<PathBuf> {
        let mut path = Vec::new();
        if interpreter::is_system(pack) {
            return path;
        }
        if self.options.python.enable_common_libs {
            path.push(pack_directory.join("lib"));
        }
        if let Some(virtualenv) = &interpreter.virtualenv {
            path.extend(self.python.library_directories(virtualenv).await);
        }
        path
    }
}

/// Where the pack lies on this node.
async fn pack_directory(services: &Services, spec: &Spec) -> Result<PathBuf, Failure> {
    let pack = &spec.row.pack;
    let own = services.settings.pack_dirs.iter().map(|directory| directory.join(pack));
    for candidate in own.chain(spec.pack_path.as_ref().map(PathBuf::from)) {
        if tokio::fs::try_exists(&candidate).await.unwrap_or(false) {
            return Ok(std::path::absolute(candidate)?);
        }
    }
    Err(Failure::new(format!("the directory of pack \"{pack}\" is not on this node")))
}

fn entry_file(spec: &Spec, pack_directory: &Path) -> Result<PathBuf, Failure> {
    let file = &spec.file;
    let is_below = file.components().all(|part| matches!(part, Component::Normal(_)));
    if is_below && file.components().next().is_some() {
        Ok(pack_directory.join("sensors").join(file))
    } else {
        Err(Failure::new(format!("the sensor's file {} does not lie below its pack's folder sensors", file.display())))
    }
}
