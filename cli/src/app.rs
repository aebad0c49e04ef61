//! From the words of the command line to the exit code.

use crate::args::{Matches, Stop};
use crate::commands::{self, Found, Task};
use crate::config::Settings;
use crate::context::{Context, put, say};
use crate::error::{Error, Result};
use crate::http::Client;
use crate::output::{Format, Style, Zone};
use crate::resources::find;
use crate::{aliases, auth, completion, executions, keys, man, misc, packs, session, tail, trace, verbs};

/// Carries a command line out; returns the exit code.
pub async fn main(words: &[String]) -> u8 {
    match run(words).await {
        Ok(()) => 0,
        Err(Error::Exit(code)) => code,
        Err(Error::Operation(text)) => {
            say(&format!("ERROR: {text}"));
            2
        }
        Err(error) => {
            say(&format!("ERROR: {error}\n"));
            1
        }
    }
}

fn columns() -> usize {
    Style::from_environment(Format::Human, Zone::UTC).columns
}

/// Wrong usage: the usage and the mistake on stderr, exit code 2.
fn wrong(command: &crate::args::Command, text: &str) -> Error {
    eprintln!("{}\n{}: error: {text}", command.usage(columns()), command.path);
    Error::Exit(2)
}

async fn run(words: &[String]) -> Result<()> {
    let global = commands::global();
    // options with a value before the command: everything up to the first free word
    let mut split = 0;
    while let Some(word) = words.get(split).filter(|word| word.starts_with('-')) {
        let valued = global
            .args
            .iter()
            .any(|arg| arg.count != crate::args::Count::Flag && arg.names.iter().any(|name| name == word));
        split += 1 + usize::from(valued);
    }
    let (before, rest) = words.split_at(split.min(words.len()));
    let options = match global.parse(before) {
        Ok(options) => options,
        Err(Stop::Help) => {
            put(&commands::overview(columns()));
            return Ok(());
        }
        Err(Stop::Wrong(text)) => return Err(wrong(&global, &text)),
    };
    if options.has("version") {
        say(&format!("st2 {} (squall)", env!("CARGO_PKG_VERSION")));
        return Ok(());
    }
    if let Some(shell) = options.one("generate-completion") {
        let Some(script) = completion::script(shell) else {
            let known = completion::SHELLS.join(", ");
            return Err(wrong(&global, &format!("no completion for \"{shell}\": choose from {known}")));
        };
        put(&script);
        return Ok(());
    }
    if let Some(folder) = options.one("generate-man") {
        let count = man::write(std::path::Path::new(folder))?;
        say(&format!("{count} pages written to {folder}"));
        return Ok(());
    }
    let settings = Settings::load(&options)?;
    if options.has("print-config") {
        put(&settings.print());
        return Err(Error::Exit(3));
    }
    if rest.is_empty() {
        eprint!("{}", commands::overview(columns()));
        return Err(Error::Exit(2));
    }
    match commands::lookup(rest) {
        Some((found, used)) => dispatch(settings, found, &rest[used..]).await,
        None => Err(help_group(&global, rest)),
    }
}

/// The words name no command: shows what could follow.
fn help_group(global: &crate::args::Command, rest: &[String]) -> Error {
    let asked = rest.iter().any(|word| word == "-h" || word == "--help");
    let mut path: Vec<String> = Vec::new();
    for word in rest.iter().take_while(|word| !word.starts_with('-')) {
        let words = commands::words(&path);
        if !words.contains(&word.as_str()) {
            let known: Vec<String> = words.iter().map(|name| format!("'{name}'")).collect();
            let here = if path.is_empty() { "parser".to_owned() } else { format!("{{{}}}", words.join(",")) };
            let known = known.join(", ");
            return wrong(global, &format!("argument {here}: invalid choice: '{word}' (choose from {known})"));
        }
        path.push(word.clone());
    }
    let help = commands::group_help(&path, columns());
    if asked {
        put(&help);
        return Error::Exit(0);
    }
    eprint!("{help}");
    Error::Exit(2)
}

async fn dispatch(settings: Settings, found: Found, words: &[String]) -> Result<()> {
    let Found { command, task } = found;
    let for_action = matches!(task, Task::Run | Task::ReRun);
    let matches = match command.parse(words) {
        Ok(matches) => matches,
        Err(Stop::Help) => {
            let reference = words.iter().find(|word| !word.starts_with('-'));
            if let Some(reference) = reference.filter(|_| task == Task::Run && for_action) {
                let context = context(settings, Matches::default());
                auth::prepare(&context.client, &context.matches).await?;
                return executions::action_help(&context, reference).await;
            }
            put(&command.help(columns()));
            return Ok(());
        }
        Err(Stop::Wrong(text)) => return Err(wrong(&command, &text)),
    };
    if task == Task::Run && !matches.has("ref-or-id") {
        return Err(wrong(&command, "Missing action reference or id"));
    }
    let context = context(settings, matches);
    if !matches!(task, Task::Auth | Task::Login) {
        auth::prepare(&context.client, &context.matches).await?;
    }
    // the futures of the larger commands would make this one's state needlessly big
    Box::pin(perform(&context, task)).await
}

fn context(settings: Settings, matches: Matches) -> Context {
    let format = match (matches.has("json"), matches.has("yaml")) {
        (true, _) => Format::Json,
        (_, true) => Format::Yaml,
        _ => Format::Human,
    };
    let style = Style::from_environment(format, settings.zone);
    Context { client: Client::new(settings), matches, style }
}

async fn perform(context: &Context, task: Task) -> Result<()> {
    match task {
        Task::Resource(name, verb) => match find(name) {
            Some(resource) => verbs::run(context, resource, verb).await,
            None => Ok(()),
        },
        Task::Run => executions::run(context).await,
        Task::ReRun => executions::re_run(context).await,
        Task::ExecutionGet => executions::get(context).await,
        Task::Cancel => executions::cancel(context).await,
        Task::Pause => executions::put_status(context, "pausing").await,
        Task::Resume => executions::put_status(context, "resuming").await,
        Task::Tail => tail::run(context).await,
        Task::Auth => session::auth(context).await,
        Task::Login => session::login(context).await,
        Task::WhoAmI => session::whoami(context).await,
        Task::ActionClone => misc::clone_action(context).await,
        Task::AliasMatch => aliases::matching(context).await,
        Task::AliasExecute => aliases::execute(context).await,
        Task::AliasTest => aliases::test(context).await,
        Task::PackConfig => packs::configure(context).await,
        Task::ApiKeyCreate => misc::create_api_key(context).await,
        Task::ApiKeyLoad => misc::load_api_keys(context).await,
        Task::InquiryRespond => misc::respond(context).await,
        Task::KeyGet => keys::get(context).await,
        Task::KeySet => keys::set(context).await,
        Task::KeyDelete => keys::delete(context).await,
        Task::KeyLoad => keys::load(context).await,
        Task::KeyDeleteByPrefix => keys::delete_by_prefix(context).await,
        Task::PackShow => packs::show_index(context).await,
        Task::PackSearch => packs::search(context).await,
        Task::PackInstall => packs::install(context).await,
        Task::PackRemove => packs::remove(context).await,
        Task::PackRegister => packs::register(context).await,
        Task::SensorState => misc::sensor_state(context).await,
        Task::ReEmit => misc::re_emit(context).await,
        Task::TriggerSpecs => misc::trigger_specs(context).await,
        Task::TraceGet => trace::get(context).await,
        Task::WorkflowInspect => misc::inspect(context).await,
        Task::RegistryGroups => misc::registry_groups(context).await,
        Task::RegistryMembers => misc::registry_members(context).await,
    }
}
