//! The tree of commands: what each one takes and what it does.

use crate::args::{Arg, Command, entry};
use crate::resources::{Resource, Verb, find};

/// What a command does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A verb of the resource table.
    Resource(&'static str, Verb),
    Run,
    ReRun,
    ExecutionGet,
    Cancel,
    Pause,
    Resume,
    Tail,
    Auth,
    Login,
    WhoAmI,
    ActionClone,
    AliasMatch,
    AliasExecute,
    AliasTest,
    ApiKeyCreate,
    ApiKeyLoad,
    InquiryRespond,
    KeyGet,
    KeySet,
    KeyDelete,
    KeyLoad,
    KeyDeleteByPrefix,
    PackShow,
    PackSearch,
    PackInstall,
    PackRemove,
    PackRegister,
    PackConfig,
    ReEmit,
    SensorState,
    TriggerSpecs,
    TraceGet,
    WorkflowInspect,
    RegistryGroups,
    RegistryMembers,
}

/// A command found on the command line.
#[derive(Debug)]
pub struct Found {
    pub command: Command,
    pub task: Task,
}

const HELP: Arg = Arg::flag(&["-h", "--help"], "Show this help and exit.");
const TOKEN: Arg = Arg::one(&["-t", "--token"], "Access token (else ST2_AUTH_TOKEN).");
const API_KEY: Arg = Arg::one(&["--api-key"], "API key (else ST2_API_KEY).");
const JSON: Arg = Arg::flag(&["-j", "--json"], "Print JSON.");
const YAML: Arg = Arg::flag(&["-y", "--yaml"], "Print YAML.");
const LIST_ATTR: Arg = Arg::some(&["-a", "--attr"], "Columns to show; \"all\" for every attribute.");
const GET_ATTR: Arg = Arg::some(&["-a", "--attr"], "Attributes to show; \"all\" (the default) for every one.");
const WIDTH: Arg = Arg::some(&["-w", "--width"], "Widths of the columns; one value is for all of them.");
const LAST: Arg = Arg::one(&["-n", "--last"], "Show this many (50); -1 for all.");
const FILE: Arg = Arg::one(&["file"], "JSON or YAML file that describes it.");
const LONG_ATTR: Arg = Arg::some(&["--attr"], "Attributes to show; \"all\" for every one.");
const DETAIL: Arg = Arg::flag(&["-d", "--detail"], "Show everything in a table.");
const PACKS: Arg = Arg::some(&["pack"], "Names of packs in the index, or URLs of git repositories.");

/// How an execution is shown.
const DISPLAY: &[Arg] = &[
    Arg::flag(&["--with-schema"], "Suggest an output schema made from the result."),
    Arg::flag(&["--raw"], "Don't show the tasks of a workflow."),
    Arg::flag(&["--show-tasks"], "Show the tasks of a workflow."),
    Arg::one(&["--depth"], "Levels of tasks to show, -1 for all."),
    WIDTH,
    LONG_ATTR,
    DETAIL,
    Arg::one(&["-k", "--key"], "Print only this key of the result; dots lead deeper."),
];
/// How an execution is started. StackStorm's client takes these wherever it shows executions, and so do we.
const START_LATER: &[Arg] = &[
    Arg::one(&["--delay"], "Milliseconds to wait before it is scheduled."),
    Arg::flag(&["--tail"], "Follow the output."),
    Arg::flag(&["--auto-dict"], "Turn items with colons of array parameters into objects."),
];
const NO_WAIT: Arg = Arg::flag(&["-a", "--async"], "Don't wait for the end.");
const START: &[Arg] = &[NO_WAIT, Arg::flag(&["-e", "--inherit-env"], "Pass our environment as the env parameter.")];
const RUN: &[Arg] = &[
    Arg::one(&["--trace-tag", "--trace_tag"], "A tag to find the trace by."),
    Arg::one(&["--trace-id"], "An existing trace to add it to."),
    Arg::one(&["-u", "--user"], "Run it as this user (administrators only)."),
    Arg::optional(&["ref-or-id"], "The action's reference (pack.name) or id."),
    Arg::any(&["parameters"], "key=value; the first word without = begins a command line for cmd."),
];

