//! The five requests of a remote shell in WS-Management, and what the answers say.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::powershell::LocalName;

const SHELL: &str = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell";
const TRANSFER: &str = "http://schemas.xmlsoap.org/ws/2004/09/transfer";

/// The fault of a host that had no output to tell within the time of the request.
const OPERATION_TIMEOUT: &str = "2150858793";

/// What is asked of the host.
#[derive(Debug)]
pub enum Ask<'a> {
    Create {
        cwd: Option<&'a str>,
        environment: &'a [(String, String)],
    },
    Command {
        shell: &'a str,
        line: &'a str,
    },
    Receive {
        shell: &'a str,
        command: &'a str,
    },
    /// Ends the command.
    Terminate {
        shell: &'a str,
        command: &'a str,
    },
    Delete {
        shell: &'a str,
    },
}

/// The addresses and times that each request carries.
#[derive(Debug)]
pub struct Envelope<'a> {
    pub endpoint: &'a str,
    pub message: uuid::Uuid,
    /// Seconds that the host may wait for output.
    pub wait: u64,
}

/// Output and state of a command.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Received {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Set once the command has ended.
    pub exit: Option<i32>,
}

/// Why an answer is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Nothing new yet: ask again.
    #[error("the operation timed out")]
    NothingYet,
    #[error("{0}")]
    Fault(String),
    #[error("the host's answer is not what WS-Management says: {0}")]
    Unclear(&'static str),
}

impl Envelope<'_> {
    pub fn text(&self, ask: &Ask<'_>) -> String {
        let (action, shell, options, body) = parts(ask);
        let selector = shell.map_or_else(String::new, |shell| {
            format!("<w:SelectorSet><w:Selector Name=\"ShellId\">{}</w:Selector></w:SelectorSet>", escape(shell))
        });
        let options: String =
            options.iter().map(|(name, value)| format!("<w:Option Name=\"{name}\">{value}</w:Option>")).collect();
        let options = if options.is_empty() { options } else { format!("<w:OptionSet>{options}</w:OptionSet>") };
        format!(
            "<?xml version=\"1.0\" encoding=\"utf-8\"?><env:Envelope \
             xmlns:env=\"http://www.w3.org/2003/05/soap-envelope\" \
             xmlns:a=\"http://schemas.xmlsoap.org/ws/2004/08/addressing\" \
             xmlns:w=\"http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd\" \
             xmlns:p=\"http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd\" xmlns:rsp=\"{SHELL}\">\
             <env:Header><a:To>{}</a:To><a:ReplyTo><a:Address env:mustUnderstand=\"true\">\
             http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous</a:Address></a:ReplyTo>\
             <w:MaxEnvelopeSize env:mustUnderstand=\"true\">153600</w:MaxEnvelopeSize>\
             <a:MessageID>uuid:{}</a:MessageID><w:Locale env:mustUnderstand=\"false\" xml:lang=\"en-US\"/>\
             <p:DataLocale env:mustUnderstand=\"false\" xml:lang=\"en-US\"/>\
             <w:OperationTimeout>PT{}S</w:OperationTimeout>\
             <w:ResourceURI env:mustUnderstand=\"true\">{SHELL}/cmd</w:ResourceURI>\
             <a:Action env:mustUnderstand=\"true\">{action}</a:Action>{selector}{options}</env:Header>\
             <env:Body>{body}</env:Body></env:Envelope>",
            escape(self.endpoint),
            self.message,
            self.wait
        )
    }
}

type Options = &'static [(&'static str, &'static str)];

/// Action, shell, options and body.
fn parts<'a>(ask: &Ask<'a>) -> (String, Option<&'a str>, Options, String) {
    match ask {
        Ask::Create { cwd, environment } => (
            format!("{TRANSFER}/Create"),
            None,
            &[("WINRS_NOPROFILE", "FALSE"), ("WINRS_CODEPAGE", "65001")],
            create(*cwd, environment),
        ),
        Ask::Command { shell, line } => (
            format!("{SHELL}/Command"),
            Some(shell),
            &[("WINRS_CONSOLEMODE_STDIN", "TRUE"), ("WINRS_SKIP_CMD_SHELL", "FALSE")],
            format!("<rsp:CommandLine><rsp:Command>{}</rsp:Command></rsp:CommandLine>", escape(line)),
        ),
        Ask::Receive { shell, command } => (
            format!("{SHELL}/Receive"),
            Some(shell),
            &[],
            format!(
                "<rsp:Receive><rsp:DesiredStream CommandId=\"{}\">stdout stderr</rsp:DesiredStream></rsp:Receive>",
                escape(command)
            ),
        ),
        Ask::Terminate { shell, command } => (
            format!("{SHELL}/Signal"),
            Some(shell),
            &[],
            format!(
                "<rsp:Signal CommandId=\"{}\"><rsp:Code>{SHELL}/signal/terminate</rsp:Code></rsp:Signal>",
                escape(command)
            ),
        ),
        Ask::Delete { shell } => (format!("{TRANSFER}/Delete"), Some(shell), &[], String::new()),
    }
}

fn create(cwd: Option<&str>, environment: &[(String, String)]) -> String {
    let cwd =
        cwd.map_or_else(String::new, |cwd| format!("<rsp:WorkingDirectory>{}</rsp:WorkingDirectory>", escape(cwd)));
    let variables: String = environment
        .iter()
        .map(|(name, value)| format!("<rsp:Variable Name=\"{}\">{}</rsp:Variable>", escape(name), escape(value)))
        .collect();
    let variables =
        if variables.is_empty() { variables } else { format!("<rsp:Environment>{variables}</rsp:Environment>") };
    format!(
        "<rsp:Shell>{cwd}{variables}<rsp:InputStreams>stdin</rsp:InputStreams>\
         <rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
    )
}

