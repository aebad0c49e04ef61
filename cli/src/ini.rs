//! INI files, as far as `~/.st2/config` needs them. Rewriting keeps comments and unknown settings.

/// The settings of a file: `(section, option, value)`, later ones win.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Ini {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Section(String),
    Setting(String, String),
    Other(String),
}

impl Ini {
    /// Reads a file's text. A line that is no section, setting or comment is an error that names it.
    pub fn parse(text: &str) -> Result<Ini, String> {
        let mut lines = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim();
            if trimmed.is_empty() || trimmed.starts_with(['#', ';']) {
                lines.push(Line::Other(line.to_owned()));
            } else if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                lines.push(Line::Section(name.trim().to_owned()));
            } else if let Some((name, value)) = trimmed.split_once(['=', ':']) {
                lines.push(Line::Setting(name.trim().to_lowercase(), value.trim().to_owned()));
            } else {
                return Err(format!("line {}: neither a section nor a setting: {trimmed}", index + 1));
            }
        }
        Ok(Ini { lines })
    }

    /// A setting's value; empty ones count as absent.
    pub fn get(&self, section: &str, option: &str) -> Option<&str> {
        let mut current = "";
        let mut found = None;
        for line in &self.lines {
            match line {
                Line::Section(name) => current = name,
                Line::Setting(name, value) if current == section && name == option => found = Some(value.as_str()),
                _ => {}
            }
        }
        found.filter(|value| !value.is_empty())
    }

    /// Sets or (with `None`) removes a setting.
    pub fn set(&mut self, section: &str, option: &str, value: Option<&str>) {
        let mut current = String::new();
        self.lines.retain(|line| {
            if let Line::Section(name) = line {
                current.clone_from(name);
            }
            !(current == section && matches!(line, Line::Setting(name, _) if name == option))
        });
        let Some(value) = value else { return };
        let setting = Line::Setting(option.to_owned(), value.to_owned());
        match self.lines.iter().position(|line| matches!(line, Line::Section(name) if name == section)) {
            Some(at) => self.lines.insert(at + 1, setting),
            None => self.lines.extend([Line::Section(section.to_owned()), setting]),
        }
    }

    /// The file's text.
    pub fn text(&self) -> String {
        let lines = self.lines.iter().map(|line| match line {
            Line::Section(name) => format!("[{name}]\n"),
            Line::Setting(name, value) => format!("{name} = {value}\n"),
            Line::Other(text) => format!("{text}\n"),
        });
        lines.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_read_and_rewritten() {
        let mut ini =
            Ini::parse("# mine\n[credentials]\nusername = a\nPassword=b = c\n[cli]\ntimezone: UTC\n").unwrap();
        assert_eq!(ini.get("credentials", "password"), Some("b = c"));
        assert_eq!(ini.get("cli", "timezone"), Some("UTC"));
        assert_eq!(ini.get("cli", "username"), None);
        ini.set("credentials", "username", Some("z"));
        ini.set("credentials", "password", None);
        ini.set("api", "url", Some("u"));
        assert_eq!(ini.text(), "# mine\n[credentials]\nusername = z\n[cli]\ntimezone = UTC\n[api]\nurl = u\n");
        assert!(Ini::parse("junk").unwrap_err().starts_with("line 1"));
    }
}