/// The groups that aren't resources, with what they are for.
const OTHERS: &[(&str, &str)] = &[
    ("run", "Run an action."),
    ("auth", "Get an access token."),
    ("login", "Get an access token and keep it."),
    ("whoami", "Show who is logged in."),
    ("workflow", "Help for authors of workflows."),
    ("service-registry", "Running services."),
];

/// The commands of the first level, in the order in which help lists them.
const ORDER: &[&str] = &[
    "run",
    "action",
    "action-alias",
    "auth",
    "login",
    "whoami",
    "apikey",
    "execution",
    "inquiry",
    "key",
    "pack",
    "policy",
    "policy-type",
    "rule",
    "webhook",
    "timer",
    "runner",
    "sensor",
    "trace",
    "trigger",
    "trigger-instance",
    "rule-enforcement",
    "workflow",
    "service-registry",
    "role",
    "role-assignment",
];

/// The options before the command.
pub fn global() -> Command {
    Command {
        path: "st2".to_owned(),
        about: "Command line of the automation platform.".to_owned(),
        args: vec![
            HELP,
            Arg::flag(&["--version"], "Show the version and exit."),
            Arg::one(&["--url"], "Base URL of all services (else ST2_BASE_URL)."),
            Arg::one(&["--auth-url"], "URL of the authentication service (else ST2_AUTH_URL)."),
            Arg::one(&["--api-url"], "URL of the API with its version (else ST2_API_URL)."),
            Arg::one(&["--stream-url"], "URL of the event stream (else ST2_STREAM_URL)."),
            Arg::one(&["--api-version"], "Version of the API (else ST2_API_VERSION, v1)."),
            Arg::one(&["--cacert"], "CA bundle for TLS; without it certificates aren't verified (else ST2_CACERT)."),
            Arg::one(&["--basic-auth"], "user:password for a proxy in front of the API."),
            Arg::one(&["--config-file"], "Configuration file instead of ~/.st2/config."),
            Arg::flag(&["--print-config"], "Show the configuration and exit."),
            Arg::flag(&["--skip-config"], "Ignore the configuration file."),
            Arg::flag(&["--debug"], "Show requests and answers."),
            Arg::one(&["--generate-completion"], "Print a completion script for this shell: bash, zsh or fish."),
            Arg::one(&["--generate-man"], "Write manual pages into this folder."),
        ],
        exclusive: &[],
    }
}

/// The help of the first level.
pub fn overview(columns: usize) -> String {
    let mut command = global();
    command.args.push(Arg::one(&["command"], ""));
    let help = command.help(columns);
    let (head, options) = help.split_once("\npositional arguments:\n").unwrap_or((&help, ""));
    let options = options.split_once("\n\n").map_or("", |(_, options)| options);
    let commands: String = ORDER.iter().map(|name| entry(name, about(name), columns)).collect();
    format!("{head}\ncommands:\n{commands}\n{options}")
}

fn about(name: &str) -> &'static str {
    let other = OTHERS.iter().find(|(other, _)| *other == name).map(|(_, about)| *about);
    other.or_else(|| find(name).map(|resource| resource.about)).unwrap_or_default()
}

/// The words that may follow `path` (none: the first level).
pub fn words(path: &[String]) -> Vec<&'static str> {
    let names = |children: Vec<(&'static str, Found)>| children.into_iter().map(|(name, _)| name).collect();
    match path {
        [] => ORDER.to_vec(),
        [group] if group == "service-registry" => vec!["group", "member"],
        [group] => names(children(group)),
        [group, kind] if group == "service-registry" => names(registry(kind)),
        _ => Vec::new(),
    }
}

/// Finds the command that the first words name, and how many words that took.
pub fn lookup(line: &[String]) -> Option<(Found, usize)> {
    let word = |at: usize| line.get(at).map(String::as_str);
    let pick = |children: Vec<(&'static str, Found)>, name: Option<&str>| {
        children.into_iter().find(|(child, _)| Some(*child) == name).map(|(_, found)| found)
    };
    let group = word(0)?;
    if let Some(found) = single(group) {
        return Some((found, 1));
    }
    if group == "service-registry" {
        return pick(registry(word(1)?), word(2)).map(|found| (found, 3));
    }
    pick(children(group), word(1)).map(|found| (found, 2))
}