/// For texts and attributes; characters that XML has no place for are left out.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' | '\r' | '\t' => escaped.push_str(&format!("&#{};", u32::from(c))),
            c if c < ' ' || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// The id of the new shell.
pub fn shell_id(answer: &str) -> Result<String, AnswerError> {
    let document = parse(answer)?;
    let selector = document
        .descendants()
        .find(|node| node.has_tag_name_local("Selector") && node.attribute("Name") == Some("ShellId"));
    let id = selector.or_else(|| document.descendants().find(|node| node.has_tag_name_local("ShellId")));
    id.and_then(|node| node.text()).map(str::to_owned).ok_or(AnswerError::Unclear("a shell without an id"))
}

/// The id of the new command.
pub fn command_id(answer: &str) -> Result<String, AnswerError> {
    let document = parse(answer)?;
    let id = document.descendants().find(|node| node.has_tag_name_local("CommandId")).and_then(|node| node.text());
    id.map(str::to_owned).ok_or(AnswerError::Unclear("a command without an id"))
}

pub fn received(answer: &str) -> Result<Received, AnswerError> {
    let document = parse(answer)?;
    let mut received = Received::default();
    for node in document.descendants() {
        if node.has_tag_name_local("Stream") {
            let text: String = node.text().unwrap_or_default().split_whitespace().collect();
            let bytes = STANDARD.decode(text).map_err(|_| AnswerError::Unclear("output that is not base64"))?;
            match node.attribute("Name") {
                Some("stdout") => received.stdout.extend(bytes),
                Some("stderr") => received.stderr.extend(bytes),
                _ => {}
            }
        }
        if node.has_tag_name_local("CommandState")
            && node.attribute("State").is_some_and(|state| state.ends_with("/Done"))
        {
            let code = node.descendants().find(|node| node.has_tag_name_local("ExitCode"));
            let code = code.and_then(|node| node.text()).and_then(|text| text.trim().parse::<i64>().ok());
            // Windows' codes are unsigned; what doesn't fit is shown as Windows' tools do, negative.
            received.exit = Some(code.map_or(0, |code| code as i32));
        }
    }
    Ok(received)
}

/// Refuses faults.
pub fn check(answer: &str) -> Result<(), AnswerError> {
    parse(answer).map(|_| ())
}

fn parse(answer: &str) -> Result<roxmltree::Document<'_>, AnswerError> {
    let document = roxmltree::Document::parse(answer).map_err(|_| AnswerError::Unclear("no XML"))?;
    let Some(fault) = document.descendants().find(|node| node.has_tag_name_local("Fault")) else {
        return Ok(document);
    };
    let detail = fault.descendants().find(|node| node.has_tag_name_local("WSManFault"));
    if detail.is_some_and(|node| node.attribute("Code") == Some(OPERATION_TIMEOUT)) {
        return Err(AnswerError::NothingYet);
    }
    let reason = fault
        .descendants()
        .filter(|node| node.has_tag_name_local("Text") || node.has_tag_name_local("Message"))
        .flat_map(|node| node.descendants())
        .filter(roxmltree::Node::is_text)
        .filter_map(|node| node.text())
        .map(str::trim)
        .find(|text| !text.is_empty());
    let code =
        detail.and_then(|node| node.attribute("Code")).map_or_else(String::new, |code| format!(" (code {code})"));
    Err(AnswerError::Fault(format!("{}{code}", reason.unwrap_or("the host refused the request"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_xml_and_keeps_what_it_is_given() {
        let hostile = "a & <b> \"c\"\n";
        let environment = [("N".to_owned(), hostile.to_owned())];
        for ask in [
            Ask::Create { cwd: Some(hostile), environment: &environment },
            Ask::Command { shell: hostile, line: hostile },
            Ask::Receive { shell: hostile, command: hostile },
            Ask::Terminate { shell: hostile, command: hostile },
            Ask::Delete { shell: hostile },
        ] {
            let text = Envelope { endpoint: "https://h:5986/wsman", message: uuid::Uuid::nil(), wait: 20 }.text(&ask);
            let document = roxmltree::Document::parse(&text).unwrap();
            assert!(document.descendants().any(|node| node.text() == Some(hostile)), "{text}");
        }
    }

    #[test]
    fn answers_are_read() {
        let answer = "<e:Envelope xmlns:e='e' xmlns:r='r'><e:Body><r:ReceiveResponse>\
            <r:Stream Name='stdout' CommandId='c'>aGVs\nbG8=</r:Stream><r:Stream Name='stderr' CommandId='c'>IQ==</r:Stream>\
            <r:CommandState CommandId='c' State='x/CommandState/Done'><r:ExitCode>4294967295</r:ExitCode></r:CommandState>\
            </r:ReceiveResponse></e:Body></e:Envelope>";
        let wanted = Received { stdout: b"hello".to_vec(), stderr: b"!".to_vec(), exit: Some(-1) };
        assert_eq!(received(answer).unwrap(), wanted);
        let fault = |code: &str| {
            format!(
                "<s:Envelope xmlns:s='s'><s:Body><s:Fault><s:Reason><s:Text>no</s:Text></s:Reason><s:Detail>\
             <f:WSManFault xmlns:f='f' Code='{code}'/></s:Detail></s:Fault></s:Body></s:Envelope>"
            )
        };
        assert_eq!(received(&fault(OPERATION_TIMEOUT)), Err(AnswerError::NothingYet));
        assert_eq!(check(&fault("5")), Err(AnswerError::Fault("no (code 5)".to_owned())));
        assert!(check("<x").is_err());
    }
}