/// The help of a group of commands.
pub fn group_help(path: &[String], columns: usize) -> String {
    let words = words(path);
    let name = path.join(" ");
    let usage = format!("usage: st2 {name} [-h] {{{}}} ...\n\n{}\n\ncommands:\n", words.join(","), about(&path[0]));
    let abouts = children(&path[0]);
    let lines = words.iter().map(|word| {
        let about = abouts.iter().find(|(name, _)| name == word).map_or("", |(_, found)| &found.command.about);
        entry(word, about, columns)
    });
    let help = entry(&HELP.names.join(", "), HELP.help, columns);
    usage + &lines.collect::<String>() + "\noptions:\n" + &help
}

fn make(path: &str, about: &str, task: Task, common: bool, args: &[&[Arg]]) -> Found {
    let mut all = vec![HELP];
    if common {
        all.extend([TOKEN, API_KEY, JSON, YAML]);
    }
    all.extend(args.iter().flat_map(|args| args.iter().copied()));
    let command = Command { path: format!("st2 {path}"), about: about.to_owned(), args: all, exclusive: &[] };
    Found { command, task }
}

fn single(name: &str) -> Option<Found> {
    let user = Arg::one(&["username"], "Name of the user.");
    let password = Arg::one(&["-p", "--password"], "Password; asked for if missing.");
    let ttl = Arg::one(&["-l", "--ttl"], "Seconds the token lives.");
    Some(match name {
        "run" => make("run", about(name), Task::Run, true, &[DISPLAY, START_LATER, START, RUN]),
        "auth" => {
            let only = Arg::flag(&["-t", "--only-token"], "Print nothing but the token.");
            make("auth", about(name), Task::Auth, false, &[&[JSON, YAML, password, ttl, only, user]])
        }
        "login" => {
            let keep = Arg::flag(&["-w", "--write-password"], "Keep the password in the configuration file.");
            make("login", about(name), Task::Login, false, &[&[JSON, YAML, password, ttl, keep, user]])
        }
        "whoami" => make("whoami", about(name), Task::WhoAmI, true, &[]),
        _ => return None,
    })
}

fn registry(kind: &str) -> Vec<(&'static str, Found)> {
    let group = Arg::one(&["--group-id"], "Only members of this group.");
    let (path, task, args): (_, _, &[Arg]) = match kind {
        "group" => ("service-registry group list", Task::RegistryGroups, &[LIST_ATTR, WIDTH]),
        "member" => ("service-registry member list", Task::RegistryMembers, &[LIST_ATTR, WIDTH, group]),
        _ => return Vec::new(),
    };
    vec![("list", make(path, "List them.", task, true, &[args]))]
}

/// The commands of a group.
fn children(group: &str) -> Vec<(&'static str, Found)> {
    let mut all = Vec::new();
    if let Some(resource) = find(group) {
        all.extend(resource.verbs.iter().map(|verb| table_command(resource, *verb)));
    }
    let mut add = |name: &'static str, about: &str, task: Task, args: &[&[Arg]]| {
        all.push((name, make(&format!("{group} {name}"), about, task, true, args)));
    };
    match group {
        "action" => action_commands(&mut add),
        "action-alias" => {
            let text = Arg::one(&["command"], "The chat message.");
            add("match", "Find the alias for a message.", Task::AliasMatch, &[&[LIST_ATTR, WIDTH, text]]);
            let user = Arg::one(&["-u", "--user"], "Run it as this user.");
            add("execute", "Run the alias for a message.", Task::AliasExecute, &[&[user, text]]);
            let about = "Run the alias for a message and show the answer as a chat would.";
            add("test", about, Task::AliasTest, &[DISPLAY, START_LATER, &[NO_WAIT, user, text]]);
        }
        "apikey" => {
            let user = Arg::one(&["-u", "--user"], "The user it stands for.");
            let metadata = Arg::one(&["-m", "--metadata"], "Remarks, as JSON.");
            let only = Arg::flag(&["-k", "--only-key"], "Print nothing but the key.");
            add("create", "Make a key.", Task::ApiKeyCreate, &[&[user, metadata, only]]);
            add("load", "Load keys from a file.", Task::ApiKeyLoad, &[&[WIDTH, FILE]]);
        }
        "execution" => execution_commands(&mut add),
        "inquiry" => {
            let response = Arg::one(&["-r", "--response"], "The answer, as JSON; asked for if missing.");
            add("respond", "Answer an inquiry.", Task::InquiryRespond, &[&[response, Arg::one(&["id"], "Id.")]]);
        }
        "key" => key_commands(&mut add),
        "pack" => pack_commands(&mut add),
        "sensor" => {
            let sensor = Arg::optional(&["ref"], "The sensor; all of them if none is given.");
            add("state", "Show where sensors run and how they are.", Task::SensorState, &[&[LIST_ATTR, WIDTH, sensor]]);
        }
        "trace" => trace_commands(&mut add),
        "trigger" => {
            add("getspecs", "List the triggers of a type.", Task::TriggerSpecs, &[&[Arg::optional(&["ref"], "Type.")]]);
        }
        "trigger-instance" => {
            add("re-emit", "Send an event again.", Task::ReEmit, &[&[Arg::one(&["id"], "Id.")]]);
        }
        "workflow" => {
            let file = Arg::one(&["--file"], "The workflow's file.");
            let action = Arg::one(&["--action"], "The workflow's action.");
            add("inspect", "Look for mistakes in a workflow.", Task::WorkflowInspect, &[&[file, action]]);
        }
        _ => {}
    }
    all
}

type Add<'a> = dyn FnMut(&'static str, &str, Task, &[&[Arg]]) + 'a;

fn action_commands(add: &mut Add) {
    add("execute", "Run an action.", Task::Run, &[DISPLAY, START_LATER, START, RUN]);
    let force = Arg::flag(&["-f", "--force"], "Overwrite without asking.");
    let source = Arg::one(&["source-ref-or-id"], "The action to copy.");
    let pack = Arg::one(&["dest-pack-name"], "The pack to copy to.");
    let name = Arg::one(&["dest-action-name"], "The copy's name.");
    add("clone", "Copy an action.", Task::ActionClone, &[&[force, source, pack, name]]);
}

fn execution_commands(add: &mut Add) {
    let exclude = Arg::flag(&["-x", "--exclude-result"], "Don't fetch the result.");
    let ids = Arg::some(&["id"], "Ids; last for the newest one.");
    let many = Arg::some(&["ids"], "Ids.");
    add("get", "Show executions.", Task::ExecutionGet, &[&[exclude], DISPLAY, START_LATER, &[ids]]);
    let tasks = Arg::any(&["--tasks"], "Tasks of the workflow to run again.");
    let keep = Arg::any(&["--no-reset"], "Tasks with items of which only failed items run again.");
    let id = Arg::optional(&["id"], "Id.");
    let parameters = Arg::any(&["parameters"], "Parameters to change.");
    add("re-run", "Run it again.", Task::ReRun, &[&[tasks, keep], DISPLAY, START_LATER, START, &[id, parameters]]);
    add("cancel", "Cancel executions.", Task::Cancel, &[&[many]]);
    add("pause", "Pause executions.", Task::Pause, &[DISPLAY, START_LATER, &[many]]);
    add("resume", "Resume executions.", Task::Resume, &[DISPLAY, START_LATER, &[many]]);
    let kind = Arg::one(&["--type"], "Only stdout or stderr.");
    let metadata = Arg::flag(&["--include-metadata"], "Show when and where each piece was written.");
    add("tail", "Follow the output.", Task::Tail, &[&[kind, metadata, Arg::optional(&["id"], "Id, or last.")]]);
}

fn key_commands(add: &mut Add) {
    let decrypt = Arg::flag(&["-d", "--decrypt"], "Show secrets in clear.");
    let scope = Arg::one(&["-s", "--scope"], "system or user.");
    let user = Arg::one(&["-u", "--user"], "Whose key (administrators only).");
    let name = Arg::one(&["name"], "Name of the key.");
    add("get", "Show keys.", Task::KeyGet, &[&[GET_ATTR, decrypt, scope, Arg::some(&["name"], "Names of keys.")]]);
    let encrypt = Arg::flag(&["-e", "--encrypt"], "Encrypt the value.");
    let encrypted = Arg::flag(&["--encrypted"], "The value is encrypted already.");
    let ttl = Arg::one(&["-l", "--ttl"], "Seconds the key lives.");
    let value = Arg::optional(&["value"], "The value; asked for if missing.");
    add("set", "Set a key.", Task::KeySet, &[&[encrypt, encrypted, ttl, scope, user, name, value]]);
    add("delete", "Delete a key.", Task::KeyDelete, &[&[scope, user, name]]);
    let convert = Arg::flag(&["-c", "--convert"], "Turn values that aren't texts into JSON.");
    add("load", "Load keys from a file.", Task::KeyLoad, &[&[convert, FILE]]);
    let prefix = Arg::one(&["-p", "--prefix"], "The prefix.");
    add("delete_by_prefix", "Delete keys that begin alike.", Task::KeyDeleteByPrefix, &[&[prefix]]);
}

fn pack_commands(add: &mut Add) {
    add("show", "Show a pack of the index.", Task::PackShow, &[&[Arg::one(&["pack"], "Name.")]]);
    let query = Arg::one(&["query"], "What to look for.");
    add("search", "Search the index.", Task::PackSearch, &[&[LIST_ATTR, WIDTH, query]]);
    let force = Arg::flag(&["--force"], "Install even if it doesn't fit this version.");
    let alone = Arg::flag(&["--skip-dependencies"], "Don't install what it depends on.");
    let display = &[WIDTH, LONG_ATTR, DETAIL];
    add("install", "Install packs.", Task::PackInstall, &[display, &[force, alone, PACKS]]);
    add("remove", "Remove packs.", Task::PackRemove, &[display, &[Arg::some(&["pack"], "Names of packs.")]]);
    let about = "Answer a pack's questions about its configuration.";
    add("config", about, Task::PackConfig, &[&[Arg::one(&["name"], "Name of the pack.")]]);
    let types = Arg::some(&["--types"], "Kinds of content.");
    add("register", "Read the content of packs.", Task::PackRegister, &[&[types, Arg::any(&["pack"], "Names.")]]);
}

fn trace_commands(add: &mut Add) {
    let args = [
        GET_ATTR,
        Arg::one(&["-e", "--execution"], "Only what led to this execution."),
        Arg::one(&["-r", "--rule"], "Only what led to this rule."),
        Arg::one(&["-g", "--trigger-instance"], "Only what led to this trigger instance."),
        Arg::flag(&["--show-executions"], "Only executions."),
        Arg::flag(&["--show-rules"], "Only rules."),
        Arg::flag(&["--show-trigger-instances"], "Only trigger instances."),
        Arg::flag(&["-n", "--hide-noop-triggers"], "Without trigger instances that caused nothing."),
        Arg::some(&["id"], "Ids."),
    ];
    add("get", "Show traces.", Task::TraceGet, &[&args]);
}

/// A command of the resource table.
fn table_command(resource: &'static Resource, verb: Verb) -> (&'static str, Found) {
    // a resource's own word for its id lives as long as the table
    let ids: &'static [&'static str] = std::slice::from_ref(&resource.id);
    let (name, about, args): (_, _, Vec<Arg>) = match verb {
        Verb::List => ("list", "List", list_args(resource)),
        Verb::Get => ("get", "Show", vec![GET_ATTR, Arg::some(ids, "Which.")]),
        Verb::Create => ("create", "Create", vec![FILE]),
        Verb::Update => ("update", "Update", vec![Arg::one(ids, "Which."), FILE]),
        Verb::Delete if resource.name == "action" => {
            let files = Arg::flag(&["-r", "--remove-files"], "Delete its files, too.");
            ("delete", "Delete", vec![files, Arg::one(ids, "Which.")])
        }
        Verb::Delete => ("delete", "Delete", vec![Arg::one(ids, "Which.")]),
        Verb::Enable => ("enable", "Enable", vec![Arg::one(ids, "Which.")]),
        Verb::Disable => ("disable", "Disable", vec![Arg::one(ids, "Which.")]),
        Verb::Clone => ("clone", "Copy", Vec::new()),
    };
    let noun = resource.nouns[usize::from(matches!(verb, Verb::List | Verb::Get))];
    let path = format!("{} {name}", resource.name);
    let task = Task::Resource(resource.name, verb);
    let mut found = make(&path, &format!("{about} {noun}."), task, true, &[&args]);
    if verb == Verb::List {
        found.command.exclusive = resource.exclusive;
    }
    (name, found)
}

fn list_args(resource: &'static Resource) -> Vec<Arg> {
    let mut args = vec![LIST_ATTR, WIDTH];
    if resource.last {
        args.push(LAST);
    }
    args.extend(resource.filters.iter().map(|filter| filter.arg));
    args.extend_from_slice(resource.more);
    args
}

/// A place in the tree: what may follow there.
#[derive(Debug)]
pub struct Node {
    /// The words that lead here; none for the root.
    pub path: Vec<&'static str>,
    pub about: String,
    /// Commands below, with what they are for; none for one that does something.
    pub words: Vec<(&'static str, String)>,
    /// Options and arguments.
    pub args: Vec<Arg>,
}

/// The whole tree, each place before those below it.
pub fn tree() -> Vec<Node> {
    let group =
        |path: Vec<&'static str>, about: &str, words| Node { path, about: about.to_owned(), words, args: vec![HELP] };
    let leaf = |path: Vec<&'static str>, found: Found| Node {
        path,
        about: found.command.about,
        words: Vec::new(),
        args: found.command.args,
    };
    let described = |children: &[(&'static str, Found)]| {
        children.iter().map(|(name, found)| (*name, found.command.about.clone())).collect()
    };
    let first = ORDER.iter().map(|name| (*name, about(name).to_owned())).collect();
    let global = global();
    let mut nodes = vec![Node { path: Vec::new(), about: global.about, words: first, args: global.args }];
    for name in ORDER {
        if let Some(found) = single(name) {
            nodes.push(leaf(vec![name], found));
        } else if *name == "service-registry" {
            let kinds = ["group", "member"].map(|kind| (kind, "Groups of services, and their members.".to_owned()));
            nodes.push(group(vec![name], about(name), kinds.to_vec()));
            for (kind, about) in kinds {
                let below = registry(kind);
                nodes.push(group(vec![name, kind], &about, described(&below)));
                nodes.extend(below.into_iter().map(|(child, found)| leaf(vec![name, kind, child], found)));
            }
        } else {
            let below = children(name);
            nodes.push(group(vec![name], about(name), described(&below)));
            nodes.extend(below.into_iter().map(|(child, found)| leaf(vec![name, child], found)));
        }
    }
    nodes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::RESOURCES;

    fn line(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn every_word_leads_somewhere() {
        for group in ORDER {
            assert!(!about(group).is_empty(), "{group}");
            assert!(single(group).is_some() || !words(&line(group)).is_empty(), "{group}");
        }
        assert_eq!(RESOURCES.iter().filter(|resource| !ORDER.contains(&resource.name)).count(), 0);
    }

    #[test]
    fn commands_are_found_by_their_words() {
        let (found, used) = lookup(&line("rule list -p x")).unwrap();
        assert_eq!((found.task, used), (Task::Resource("rule", Verb::List), 2));
        assert!(matches!(lookup(&line("service-registry member list")), Some((_, 3))));
        assert!(matches!(lookup(&line("run core.noop")), Some((_, 1))));
        assert!(lookup(&line("rule")).is_none() && lookup(&line("nope x")).is_none());
    }

    #[test]
    fn no_command_has_the_same_option_twice() {
        for group in ORDER.iter().filter(|group| single(group).is_none()) {
            for (name, found) in children(group) {
                let mut names: Vec<_> = found.command.args.iter().flat_map(|arg| arg.names).collect();
                let count = names.len();
                names.sort();
                names.dedup();
                assert_eq!(names.len(), count, "{group} {name}");
            }
        }
    }
}
